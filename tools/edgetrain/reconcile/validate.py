"""Validates a repository: every manifest, record, reference, and what the branch did to merged facts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path

from edgetrain.core.checks.history import Branch, Writing, check_history, touches_record
from edgetrain.core.checks.main import Wrong, main_problems
from edgetrain.core.checks.references import check_references
from edgetrain.core.codes.history import HISTORY_UNKNOWN
from edgetrain.core.egress import Verdict
from edgetrain.core.errors import RepositoryError
from edgetrain.core.kinds import Configuration, ModelVersion, kind_at
from edgetrain.core.kinds.configuration import Machine
from edgetrain.core.problem import Problem, Severity, problem
from edgetrain.core.record import is_record_path
from edgetrain.reconcile.guard import guard, today
from edgetrain.reconcile.judge import ALLOWED_SIGNERS, CONFIGURATION, automatic_models, judge, manifest_of
from edgetrain.repo.beside import Copy
from edgetrain.repo.git import Git
from edgetrain.repo.history import changed_since
from edgetrain.repo.load import Loaded, read_repository
from edgetrain.repo.merge import parents
from edgetrain.repo.readings import Readings
from edgetrain.repo.record_history import record_commits
from edgetrain.repo.tree import MANIFEST_LIMIT, CommitTree, Tree
from edgetrain.repo.work_tree import WorkTree

DEFAULT_BRANCH = "main"
# With fewer files a second process costs more than it saves.
MANY = 1000


def validate(
    root: Path,
    *,
    require_history: bool = False,
    on: Tree | None = None,
    branch: str | None = None,
    tip: str | None = None,
    day: str | None = None,
    readings: Readings | None = None,
) -> list[Problem]:
    """All problems and warnings of all files at once, sorted.

    `on` is what is looked at instead of the work tree. `branch` is the branch of merged facts, else the one
    that `edgetrain.yaml` names (where pull requests of strangers are checked, name it: they may edit that
    file); with `tip`, merged facts are those of that commit. The records on that branch itself are judged where
    its tip is checked out, and always with `require_history`. What history can't tell is a warning, or a problem
    with `require_history`. Nothing is fetched. Waivers are judged as on `day` (`2026-12-31`), else today. What
    `readings` know is not read.
    """
    return validated(
        root, require_history=require_history, on=on, branch=branch, tip=tip, day=day, readings=readings
    )[1]


def validated(
    root: Path,
    *,
    require_history: bool = False,
    on: Tree | None = None,
    branch: str | None = None,
    tip: str | None = None,
    day: str | None = None,
    loaded: Loaded | None = None,
    readings: Readings | None = None,
    meanwhile: Callable[[Look], object] = lambda _: None,
) -> tuple[Look, list[Problem]]:
    """`validate`, and what it saw on the way. `loaded` is a reading of the same tree that is there already;
    `meanwhile` is called with what was seen while history is still waited for."""
    try:
        git = on.git if isinstance(on, WorkTree) and on.git else Git.find(root)
    except RepositoryError as error:
        tree = WorkTree(root) if on is None else on
        seen = look(tree, None, day, loaded or read_repository(tree, readings=readings))
        return seen, _sorted(seen.told(), [_unknown(error.message, require_history, error.fix)])
    tree = WorkTree(git) if on is None else on
    loaded = loaded or read_repository(tree, readings=readings)
    if branch is None:
        branch = loaded.desired.configuration.branch if loaded.desired else DEFAULT_BRANCH
    find = partial(_history, git, tree, branch, tip, require_history)
    # History is git's work: of a large tree a second process waits for it.
    with Copy(lambda: _plain(find())) if len(tree.files()) >= MANY else nullcontext() as copy:
        seen = look(tree, git, day, loaded)
        meanwhile(seen)
        found = copy.collect() if copy is not None else None
    history = list(find()) if found is None else [_problem(*each) for each in found]
    return seen, _sorted(seen.told(), history)


def _plain(problems: Iterable[Problem]) -> list[list[str | int]]:
    return [[*astuple(found)[:-1], found.severity.value] for found in problems]


def _problem(path: str, line: int, column: int, code: str, what: str, fix: str, severity: str) -> Problem:
    return Problem(path, line, column, code, what, fix, Severity(severity))


@dataclass(frozen=True)
class Look:
    """One reading, what is wrong with it whatever its history, and the egress guard's verdicts by experiment."""

    loaded: Loaded
    problems: Sequence[Problem]
    verdicts: Mapping[str, Verdict]

    def told(self) -> list[Problem]:
        """All problems and warnings of both."""
        return [*self.problems, *(found for verdict in self.verdicts.values() for found in verdict.problems)]


def look(tree: Tree, git: Git | None, day: str | None, loaded: Loaded) -> Look:
    """Look at what was `loaded` of the tree."""
    desired = loaded.desired
    verdicts = {} if desired is None else guard(desired, tree, git, day or today())
    return Look(loaded, problems_of(loaded), verdicts)


def problems_of(loaded: Loaded) -> list[Problem]:
    """What is wrong with one reading, whatever its history: files and references."""
    if loaded.desired is None:
        return list(loaded.problems)
    return sorted({*loaded.problems, *check_references(loaded.desired, loaded.recorded, loaded.broken)})


def _sorted(*lists: list[Problem]) -> list[Problem]:
    return sorted({found for problems in lists for found in problems})


def _unknown(what: str, required: bool, fix: str = "") -> Problem:
    return _as_required(problem(HISTORY_UNKNOWN, ".", None, what, fix or None), required)


def _as_required(warning: Problem, required: bool) -> Problem:
    return replace(warning, severity=Severity.PROBLEM) if required else warning


def _history(git: Git, tree: Tree, branch: str, tip: str | None, required: bool) -> Iterator[Problem]:
    if not isinstance(tree, CommitTree | WorkTree):
        return
    try:
        head = tree.sha if isinstance(tree, CommitTree) else git.head()
        tip = git.resolve(tip) if tip else git.tip(branch, refresh=False)
        base = git.merge_base(head, tip) or (tip if tip in parents(git, head) else None)
    except RepositoryError as error:
        yield _unknown(error.message, required, error.fix)
        return
    if base is None:
        shallow = "; the clone is shallow" if git.is_shallow() else ""
        yield _unknown(f"the commits share no history with the branch {branch}{shallow}", required)
        return
    # Signers, machine and models as main has them: the branch must not appoint its own.
    signers = git.show(tip, ALLOWED_SIGNERS)
    machine = _machine(git, tip).email
    history = record_commits(git, head, since=tip, allowed_signers=signers)
    if not history.complete:
        yield _unknown("the clone is shallow: commits of this branch are cut off", required)
    changed = {path: status for status, path in changed_since(git, base, tree)}
    on_main = head == tip or required
    mended: set[str] = set()
    if on_main or history.commits or any(touches_record(path) for path in changed):
        judgement = judge(git, tip, signers, machine)
        mended = {wrong.path for wrong in judgement.wrong if wrong.path in changed and _mends(git, tree, wrong)}
        if on_main:
            yield from main_problems([wrong for wrong in judgement.wrong if wrong.path not in mended])
            yield from (_as_required(warning, required) for warning in judgement.warnings)
    writings = [
        Writing(c.commit, c.committer.email, changes, c.other_paths, c.signature)
        for c in history.commits
        if (changes := {path: status for path, status in c.changes if path not in mended})
    ]
    others = [path for writing in writings for path in writing.others]
    changed = {path: status for path, status in changed.items() if path not in mended}
    yield from check_history(
        Branch(
            changed=changed,
            kept=frozenset(_kept(git, base)) if "D" in changed.values() else frozenset(),
            writings=writings,
            machine=machine,
            signers=signers is not None,
            automatic=frozenset(automatic_models(git, tip, others)),
        )
    )


def _mends(git: Git, tree: CommitTree | WorkTree, wrong: Wrong) -> bool:
    """Whether the tree has a record that is wrong on main as it must be."""
    if wrong.right is None or not tree.exists(wrong.path):
        return wrong.right is None and not tree.exists(wrong.path)
    try:
        with git.objects() as objects:
            return tree.read(wrong.path) == objects.read(wrong.right, MANIFEST_LIMIT)
    except RepositoryError:
        return False  # a link, or larger than any record: not what the machine wrote


def _kept(git: Git, commit: str) -> Iterator[str]:
    """The folders of experiments and models that have records or versions at the commit."""
    listing = git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, "--", "experiments", "models")
    for path in filter(None, listing.decode("utf-8", "surrogateescape").split("\0")):
        kind = kind_at(path)
        if is_record_path(path) or (kind is not None and kind.type is ModelVersion):
            yield "/".join(path.split("/")[:2])


def _machine(git: Git, commit: str) -> Machine:
    found = manifest_of(git.show(commit, CONFIGURATION), CONFIGURATION)
    return found.machine if isinstance(found, Configuration) else Machine()
