"""`validate` as a process: what fails, what only warns, and how it is told."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import edgetrain
from tests.cli.conftest import git


def test_a_valid_repository(repository: Path) -> None:
    ended = edgetrain("validate", cwd=repository)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("No problems. Checked in ")
    as_json = edgetrain("validate", "--format", "json", cwd=repository)
    assert (as_json.code, as_json.json) == (0, {"problems": [], "counts": {"problems": 0, "warnings": 0}})
    assert edgetrain("validate", "--format", "github", cwd=repository).out == ""
    assert edgetrain("validate", "--format", "markdown", cwd=repository).out == "### edgetrain: no problems\n"


def test_every_problem_of_every_file_at_once(repository: Path) -> None:
    for name in ("b", "a"):
        (repository / "compute").mkdir(exist_ok=True)
        (repository / "compute" / f"{name}.yaml").write_text("apiVersion: edgetrain/v1\nkind: Nothing\n")
    ended = edgetrain("validate", cwd=repository)
    assert (ended.code, ended.err) == (1, "")
    lines = [line for line in ended.out.splitlines() if line.startswith("compute/")]
    assert [line.partition(":")[0] for line in lines] == sorted(line.partition(":")[0] for line in lines)
    assert any(line.startswith("compute/a.yaml:2:7: M202 ") for line in lines)
    assert any(line.startswith("compute/b.yaml:2:7: M202 ") for line in lines)
    assert "edgetrain explain M" in ended.out


def test_a_file_that_is_no_yaml_at_all(repository: Path) -> None:
    (repository / "edgetrain.yaml").write_bytes(b"\xff\xfe\x00")
    ended = edgetrain("validate", cwd=repository)
    assert ended.code == 1
    assert "edgetrain.yaml:1:1: Y102" in ended.out
    for verb in (("plan",), ("new", "compute", "x")):
        again = edgetrain(*verb, cwd=repository)
        assert again.code == 1, verb
        assert "Y102" in again.out


def test_a_warning_does_not_fail_unless_history_is_required(repository: Path, tmp_path: Path) -> None:
    for name in ("main", "feature"):
        git(repository, "checkout", "--quiet", *(["-b"] if name == "feature" else []), name)
        git(repository, "commit", "--quiet", "--allow-empty", "-m", f"On {name}")
    cut = ("--depth", "1", "--no-single-branch", "--branch", "feature")
    git(repository, "clone", "--quiet", *cut, f"file://{repository}", str(tmp_path / "shallow"))
    ended = edgetrain("validate", cwd=tmp_path / "shallow")
    assert ended.code == 0
    assert ": warning H406 " in ended.out
    assert "0 problems and 1 warning in 1 file." in ended.out
    required = edgetrain("validate", "--require-history", cwd=tmp_path / "shallow")
    assert required.code == 1
    assert ": H406 " in required.out
    # Compared with itself it changes nothing, but who wrote its records is cut off too.
    itself = edgetrain("validate", "--branch", "feature", cwd=tmp_path / "shallow")
    assert itself.code == 0
    assert "who wrote the records" in itself.out
    assert edgetrain("validate", "--branch", "feature", "--require-history", cwd=tmp_path / "shallow").code == 1
    assert edgetrain("validate", "--branch", "feature", "--require-history", cwd=repository).code == 0
