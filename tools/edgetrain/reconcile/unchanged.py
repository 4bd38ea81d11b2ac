"""Remembers what `validate` said of a work tree, so that nothing is read again while nothing has changed.

The memory is one file in the git folder, where no commit can bring one. It counts only if all that the verdict
depends on is the same: edgetrain itself and Python, the day, what was asked, git's settings, HEAD, the branch of
merged facts, git's index, and of every file and folder what its last change leaves behind (inode, size, mode, both
times). It is for one's own checkout: where strangers' changes are checked, `validate` is called without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import marshal
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import edgetrain
from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import Problem, Severity
from edgetrain.reconcile.guard import today
from edgetrain.repo.git import Git
from edgetrain.repo.tree import WorkTree

MEMORY = "edgetrain-validated.json"
MAX_MEMORY = 4 * 2**20
# What changed within this time might change again without leaving a trace in its times.
_SETTLED = 2 * 10**9
_IN_GIT = ("index", "shallow", "info/attributes", "info/grafts", "info/exclude", "objects/info/alternates")


def validate_unless_unchanged(root: Path, *, require_history: bool, branch: str | None) -> list[Problem]:
    """`validate` of the work tree, or what it said when everything was as it is now."""
    try:
        git = Git.find(root)
        folder = Path(git.text("rev-parse", "--absolute-git-dir"))
    except RepositoryError:
        return _validate(root, None, require_history, branch)
    memory = folder / MEMORY
    known = _remembered(memory)
    now = time.time_ns()
    tree = WorkTree(git)
    try:
        asked = [str(root), require_history, branch, today()]
        key, newest = _key(git, folder, tree, asked)
    except (RepositoryError, OSError):
        return _validate(root, None, require_history, branch)
    if known is not None and known[0] == key:
        return known[1]
    problems = _validate(root, tree, require_history, branch)
    if newest < now - _SETTLED:
        _remember(memory, key, problems)
    return problems


def _validate(root: Path, tree: WorkTree | None, require_history: bool, branch: str | None) -> list[Problem]:
    from edgetrain.reconcile.validate import validate  # here: nothing of it is needed while nothing has changed

    return validate(root, on=tree, require_history=require_history, branch=branch)


def _key(git: Git, folder: Path, tree: WorkTree, asked: Sequence[Any]) -> tuple[str, int]:
    """The digest of all that the verdict depends on, and the time of the newest change among the files."""
    program = _stats(_files_below(Path(edgetrain.__file__).parent))
    inside = _stats(str(place / name) for place in {folder, git.common_dir} for name in _IN_GIT)
    # All refs: which of them the verdict depends on is written in the files. HEAD is none of them.
    refs = git.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/remotes/origin")
    settings = git.run("config", "--list", "-z")
    files, newest = tree.trace()
    machine = [sys.version, shutil.which("ssh-keygen"), shutil.which("git")]
    facts = [asked, machine, program, inside, git.head(), refs, settings, files]
    return hashlib.sha256(marshal.dumps(facts)).hexdigest(), newest


def _files_below(folder: Path) -> Iterator[str]:
    """edgetrain's own files."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (os.path.join(at, name) for name in sorted(names))  # noqa: PTH118 (hundreds of times)


def _stats(paths: Iterable[str]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for path in paths:
        try:
            stat = os.stat(path)  # noqa: PTH116 (hundreds of times)
        except OSError:
            found.append((path,))
        else:
            found.append((path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return found


def _remembered(memory: Path) -> tuple[str, list[Problem]] | None:
    try:
        with memory.open("rb") as file:
            value = json.loads(file.read(MAX_MEMORY))
        problems = [_problem(*row) for row in value["problems"]]
        sound = all(list(map(type, astuple(each)[:6])) == [str, int, int, str, str, str] for each in problems)
        return (str(value["key"]), problems) if sound else None
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None


def _problem(path: str, line: int, column: int, code: str, what: str, fix: str, severity: str) -> Problem:
    return Problem(path, line, column, code, what, fix, Severity(severity))


def _remember(memory: Path, key: str, problems: Sequence[Problem]) -> None:
    text = json.dumps({"key": key, "problems": [list(astuple(each)) for each in problems]})
    if len(text) > MAX_MEMORY:
        return
    # What can't be written is looked at again: slower, and no less right.
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=MEMORY, dir=memory.parent)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
            Path(name).replace(memory)
        except OSError:
            Path(name).unlink()
