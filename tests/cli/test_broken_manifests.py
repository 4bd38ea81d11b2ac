"""A manifest on main that is broken or gone: every verb that tells of main answers in words, and of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgetrain.cli import failure
from edgetrain.cli.app import app
from tests.cli.test_hostile_records import RECORDS, VERBS, git
from tests.core.case import Case

RUN = "mean-" + min(path for path in RECORDS if "/runs/" in path)[-19:-5]
DATA = next(
    str(one["digest"])
    for path, data in RECORDS.items()
    if path.startswith("experiments/mean/runs/")
    for one in data["inputs"].values()
)
MORE = (
    "audit --package numpy", f"audit --data {DATA}", "audit --commit {head}", "verify mean", "verify mean@1",
    "models searched", f"compare {RUN} mean@1", f"logs {RUN}", f"cancel {RUN}", "runs --format json",
    "gc --format json", "reproduce mean@1", "drift", f"propose {RUN}", f"retry {RUN} --reason again",
)  # fmt: skip
MANIFESTS = (
    "edgetrain.yaml",
    "compute/runner.yaml",
    "experiments/mean/experiment.yaml",
    "experiments/mean/train.py",
    "experiments/mean/requirements.lock",
    "models/mean/model.yaml",
    "models/mean/versions/1.yaml",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = Case(tmp_path_factory.mktemp("broken") / "repository")
    case.root.mkdir()
    case.make().play("@ main\n@ git dana@example.org checkout --quiet main\n")
    git(case.root, "branch", "sound")
    return case.root


def call(root: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = app.main(["-C", str(root), *verb.split()], standalone_mode=False)
    told = capsys.readouterr()
    return code, told.out, told.err


def spoil(root: Path, path: str, how: str) -> None:
    """Have main as it was, with one file more that is broken or gone."""
    git(root, "reset", "--quiet", "--hard", "sound")
    if how == "broken":
        (root / path).write_bytes(b"x: [\xff\n")
    else:
        (root / path).unlink()
    git(root, "commit", "--quiet", "--all", "--message", f"{how}: {path}")


@pytest.mark.parametrize("how", ["broken", "gone"])
@pytest.mark.parametrize("path", MANIFESTS)
def test_every_verb_answers_in_words(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str, how: str
) -> None:
    def unexpected(error: Exception, session: Any) -> int:
        raise error

    monkeypatch.setattr(failure, "_unexpected", unexpected)
    spoil(root, path, how)
    head = (root / ".git/refs/heads/main").read_text().strip()
    for verb in (*VERBS, *MORE):
        code, out, err = call(root, verb.format(head=head), capsys)
        assert code in (0, 1, 2, 3), verb
        assert out or err, verb
        told = ("fix", "problem", "not hold", "waive")
        assert code == 0 or any(word in out + err for word in told), (verb, out)


def test_a_model_whose_manifest_is_broken_is_told_of_with_what_is_known(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(root, "models/mean/model.yaml", "broken")
    for verb in ("models", "models mean"):
        code, out, _ = call(root, verb, capsys)
        assert code == 0
        assert "models/mean/model.yaml; see edgetrain validate" in out
        assert "@1" in out and "@2" in out
    (model,) = json.loads(call(root, "models mean --format json", capsys)[1])["models"]
    assert model["unread"] == ["models/mean/model.yaml"]
    assert call(root, "log mean", capsys)[0] == 0
    for verb in ("audit mean@1", "verify mean@1", "compare mean@1 mean@2"):
        code, _, err = call(root, verb, capsys)
        assert (code, "models/mean/model.yaml has problems" in err, "edgetrain validate" in err) == (2, True, True)
    _, out, _ = call(root, f"audit --data {DATA}", capsys)
    assert "what stands in files with problems (models/mean/model.yaml): edgetrain validate" in out

    spoil(root, "models/mean/model.yaml", "gone")
    assert call(root, "log mean", capsys)[0] == 0
    assert "models/mean/model.yaml is gone, though the model has versions" in call(root, "audit mean@1", capsys)[2]
    assert "no model 'meann'; did you mean \"mean\"?" in call(root, "models meann", capsys)[2]

    spoil(root, "models/mean/versions/1.yaml", "broken")
    assert "models/mean/versions/1.yaml has problems" in call(root, "audit mean@1", capsys)[2]
    assert "models/mean/versions/1.yaml; see edgetrain validate" in call(root, "models", capsys)[1]
