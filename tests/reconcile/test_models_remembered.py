"""What models and log tell of a checkout that was looked at before is what they tell of any other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgetrain.reconcile import hands
from edgetrain.reconcile.main_branch import MainBranch
from edgetrain.reconcile.models import log, models
from edgetrain.repo import readings
from edgetrain.repo.readings import Readings
from tests.core.case import Case, base_files

pytestmark = pytest.mark.needs("git>=2.34")
MACHINE = "machine@example.org"


def git(root: Path, *arguments: str, email: str = "dana@example.org") -> None:
    person = ("-c", "user.name=Dana", "-c", f"user.email={email}")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["git", *person, *arguments], cwd=root, env=environment, check=True, capture_output=True)


def commit(root: Path, *paths: str, email: str = "dana@example.org", message: str = "Change") -> None:
    case = Case(root)
    for path in paths:
        case.write(path, base_files()[path])
    git(root, "add", "--all", "--force")
    git(root, "commit", "--quiet", "--allow-empty", "-m", message, email=email)


def told(root: Path, known: bool) -> object:
    def main() -> MainBranch:
        return MainBranch(root, Readings(root.parent / "memory.bin", b"key") if known else None)

    return log(main(), "mean"), models(main(), "mean"), models(main())


@pytest.mark.parametrize("one_by_one", [0, 4])
def test_after_each_merge_the_same_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_by_one: int
) -> None:
    monkeypatch.setattr(readings, "FEW", 0)
    monkeypatch.setattr(hands, "ONE_BY_ONE", one_by_one)
    root = tmp_path / "checkout"
    Case(root).make()
    later = [path for path in base_files() if "/versions/" in path]
    for path in later:
        (root / path).unlink()
    git(root, "init", "--quiet", "-b", "main")
    commit(root)
    assert told(root, True) == told(root, False)
    for number in (1, 2):
        git(root, "checkout", "--quiet", "-B", f"side-{number}")
        commit(root, f"models/mean/versions/{number}.yaml", email=f"author-{number}@example.org")
        commit(root, email=f"second-{number}@example.org")
        git(root, "checkout", "--quiet", "main")
        message = f"Merge pull request #{number} from side\n\nApproved-by: Ravi <ravi@example.org>"
        git(root, "merge", "--quiet", "--no-ff", "-m", message, f"side-{number}")
        assert told(root, True) == told(root, False)
    assert "second-2@example.org" in str(told(root, True))
    commit(root, *(path for path in later if path.endswith(".json")), email=MACHINE)
    assert told(root, True) == told(root, False)
    git(root, "reset", "--quiet", "--hard", "HEAD~2")
    assert told(root, True) == told(root, False)
    text = (root / "edgetrain.yaml").read_text()
    (root / "edgetrain.yaml").write_text(text.replace("machine@example.org", "second-1@example.org"))
    assert text != (root / "edgetrain.yaml").read_text()
    commit(root, message="Another machine")
    assert told(root, True) == told(root, False)


def test_what_is_known_is_not_asked_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "FEW", 0)
    root = tmp_path / "checkout"
    Case(root).make()
    git(root, "init", "--quiet", "-b", "main")
    commit(root)
    before = told(root, True)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(hands, "merged_by", refused)
    monkeypatch.setattr(hands, "provenance", refused)
    assert told(root, True) == before
