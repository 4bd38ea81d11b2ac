"""Checks a pull request by reading the commit of its merge as data, and reports what the merge would do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetrain.core.attention import Attention, of_manifest, of_paths, together
from edgetrain.core.egress import is_guard
from edgetrain.core.kinds import kind_at
from edgetrain.core.plan import Plan
from edgetrain.core.planner import build
from edgetrain.core.problem import Problem
from edgetrain.reconcile.guard import guard, today
from edgetrain.reconcile.pull_request_merge import CONFLICT, Merge, find_merge
from edgetrain.reconcile.pull_request_report import Facts, effect_key, manifest_at, report_of
from edgetrain.reconcile.site import served
from edgetrain.reconcile.state import State, read_tree, stopping
from edgetrain.reconcile.validate import problems_of, validate
from edgetrain.repo.git import Git
from edgetrain.repo.history import changed_since
from edgetrain.repo.tree import CommitTree, Tree


@dataclass(frozen=True)
class Asked:
    """Which pull request: its number, its newest commit and its base branch's, as the forge tells them. Waivers are
    judged as on `day` (`2026-12-31`)."""

    number: int
    head: str
    base: str
    day: str = ""


@dataclass(frozen=True)
class Checked:
    """The report as JSON, and its problems and plan as values. `good`: nothing keeps it from being merged."""

    report: Mapping[str, Any]
    problems: Sequence[Problem]
    attention: Sequence[Attention]
    plan: Plan | None

    @property
    def good(self) -> bool:
        """Whether nothing keeps it from being merged."""
        return not stopping(self.problems) and self.report["merge"] != CONFLICT


def check_pull_request(start: Path, asked: Asked) -> Checked:
    """Read the commit that HEAD of the clone at `start` names, and say what its merge would do.

    Only git's objects are read: nothing of the pull request is run, imported or checked out, no provider is made
    and nothing is asked of a network. Raises UsageError or RepositoryError where the clone is not as needed.
    """
    git = Git.find(start)
    merge = find_merge(git, asked.head, asked.base)
    day = asked.day or today()
    # Without the cache of digests that lies in a checkout: a pull request can bring a file, or a link, there.
    with CommitTree(git, merge.commit) as tree, CommitTree(git, merge.base) as before:
        state = read_tree(git, tree, tree.sha, tree.sha)
        problems = validate(git.root, on=tree, tip=merge.tip, day=day)
        plan = _plan(state, problems, day)
        every = _all(problems, plan.problems if plan else ())
        changed = changed_since(git, merge.base, tree)
        attention = together([*of_paths(changed), *_manifests(before, tree, changed)])
        due = _due(git, merge) if plan else frozenset()
        facts = Facts(asked.number, asked.head, merge, before, state, every, plan, changed, attention, due)
        report = report_of(facts)
    return Checked(report, every, attention, plan)


def _plan(state: State, problems: Iterable[Problem], day: str) -> Plan | None:
    """The offline plan; None where the files are not sound. What the egress guard finds is told by the plan."""
    if state.loaded.desired is None or any(not is_guard(found.code) for found in stopping(problems)):
        return None
    guarded = guard(state.desired, state.tree, state.git, day)
    return build(state.desired, state.recorded, served(), None, state.commit, guarded)


def _due(git: Git, merge: Merge) -> frozenset[str]:
    """What the base branch asks for already, merge or no merge; nothing if that can't be told."""
    with CommitTree(git, merge.tip) as tree:
        state = read_tree(git, tree, tree.sha, tree.sha)
        if stopping(problems_of(state.loaded)):
            return frozenset()
        plan = build(state.desired, state.recorded, served(), None, state.commit)
    return frozenset(map(effect_key, plan.changes))


def _all(problems: Iterable[Problem], refused: Iterable[Problem]) -> list[Problem]:
    """Each once; what the plan refuses is a problem, also where validate only warns of it."""
    found = {(p.path, p.line, p.column, p.code, p.what): p for p in (*problems, *refused)}
    return sorted(found.values())


def _manifests(before: Tree, after: Tree, changed: Iterable[tuple[str, str]]) -> Iterator[Attention]:
    """What the changed manifests say that they did not say before."""
    for _, path in changed:
        if kind_at(path) is not None:
            yield from of_manifest(path, manifest_at(before, path), manifest_at(after, path))
