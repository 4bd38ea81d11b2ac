"""Validate as a whole: hostile files, no needless imports, the repository of this project."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetrain.reconcile import validate as validating
from edgetrain.reconcile.validate import validate
from edgetrain.repo import beside
from edgetrain.repo.beside import Copy
from edgetrain.repo.load import read_repository
from edgetrain.repo.tree import Entry, Tree
from edgetrain.repo.work_tree import WorkTree
from tests.core.case import Case, base_files
from tests.walk import examples

ROOT = Path(__file__).parents[2]


def test_this_repository_is_sound() -> None:
    assert [problem for problem in validate(ROOT) if problem.code != "H406"] == []


def test_validate_imports_no_sdk() -> None:
    heavy = ("mlflow", "sqlalchemy", "azureml", "azure", "numpy", "jinja2")
    code = f"import sys, edgetrain.reconcile.validate; sys.exit([m for m in {heavy} if m in sys.modules] or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


class Counted:
    """A tree that counts how often each file is read."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.reads: dict[str, int] = {}

    def files(self, prefix: str = "") -> list[Entry]:
        return self.tree.files(prefix)

    def exists(self, path: str) -> bool:
        return self.tree.exists(path)

    def read(self, path: str, limit: int = 2**20) -> bytes:
        self.reads[path] = self.reads.get(path, 0) + 1
        return self.tree.read(path, limit)

    def ahead(self, paths: Sequence[str]) -> None:
        self.tree.ahead(paths)

    def copy(self, path: str, sink: object) -> int:
        raise AssertionError("nothing is copied while loading")

    def content_digest(self, path: str) -> str:
        return self.tree.content_digest(path)

    def size(self, path: str) -> int:
        return self.tree.size(path)

    def measure(self, path: str) -> tuple[int, str]:
        return self.tree.measure(path)


def test_each_manifest_and_record_is_read_once(tmp_path: Path) -> None:
    Case(tmp_path).make()
    tree = Counted(WorkTree(tmp_path))
    loaded = read_repository(tree)
    assert loaded.problems == ()
    assert set(tree.reads.values()) == {1}
    assert len(loaded.recorded.runs) == 2
    assert loaded.recorded.runs[0].ordinal == 0


def test_ordinals_are_given_to_records(tmp_path: Path) -> None:
    Case(tmp_path).make()
    paths = [path for path in base_files() if "/runs/" in path]
    loaded = read_repository(WorkTree(tmp_path), lambda: {path: 5 + at for at, path in enumerate(paths)})
    assert [run.ordinal for run in loaded.recorded.runs] == [5, 6]


def test_the_digest_covers_code_and_neither_manifest_nor_records(tmp_path: Path) -> None:
    case = Case(tmp_path).make()

    def digest() -> str:
        desired = read_repository(WorkTree(tmp_path)).desired
        assert desired is not None
        return desired.code["mean"]

    before = digest()
    case.play("@ edit experiments/mean/experiment.yaml\ntimeout: 2m\n=>\ntimeout: 3m\n")
    case.play("@ write experiments/mean/runs/notes.md\nnotes\n")
    assert digest() == before
    case.play("@ write experiments/mean/extra.txt\nx\n")
    assert digest() != before


PATHS = [path for path in base_files() if path.endswith((".yaml", ".json", ".lock"))]


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PATHS), st.binary(max_size=30), st.integers(0, 400))
def test_no_bytes_in_any_file_crash_it(tmp_path: Path, path: str, data: bytes, at: int) -> None:
    case = Case(tmp_path).make()
    content = base_files()[path]
    case.write(path, content[:at] + data + content[at + len(data) :])
    problems = validate(tmp_path)
    assert problems == sorted(problems)
    assert all(len(problem.what) < 3000 for problem in problems)


def test_outside_git_history_is_unknown_and_may_be_demanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Case(tmp_path).make()
    assert [(p.code, p.severity.value) for p in validate(tmp_path)] == [("H406", "warning")]
    assert [(p.code, p.severity.value) for p in validate(tmp_path, require_history=True)] == [("H406", "problem")]


def test_without_git_at_all_the_files_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Case(tmp_path).make().play("@ edit compute/runner.yaml\nsite: here\n=>\nsite: hier\n")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert [p.code for p in validate(tmp_path)] == ["H406", "R316"]


def test_a_strangers_branch_can_be_named(tmp_path: Path) -> None:
    """A pull request that renames the branch of merged facts does not escape if the caller names it."""
    case = Case(tmp_path).make().play("@ main\n")
    case.play("@ edit edgetrain.yaml\nspec:\n=>\nspec:\n  branch: change\n")
    case.play(
        "@ edit models/mean/versions/1.yaml\n- '@example/ds'\n=>\n- '@example/dx'\n@ commit eve@example.org\n"
    )
    assert "H401" in [p.code for p in validate(tmp_path, branch="main")]


def test_history_is_judged_alike_by_a_second_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path).make().play("@ main\n")
    record = next(path for path in base_files() if "/runs/" in path)
    case.play(f"@ set {record} attempt\n7\n@ commit eve@example.org\n")
    alone = case.problems()
    assert "H404" in {found.code for found in alone}
    copies: list[Copy] = []

    class Asked(Copy):
        def collect(self) -> Any:
            copies.append(self)
            found = super().collect()
            return found if answers else None

    monkeypatch.setattr(validating, "Copy", Asked)
    monkeypatch.setattr(validating, "MANY", 0)
    monkeypatch.setattr(beside.threading, "active_count", lambda: 1)
    answers = True
    assert case.problems() == alone
    answers = False
    assert case.problems() == alone
    assert len(copies) == 2
