"""`validate FILES`: what a hook checks at each commit: the files, what they name, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.command import edgetrain, environment
from tests.cli.conftest import git

ROOT = Path(__file__).resolve().parents[2]
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


@pytest.fixture
def two(repository: Path) -> Path:
    """A checkout with two experiments, `one` and `two`, each with a model of its name."""
    for name in ("one", "two"):
        assert edgetrain("new", "experiment", name, cwd=repository).code == 0
    return repository


def spoil(root: Path, name: str, old: str, new: str) -> str:
    path = f"experiments/{name}/experiment.yaml"
    text = (root / path).read_text()
    assert old in text
    (root / path).write_text(text.replace(old, new))
    return path


def test_files_without_a_problem(two: Path) -> None:
    for path in (
        "edgetrain.yaml",
        "compute/local.yaml",
        "experiments/one/experiment.yaml",
        "models/one/model.yaml",
    ):
        ended = edgetrain("validate", path, cwd=two)
        assert (ended.code, ended.err) == (0, ""), ended.out
        assert "No problems." in ended.out


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("timeout: 10m", "timeout: soon", "M2"),
        ('model: "one"', 'model: "won"', "R3"),
        ('compute: "local"', 'compute: "gpu"', "R3"),
        ("seed: 42", "seed: 42\n  seeed: 43", "M2"),
        ("spec:", "spec: [", "Y1"),
    ],
)
def test_problems_of_the_files_alone(two: Path, old: str, new: str, code: str) -> None:
    bad = spoil(two, "one", old, new)
    spoil(two, "two", "seed: 42", "seed: none")
    ended = edgetrain("validate", bad, "--format", "json", cwd=two)
    assert ended.code == 1
    found = ended.json["problems"]
    assert {problem["path"] for problem in found} == {bad}
    assert all(problem["code"].startswith(code) for problem in found)
    assert {problem["path"] for problem in edgetrain("validate", "--format", "json", cwd=two).json["problems"]} > {
        bad
    }


def test_what_is_left_out_is_not_called_unknown(two: Path) -> None:
    spoil(two, "one", 'model: "one"', 'model: "two"')
    assert edgetrain("validate", "experiments/one/experiment.yaml", cwd=two).code == 0
    (two / "models/two/model.yaml").unlink()
    ended = edgetrain("validate", "experiments/one/experiment.yaml", cwd=two)
    assert ended.code == 1
    assert 'unknown model "two"' in ended.out


def test_a_file_beside_a_manifest_has_the_manifest_checked(two: Path) -> None:
    spoil(two, "one", "seed: 42", "seed: none")
    assert edgetrain("validate", "experiments/one/train.py", cwd=two).code == 1
    assert edgetrain("validate", "experiments/two/train.py", cwd=two).code == 0


def test_files_that_are_gone_or_no_business_of_ours(two: Path) -> None:
    assert edgetrain("validate", "experiments/gone/experiment.yaml", "README.md", ".gitignore", cwd=two).code == 0
    (two / "experiments/notes.txt").write_text("x")
    ended = edgetrain("validate", "experiments/notes.txt", cwd=two)
    assert ended.code == 1
    assert "no manifest and no record" in ended.out


def test_paths_count_from_where_one_stands(two: Path, tmp_path: Path) -> None:
    spoil(two, "one", "seed: 42", "seed: none")
    assert edgetrain("validate", "experiment.yaml", cwd=two / "experiments/one").code == 1
    assert edgetrain("-C", two, "validate", "experiments/one/experiment.yaml", cwd=tmp_path).code == 1
    outside = edgetrain("validate", "../elsewhere.yaml", cwd=two)
    assert outside.code == 2
    assert "reason: OutsideRepository" in outside.err


def test_options_on_history_need_the_whole(two: Path) -> None:
    ended = edgetrain("validate", "--require-history", "edgetrain.yaml", cwd=two)
    assert ended.code == 2
    assert "without history" in ended.err


def test_neither_history_nor_scan_is_looked_at(two: Path) -> None:
    modules = "('edgetrain.egress.scan', 'edgetrain.reconcile.judge', 'edgetrain.repo.history', 'httpx', 'jinja2')"
    code = (
        "import sys\nfrom edgetrain.cli.app import app\n"
        "code = app.main(['validate', 'experiments/one/experiment.yaml'], standalone_mode=False)\n"
        f"print(code, [name for name in {modules} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=two,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_the_hook_runs_for_manifests_and_what_lies_beside_them(two: Path) -> None:
    wanted = re.compile(HOOK["files"])
    git(two, "add", "--all")
    files = git(two, "ls-files").split()
    chosen = [file for file in files if wanted.search(file)]
    assert {"edgetrain.yaml", "compute/local.yaml", "experiments/one/experiment.yaml"} <= set(chosen)
    assert ".gitignore" not in chosen
    assert not wanted.search("docs/experiments/x") and not wanted.search("edgetrain.yaml.bak")
    program, *options = HOOK["entry"].split()
    assert program == "edgetrain"
    assert edgetrain(*options, *chosen, cwd=two).code == 0
    spoil(two, "one", "seed: 42", "seed: none")
    assert edgetrain(*options, *chosen, cwd=two).code == 1
    assert HOOK["language"] == "python"
    assert HOOK["id"] == "edgetrain-validate"
