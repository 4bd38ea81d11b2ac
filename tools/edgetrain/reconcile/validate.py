"""Validates a repository: every manifest, record, reference, and what the branch did to merged facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgetrain.core.checks.history import Branch, Writing, check_history
from edgetrain.core.checks.references import check_references
from edgetrain.core.codes.history import HISTORY_UNKNOWN
from edgetrain.core.errors import RepositoryError
from edgetrain.core.kinds import Configuration, Model, ModelVersion, kind_at, parse
from edgetrain.core.kinds.configuration import Machine
from edgetrain.core.problem import Problem, Severity, problem
from edgetrain.core.record import is_record_path
from edgetrain.repo import reader, schema
from edgetrain.repo.git import Git
from edgetrain.repo.history import changed_since, record_commits
from edgetrain.repo.load import Loaded, read_repository
from edgetrain.repo.tree import CommitTree, Tree, WorkTree

ALLOWED_SIGNERS = ".github/allowed_signers"
DEFAULT_BRANCH = "main"


def validate(
    root: Path, *, require_history: bool = False, on: Tree | None = None, branch: str | None = None
) -> list[Problem]:
    """All problems and warnings of all files at once, sorted.

    `on` is what is looked at instead of the work tree. `branch` is the branch of merged facts, else the one
    that `edgetrain.yaml` names (where pull requests of strangers are checked, name it: they may edit that
    file). What history can't tell is a warning, or a problem with `require_history`. Nothing is fetched.
    """
    try:
        git = Git.find(root)
    except RepositoryError as error:
        loaded = read_repository(WorkTree(root) if on is None else on)
        return _sorted(problems_of(loaded), [_unknown(error.message, require_history, error.fix)])
    tree = WorkTree(git) if on is None else on
    loaded = read_repository(tree)
    if branch is None:
        branch = loaded.desired.configuration.branch if loaded.desired else DEFAULT_BRANCH
    return _sorted(problems_of(loaded), list(_history(git, tree, branch, require_history)))


def problems_of(loaded: Loaded) -> list[Problem]:
    """What is wrong with one reading, whatever its history: files and references."""
    if loaded.desired is None:
        return list(loaded.problems)
    return sorted({*loaded.problems, *check_references(loaded.desired, loaded.recorded, loaded.broken)})


def _sorted(*lists: list[Problem]) -> list[Problem]:
    return sorted({found for problems in lists for found in problems})


def _unknown(what: str, required: bool, fix: str = "") -> Problem:
    found = problem(HISTORY_UNKNOWN, ".", None, what, fix or None)
    return replace(found, severity=Severity.PROBLEM) if required else found


def _history(git: Git, tree: Tree, branch: str, required: bool) -> Iterator[Problem]:
    if not isinstance(tree, CommitTree | WorkTree):
        return
    try:
        head = tree.sha if isinstance(tree, CommitTree) else git.head()
        tip = git.tip(branch, refresh=False)
        base = git.merge_base(head, tip)
    except RepositoryError as error:
        yield _unknown(error.message, required, error.fix)
        return
    if base is None:
        shallow = "; the clone is shallow" if git.is_shallow() else ""
        yield _unknown(f"the commits share no history with the branch {branch}{shallow}", required)
        return
    # Signers, machine and models as main has them: the branch must not appoint its own.
    signers = git.show(tip, ALLOWED_SIGNERS)
    history = record_commits(git, head, since=tip, allowed_signers=signers)
    if not history.complete:
        yield _unknown("the clone is shallow: commits of this branch are cut off", required)
    changed = {path: status for status, path in changed_since(git, base, tree)}
    writings = [
        Writing(c.commit, c.committer.email, dict(c.changes), c.other_paths, c.signature) for c in history.commits
    ]
    yield from check_history(
        Branch(
            changed=changed,
            kept=frozenset(_kept(git, base)) if "D" in changed.values() else frozenset(),
            writings=writings,
            machine=_machine(git, tip).email,
            signers=signers is not None,
            automatic=frozenset(_automatic(git, tip, writings)),
        )
    )


def _kept(git: Git, commit: str) -> Iterator[str]:
    """The folders of experiments and models that have records or versions at the commit."""
    listing = git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, "--", "experiments", "models")
    for path in filter(None, listing.decode("utf-8", "surrogateescape").split("\0")):
        kind = kind_at(path)
        if is_record_path(path) or (kind is not None and kind.type is ModelVersion):
            yield "/".join(path.split("/")[:2])


def _manifest(git: Git, commit: str, path: str) -> Configuration | Model | None:
    """A manifest as a commit has it; None if it is not there or not sound."""
    kind, data = kind_at(path), git.show(commit, path)
    document = reader.read(data, path)[0] if data is not None else None
    if kind is None or document is None or schema.check(document, kind.name):
        return None
    found = parse(document, kind)
    return found if isinstance(found, Configuration | Model) else None


def _machine(git: Git, commit: str) -> Machine:
    found = _manifest(git, commit, "edgetrain.yaml")
    return found.machine if isinstance(found, Configuration) else Machine()


def _automatic(git: Git, commit: str, writings: list[Writing]) -> Iterator[str]:
    """The models that release by themselves, among those whose versions were committed beside records."""
    others = {path.split("/")[1] for w in writings for path in w.others if path.startswith("models/")}
    for name in sorted(others):
        model = _manifest(git, commit, f"models/{name}/model.yaml")
        if isinstance(model, Model) and model.release == "automatic":
            yield name
