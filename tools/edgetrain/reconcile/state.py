"""What git holds at one commit (or in the work tree): desired state, records, and where each came from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgetrain.core.desired import Desired
from edgetrain.core.errors import InvalidFiles, NotFound
from edgetrain.core.problem import Problem, Severity
from edgetrain.core.record import Record
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.main_branch import RECORD_FOLDERS, commit_tree
from edgetrain.repo.git import Git
from edgetrain.repo.history import Addition, Additions
from edgetrain.repo.load import Loaded, read_repository
from edgetrain.repo.objects import Commit
from edgetrain.repo.readings import Readings
from edgetrain.repo.tree import Tree
from edgetrain.repo.work_tree import WorkTree

if TYPE_CHECKING:
    from edgetrain.repo.ledger import Ledger


@dataclass(frozen=True)
class State:
    """One reading of the repository. `commit` is empty for a work tree; `added` tells where a path came from, and
    `commits` are those of main's own line that were read on the way: all that added something, or only the new."""

    git: Git
    tree: Tree
    loaded: Loaded
    commit: str
    added: Mapping[str, Addition]
    commits: Mapping[str, Commit] = field(default_factory=dict)

    @property
    def desired(self) -> Desired:
        """The desired state. Raises InvalidFiles if the configuration can't be read."""
        if self.loaded.desired is None:
            raise InvalidFiles(stopping(self.loaded.problems))
        return self.loaded.desired

    @property
    def recorded(self) -> Recorded:
        """The records."""
        return self.loaded.recorded

    def with_records(self, records: Iterable[Record]) -> State:
        """The same state with records that were written since."""
        mine = self.recorded
        every = [*mine.runs, *mine.evaluations, *mine.proposals, *mine.releases, *records]
        return replace(self, loaded=replace(self.loaded, recorded=Recorded.of(every)))


def read_work_tree(git: Git, tree: WorkTree | None = None, readings: Readings | None = None) -> State:
    """The work tree as it lies, uncommitted changes and all; `tree` if it is listed already."""
    head = git.head()
    return read_tree(git, tree or WorkTree(git), "", head, readings)


def read_commit(git: Git, commit: str) -> State:
    """The repository at a commit."""
    return read_tree(git, commit_tree(git, commit), commit, commit)


def read_tip(git: Git, branch: str) -> State:
    """The configured branch's tip: whatever event woke us, this is what is reconciled."""
    return read_commit(git, git.tip(branch))


def read_tree(git: Git, tree: Tree, commit: str, history: str, readings: Readings | None = None) -> State:
    """The tree's files, with what the history of the commit `history` tells of them; what `readings` know of both
    is not read again."""
    with Additions(git, history, RECORD_FOLDERS, readings) as additions:
        return read_with(additions, git, tree, commit, readings)


def read_with(additions: Additions, git: Git, tree: Tree, commit: str, readings: Readings | None) -> State:
    """The same, where git looks through the history already."""
    loaded = read_repository(tree, additions.ordinals, readings)
    return State(git, tree, loaded, commit, additions.by_path, additions.commits)


def stopping(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems that are no warnings."""
    return tuple(problem for problem in problems if problem.severity is Severity.PROBLEM)


def open_ledger(state: State, step: Callable[[str], None], say: Callable[[str], None]) -> Ledger:
    """The ledger that writes records as the machine which `edgetrain.yaml` names."""
    from edgetrain.repo.ledger import Ledger, Machine  # here: most verbs write nothing

    configuration = state.desired.configuration
    machine = configuration.machine
    key = secret_file(configuration.secrets, machine.signing_key) if machine.signing_key else None
    identity = Machine(machine.name, machine.email, key)
    return Ledger(state.git, configuration.branch, identity, step=step, say=say)


def secret_file(secrets: object, name: str) -> Path:
    """The file that holds a declared secret; only the `file` source gives one, and `environment` its path."""
    source = secrets[name]["source"] if isinstance(secrets, dict) and name in secrets else {}
    text = source.get("file") or os.environ.get(source.get("environment", ""), "")
    path = Path(text).expanduser() if text else None
    if path is None or not path.is_file():
        raise NotFound(
            f"secret {name} has no readable file on this machine",
            reason="SecretMissing",
            fix="put the key where edgetrain.yaml says, readable by the runner only",
        )
    return path
