"""Clones that lack something: a shallow one, and a partial one whose remote answers, is gone, or can't be reached.

Each verb says what can't be told here and what to do, or answers as a full clone does; none takes what is not
here for something that never was.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgetrain.cli.app import app
from edgetrain.core.errors import RepositoryError
from edgetrain.repo.git import Git
from tests.apply.site import SmallSite
from tests.cli.command import Ended

VERBS = (
    ("validate",),
    ("plan",),
    ("models",),
    ("log", "mean"),
    ("runs",),
    ("verify",),
    ("verify", "--deep"),
    ("drift",),
    ("audit", "mean@1"),
    ("audit", "--since", "2020-01-01"),
    ("compare", "mean@1", "mean@2"),
    ("doctor", "--quick"),
)
FULL = "make a full one: git clone URL"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SmallSite:
    """Two versions, and two moves of a channel."""
    made = SmallSite(tmp_path_factory.mktemp("cut") / "a site").make()
    made.release()
    made.edit("experiments/mean/train.py", '"trained on"', '"was trained on"')
    made.push("Say more")
    made.apply()
    made.merge_proposal(2, production=2)
    made.apply()
    for setting in ("allowFilter", "allowAnySHA1InWant"):
        made._git("--git-dir", str(made.remote), "config", f"uploadpack.{setting}", "true")
    return made


def cloned(site: SmallSite, into: Path, *options: str) -> Path:
    site._git("clone", "--quiet", *options, site.remote.as_uri(), str(into))
    return into


def edgetrain(*arguments: str, cwd: Path) -> Ended:
    """In this process: they are many."""
    ended = CliRunner().invoke(app, ["-C", str(cwd), *arguments])
    return Ended(ended.exit_code, ended.stdout, ended.stderr)


def walk(clone: Path) -> dict[str, Ended]:
    """What each verb says there."""
    found = {" ".join(verb): edgetrain(*verb, cwd=clone) for verb in VERBS}
    for verb, ended in found.items():
        assert "Traceback" not in ended.err and "fault of edgetrain" not in ended.err, (verb, ended.err)
    return found


def test_a_shallow_clone_says_what_it_can_not_tell(site: SmallSite, tmp_path: Path) -> None:
    found = walk(cloned(site, tmp_path / "shallow", "--depth", "1"))
    assert {verb: ended.code for verb, ended in found.items() if ended.code} == {}
    for verb in found.keys() - {"plan", "models", "drift", "compare mean@1 mean@2"}:
        assert "git fetch --unshallow" in found[verb].out + found[verb].err, verb
    assert "11 things can't be" in found["verify"].out and "FAIL" not in found["verify --deep"].out
    assert edgetrain("validate", "--require-history", cwd=tmp_path / "shallow").code == 1


def test_a_partial_clone_answers_as_a_full_one_while_its_remote_does(site: SmallSite, tmp_path: Path) -> None:
    found = walk(cloned(site, tmp_path / "partial", "--filter=blob:none"))
    assert {verb: ended.code for verb, ended in found.items() if ended.code} == {}
    assert "it holds (" in found["verify --deep"].out
    assert "WARN" not in found["verify"].out + found["verify --deep"].out


def test_a_partial_clone_whose_remote_is_gone_takes_nothing_for_forged(site: SmallSite, tmp_path: Path) -> None:
    clone = cloned(site, tmp_path / "partial", "--filter=blob:none")
    away = cloned(site, tmp_path / "away", "--filter=blob:none")
    site._git("-C", str(clone), "remote", "remove", "origin")
    found = walk(clone)
    # What git can't read is damage to it, and that alone does not hold.
    assert {verb: ended.code for verb, ended in found.items() if ended.code} == {"verify --deep": 1}
    assert [line.split()[1] for line in found["verify --deep"].out.splitlines() if "FAIL" in line] == ["objects"]
    assert found["verify"].out.count("(ObjectsMissing)") == 3 and FULL in found["verify"].out
    site._git("-C", str(away), "remote", "set-url", "origin", (tmp_path / "nowhere.git").as_uri())
    for verb in ("verify", "apply"):
        ended = edgetrain(verb, cwd=away)
        assert (ended.code, ended.out) == (3, "")
        assert (FULL if verb == "verify" else "RemoteUnreachable") in ended.err


def test_what_a_clone_lacks_is_not_what_a_commit_never_had(site: SmallSite, tmp_path: Path) -> None:
    clone = cloned(site, tmp_path / "partial", "--filter=blob:none")
    site._git("-C", str(clone), "remote", "remove", "origin")
    git = Git(clone)
    first = git.text("rev-list", "--max-parents=0", "HEAD")
    assert git.show(first, "models/mean/versions/1.yaml") is None
    with pytest.raises(RepositoryError, match="no object for models/mean/model") as told:
        git.show(first, "models/mean/model.yaml")
    assert (told.value.reason, FULL in told.value.fix) == ("ObjectMissing", True)
