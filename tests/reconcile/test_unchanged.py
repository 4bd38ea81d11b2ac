"""What `validate` remembers counts while nothing has changed, and only then."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import InvalidFiles, UsageError
from edgetrain.core.problem import Problem, Severity
from edgetrain.reconcile import planning, unchanged, validate
from edgetrain.reconcile.planning import make_plan
from edgetrain.reconcile.state import read_commit
from edgetrain.reconcile.unchanged import VALIDATED as MEMORY
from edgetrain.reconcile.unchanged import plan_unless_unchanged, told_unless_unchanged, validate_unless_unchanged
from edgetrain.repo import reader, readings
from edgetrain.repo.git import Git
from edgetrain.repo.readings import MANIFESTS, Readings
from edgetrain.repo.work_tree import WorkTree
from tests.core.case import Case

pytestmark = pytest.mark.needs("git>=2.34")
PERSON = ["-c", "user.name=Dana", "-c", "user.email=dana@example.org"]


def git(root: Path, *arguments: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *PERSON, *arguments], cwd=root, env=environment, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(unchanged, "_SETTLED", -(10**9))
    monkeypatch.setattr(readings, "FEW", 0)
    root = tmp_path / "checkout"
    Case(root).make()
    git(root, "init", "--quiet", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "Start")
    git(root, "checkout", "--quiet", "-b", "work")
    git(root, "commit", "--quiet", "--allow-empty", "-m", "Work")
    return root


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Each time that the files were looked at."""
    found: list[Path] = []
    really = validate.validated

    def counted(root: Path, **options: object) -> object:
        found.append(root)
        return really(root, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(validate, "validated", counted)
    monkeypatch.setattr(planning, "validated", counted)
    return found


def ask(root: Path, branch: str | None = None, require_history: bool = False) -> list[Problem]:
    return validate_unless_unchanged(root, branch=branch, require_history=require_history)


def test_nothing_is_read_again_while_nothing_changes(root: Path, looks: list[Path]) -> None:
    (root / "compute" / "odd.yaml").write_text("kind: yes\n")
    first = ask(root)
    assert {found.path for found in first} == {"compute/odd.yaml"}
    assert ask(root) == first
    assert len(looks) == 1
    assert ask(root, branch="other") != first
    assert len(looks) == 2
    assert ask(root, require_history=True) == ask(root, require_history=True)
    assert len(looks) == 3


def in_place(root: Path) -> None:
    """The same size and time of writing."""
    file = root / "edgetrain.yaml"
    before = file.stat()
    file.write_bytes(file.read_bytes().replace(b"kind", b"kinn"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def linked(root: Path) -> None:
    """A folder moved away, with a link in its place."""
    (root / "experiments").rename(root.parent / "away")
    (root / "experiments").symlink_to(root.parent / "away")


def forged(root: Path, answer: object) -> None:
    """The right key, and an answer that is none."""
    memory = root / ".git" / MEMORY
    memory.write_text(json.dumps({**json.loads(memory.read_text()), "answer": answer}))


CHANGES: list[Callable[[Path], object]] = [
    in_place,
    linked,
    lambda root: (root / "compute" / "new.yaml").write_text("a: 1\n"),
    lambda root: (root / "edgetrain.yaml").unlink(),
    lambda root: next(root.glob("experiments/*/*.py")).chmod(0o755),
    lambda root: git(root, "commit", "--quiet", "--allow-empty", "-m", "More"),
    lambda root: git(root, "branch", "other"),
    lambda root: git(root, "rm", "--quiet", "--cached", "edgetrain.yaml"),
    lambda root: git(root, "config", "core.autocrlf", "input"),
    lambda root: (root / ".git" / MEMORY).write_text("[" * 100_000),
    lambda root: (root / ".git" / MEMORY).write_text('{"key": 1}'),
    lambda root: forged(root, [[1, 2]]),
    lambda root: forged(root, [["a", 1, 1, "b", "c", "d", "nothing"]]),
    lambda root: forged(root, 5),
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_is_looked_at(root: Path, looks: list[Path], change: Callable[[Path], object]) -> None:
    ask(root)
    change(root)
    found = ask(root)
    assert len(looks) == 2
    assert found == validate.validate(root)


@pytest.fixture
def manifests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests that are read."""
    found: list[str] = []
    really = reader.read

    def counted(data: bytes, path: str) -> object:
        found.append(path)
        return really(data, path)

    monkeypatch.setattr(reader, "read", counted)
    return found


def test_after_one_change_only_that_file_is_read(root: Path, manifests: list[str]) -> None:
    made = plan_unless_unchanged(root, site=None)
    assert len(manifests) > 3
    manifests.clear()
    in_place(root)
    with pytest.raises(InvalidFiles) as caught:
        plan_unless_unchanged(root, site=None)
    assert set(manifests) == {"edgetrain.yaml"}
    assert list(caught.value.problems) == validate.validate(root)
    git(root, "checkout", "--quiet", "edgetrain.yaml")
    assert plan_unless_unchanged(root, site=None) == made


def test_another_edgetrain_reads_all_again(
    root: Path, manifests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(root)
    every = len(manifests)
    monkeypatch.setattr(unchanged, "_files_below", lambda _: [str(root / "edgetrain.yaml")])
    ask(root)
    assert len(manifests) == 2 * every
    monkeypatch.setattr(unchanged, "_packages", lambda: [str(root)])
    ask(root)
    assert len(manifests) == 3 * every


def test_what_applies_and_what_judges_strangers_reads_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory that says something else is believed by a look at one's own checkout, and by nothing else."""
    path, kept = "compute/runner.yaml", []

    class Kept(Readings):
        def __init__(self, *arguments: Any) -> None:
            kept.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(unchanged, "Readings", Kept)
    truth = ask(root)
    forged = Readings(*kept[0])
    tree = WorkTree(Git.find(root))
    mark = tree.mark(path)
    data, digest = forged.get(MANIFESTS, path, mark)
    data["spec"]["site"] = "elsewhere"
    forged.put(MANIFESTS, path, mark, lambda: (data, digest))
    forged.save(tree.exists)
    (root / ".git" / MEMORY).unlink()
    assert "R316" in {found.code for found in ask(root)}
    assert ask(root, require_history=True) == validate.validate(root, require_history=True)
    assert validate.validate(root) == truth
    assert make_plan(root).problems == ()
    assert read_commit(Git.find(root), "HEAD").loaded.problems == ()


def test_the_day_counts_for_waivers(root: Path, looks: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ask(root)
    monkeypatch.setattr(unchanged, "_today", lambda: "2999-01-01")
    ask(root)
    assert len(looks) == 2


def test_what_just_changed_is_not_remembered(
    root: Path, looks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "_SETTLED", 3600 * 10**9)
    ask(root)
    ask(root)
    assert len(looks) == 2
    assert not (root / ".git" / readings.WORK_TREE).exists()


def test_a_forged_memory_needs_its_key(root: Path, looks: list[Path]) -> None:
    (root / "compute" / "odd.yaml").write_text("kind: yes\n")
    found = ask(root)
    (root / ".git" / MEMORY).write_text(json.dumps({"key": "0" * 64, "answer": []}))
    assert ask(root) == found != []


def test_without_a_repository_nothing_is_kept(tmp_path: Path, looks: list[Path]) -> None:
    Case(tmp_path).make()
    ask(tmp_path)
    ask(tmp_path)
    assert len(looks) == 2


def test_a_plan_is_made_again_when_something_changed(root: Path, looks: list[Path]) -> None:
    made = plan_unless_unchanged(root, site=None)
    assert plan_unless_unchanged(root, site=None) == made
    assert len(looks) == 1
    script = next(root.glob("experiments/*/*.py"))
    script.write_text(script.read_text() + "# more\n")
    assert plan_unless_unchanged(root, site=None).digest != made.digest
    script.write_text("import requests\n" * 1000)
    (root / "edgetrain.yaml").write_text("kind: yes\n")
    with pytest.raises(InvalidFiles):
        plan_unless_unchanged(root, site=None)


def test_what_commits_tell_counts_until_a_branch_moves(root: Path) -> None:
    asked: list[str] = []

    def tell(on: Path | Git, known: Readings | None) -> str:
        assert isinstance(on, Git)
        assert known is not None
        asked.append("told")
        return "told " * len(asked)

    def ask_for(model: str) -> str:
        return told_unless_unchanged(root, "models", [model], tell)

    assert ask_for("mean") == ask_for("mean") == "told "
    (root / "experiments" / "new.txt").write_text("of no account\n")
    assert ask_for("mean") == "told "
    assert ask_for("other") != "told "
    git(root, "commit", "--quiet", "--allow-empty", "-m", "More")
    ask_for("other")
    (root / "edgetrain.yaml").write_text("spec: {branch: other}\n")
    ask_for("other")
    assert len(asked) == 4
    memory = root / ".git" / "edgetrain-models.json"
    memory.write_text(json.dumps({**json.loads(memory.read_text()), "answer": 5}))
    assert ask_for("other") == "told " * 5


def test_history_may_refuse_a_plan_that_is_made_already(root: Path) -> None:
    version = root / "models/mean/versions/1.yaml"
    version.write_text(version.read_text().replace("@example/ds", "@example/dx"))
    with pytest.raises(InvalidFiles) as caught:
        plan_unless_unchanged(root, site=None)
    assert {found.code for found in caught.value.problems if found.severity is Severity.PROBLEM} == {"H401"}
    git(root, "checkout", "--quiet", ".")
    assert plan_unless_unchanged(root, site="here").problems == ()
    with pytest.raises(UsageError):
        plan_unless_unchanged(root, site="nowhere")
