"""Remembers what was said of a work tree, so that nothing is read again while nothing has changed.

The memory is one file a verb in the git folder, where no commit can bring one. It counts only if all that the
answer depends on is the same: edgetrain itself and Python, the day, what was asked, git's settings, HEAD, the
branches, git's index, and of every file and folder what its last change leaves behind (inode, size, mode, both
times). Where something has changed, all is thought through anew, but of the files only those that changed are
read: the others' readings (`repo.readings`) are remembered beside it. Both are for a look at one's own checkout:
apply, and what checks strangers' changes, never ask them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import edgetrain
from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import Problem, Severity
from edgetrain.repo.git import Git
from edgetrain.repo.opening import open_file
from edgetrain.repo.readings import COMMITS, WORK_TREE, Readings, put_in_place
from edgetrain.repo.work_tree import WorkTree

if TYPE_CHECKING:
    from edgetrain.core.plan import Plan

VALIDATED, PLANNED = "edgetrain-validated.json", "edgetrain-planned.json"
MAX_MEMORY = 4 * 2**20
# What changed within this time might change again without leaving a trace in its times.
_SETTLED = 2 * 10**9
_OF_HISTORY = ("shallow", "info/grafts", "objects/info/alternates")
_IN_GIT = (*_OF_HISTORY, "index", "info/attributes", "info/exclude")
T = TypeVar("T")


def validate_unless_unchanged(root: Path, *, require_history: bool, branch: str | None) -> list[Problem]:
    """`validate` of the work tree, or what it said when everything was as it is now."""

    def make(tree: WorkTree | None, readings: Readings | None) -> list[Problem]:
        from edgetrain.reconcile.validate import validate  # here: nothing of it is needed if nothing has changed

        known = None if require_history else readings
        return validate(root, on=tree, require_history=require_history, branch=branch, readings=known)

    def dump(problems: list[Problem]) -> Any:
        return [list(astuple(each)) for each in problems]

    return _unless_unchanged(root, VALIDATED, [require_history, branch], make, dump, _problems)


def plan_unless_unchanged(root: Path, *, site: str | None) -> Plan:
    """`checked_plan` of the work tree, or the plan that was made when everything was as it is now."""

    def make(tree: WorkTree | None, readings: Readings | None) -> Plan:
        from edgetrain.reconcile.planning import checked_plan

        return checked_plan(root, tree, site, readings=readings)

    def load(value: Any) -> Plan:
        from edgetrain.core.plan import Plan

        return Plan.from_json(value)

    return _unless_unchanged(root, PLANNED, [site], make, lambda plan: plan.to_json(), load)


def told_unless_unchanged(
    root: Path, verb: str, asked: Sequence[Any], make: Callable[[Path | Git, Readings | None], str]
) -> str:
    """What `make` tells of the commits alone, or what it told when the branches were as they are now. Of the work
    tree only `edgetrain.yaml` counts, which names the branch."""

    def load(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("no text")
        return str(value)

    def dump(text: str) -> Any:
        return text

    def told(tree: WorkTree | None, readings: Readings | None) -> str:
        return make((tree and tree.git) or root, readings)

    return _unless_unchanged(root, f"edgetrain-{verb}.json", asked, told, dump, load, files=False)


def _unless_unchanged(
    root: Path,
    name: str,
    asked: Sequence[Any],
    make: Callable[[WorkTree | None, Readings | None], T],
    dump: Callable[[T], Any],
    load: Callable[[Any], T],
    files: bool = True,
) -> T:
    """What was made before, if all is as it was; else what `make` makes, and that is remembered."""
    started = time.time_ns()
    try:
        git = Git.find(root)
        folder = git.own_dir
        tree = WorkTree(git)
        program = [_stats(_files_below(Path(edgetrain.__file__).parent)), sys.version, _stats(_packages())]
        key, newest = _key(git, folder, tree if files else None, [program, name, str(root), *asked])
    except (RepositoryError, OSError):
        return make(None, None)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
        known = _remembered(folder / name)
        if known["key"] == key:
            return load(known["answer"])
    seal = hashlib.sha256(ascii(program).encode()).digest()
    settled = started - _SETTLED if files else None
    readings = Readings(folder / (WORK_TREE if files else COMMITS), seal, settled)
    try:
        answer = make(tree, readings)
    finally:
        if files:
            with contextlib.suppress(RepositoryError):
                readings.save(tree.exists)
    if newest < started - _SETTLED:
        _remember(folder / name, {"key": key, "answer": dump(answer)})
    return answer


def _today() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).date().isoformat()


def _problems(value: Any) -> list[Problem]:
    found = []
    for path, line, column, code, what, fix, severity in value:
        if [type(each) for each in (path, line, column, code, what, fix)] != [str, int, int, str, str, str]:
            raise ValueError("no problem")
        found.append(Problem(path, line, column, code, what, fix, Severity(severity)))
    return found


def _key(git: Git, folder: Path, tree: WorkTree | None, asked: Sequence[Any]) -> tuple[str, int]:
    """The digest of all that the verdict depends on, and the time of the newest change among the files."""
    names = _IN_GIT if tree else _OF_HISTORY
    inside = _stats(str(place / name) for place in sorted({folder, git.common_dir}) for name in names)
    machine = [_today(), shutil.which("ssh-keygen"), shutil.which("git")]
    # All refs: which of them the verdict depends on is written in the files. HEAD is none of them, and counts for
    # a work tree alone.
    which = ("--format=%(objectname) %(refname)", "refs/heads", "refs/remotes/origin")
    with git.begin("for-each-ref", *which) as refs, git.begin("config", "--list", "-z") as settings:
        files, newest = tree.trace() if tree else (_configuration(git.root), 0)
        head = git.head() if tree else ""
        told = settings.output()
        facts = [asked, machine, inside, head, refs.output(), told, files]
    git.learn(told)
    return hashlib.sha256(ascii(facts).encode()).hexdigest(), newest


def _configuration(root: Path) -> bytes:
    handle = open_file(root, "edgetrain.yaml")
    with os.fdopen(handle, "rb") as file:
        return hashlib.sha256(file.read(2**20 + 1)).digest()


def _files_below(folder: Path) -> Iterator[str]:
    """edgetrain's own files."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        yield from (os.path.join(at, name) for name in sorted(names))  # noqa: PTH118 (hundreds of times)


def _packages() -> Iterator[str]:
    """The folders of what edgetrain stands on: installing anything else changes them."""
    return (path for path in sys.path if path.endswith("-packages"))


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


def _remembered(memory: Path) -> Any:
    with memory.open("rb") as file:
        return json.loads(file.read(MAX_MEMORY))


def _remember(memory: Path, value: Any) -> None:
    data = json.dumps(value).encode()
    # What can't be written is looked at again: slower, and no less right.
    if len(data) <= MAX_MEMORY:
        put_in_place(memory, data)
