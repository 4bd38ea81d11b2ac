"""Makes plans without doing anything: of the work tree for `edgetrain plan`, of main's tip for apply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgetrain.core.egress import Verdict, is_guard
from edgetrain.core.errors import InvalidFiles
from edgetrain.core.plan import Plan
from edgetrain.core.planner import build
from edgetrain.core.problem import Problem, Severity
from edgetrain.reconcile.guard import guard, today
from edgetrain.reconcile.site import Site, choose_site, served
from edgetrain.reconcile.state import State, read_work_tree, stopping
from edgetrain.reconcile.validate import Look, problems_of, validated
from edgetrain.repo.git import Git
from edgetrain.repo.readings import Readings
from edgetrain.repo.work_tree import WorkTree

if TYPE_CHECKING:
    from edgetrain.core.observation import Observation


def make_plan(root: Path, *, refresh: bool = False, site: str | None = None) -> Plan:
    """The plan of the work tree as it lies: offline, or `refresh`ed by asking the site's providers.

    Raises InvalidFiles, UsageError for an unclear site, RepositoryError, or ProviderError.
    """
    return _plan(checked(read_work_tree(Git.find(root))), refresh, site)


def checked_plan(
    root: Path,
    tree: WorkTree | None = None,
    site: str | None = None,
    *,
    refresh: bool = False,
    readings: Readings | None = None,
) -> Plan:
    """Like `make_plan`, after all that `validate` looks at; both read the files once. `tree` is root's work tree;
    what `readings` know of it is not read.

    InvalidFiles then holds warnings, too. What the egress guard finds stops its own experiment, and the plan
    tells it.
    """
    if tree is None or tree.git is None:
        tree = WorkTree(Git.find(root))
    state = read_work_tree(tree.git or Git.find(root), tree, readings)
    early: list[Plan] = []

    def begin(seen: Look) -> None:
        # What history has to say may refuse the plan, and changes nothing of it.
        if not refresh and not stopping(seen.problems):
            early.append(plan_of(state, verdicts=seen.verdicts))

    seen, problems = validated(root, on=tree, loaded=state.loaded, meanwhile=begin)
    if any(found.severity is Severity.PROBLEM and not is_guard(found.code) for found in problems):
        raise InvalidFiles(problems)
    if wrong := stopping(seen.problems):
        raise InvalidFiles(wrong)
    if early:
        if site is not None:
            choose_site(state.desired.configuration, site)
        return early[0]
    return _plan(state, refresh, site, seen.verdicts)


def _plan(state: State, refresh: bool, site: str | None, verdicts: Mapping[str, Verdict] | None = None) -> Plan:
    if not refresh:
        if site is not None:
            choose_site(state.desired.configuration, site)
        return plan_of(state, verdicts=verdicts)
    return plan_of(state, observe_site(state, open_site(state, site)), verdicts)


def observe_site(state: State, place: Site) -> Observation:
    """What the site's providers tell. Raises ProviderError."""
    # Here: an offline plan asks nobody.
    from edgetrain.reconcile.observe import observe
    from edgetrain.reconcile.remote import connect
    from edgetrain.repo.ledger import Ledger, Machine

    machine = state.desired.configuration.machine
    connect(state.git, place)
    # Looking at open proposals signs nothing, so the machine's key is not asked for.
    ledger = Ledger(state.git, state.desired.configuration.branch, Machine(machine.name, machine.email))
    return observe(state.desired, state.recorded, place, state.git, ledger)


def checked(state: State, more: Iterable[Problem] = ()) -> State:
    """The same state. Raises InvalidFiles if its files or references have problems, or there are `more`."""
    problems = stopping(sorted({*problems_of(state.loaded), *more}))
    if problems:
        raise InvalidFiles(problems)
    return state


def open_site(state: State, asked: str | None) -> Site:
    """The site asked for, or the only one."""
    configuration = state.desired.configuration
    return Site(configuration, choose_site(configuration, asked), state.git.root)


def plan_of(
    state: State, observed: Observation | None = None, verdicts: Mapping[str, Verdict] | None = None
) -> Plan:
    """The plan of one state; offline if nothing was observed. `verdicts` are the egress guard's, if known."""
    if verdicts is None:
        verdicts = guard(state.desired, state.tree, state.git, today())
    return build(state.desired, state.recorded, served(), observed, state.commit, verdicts)
