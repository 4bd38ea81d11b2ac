"""Makes plans without doing anything: of the work tree for `edgetrain plan`, of main's tip for apply."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgetrain.core.egress import is_guard
from edgetrain.core.errors import InvalidFiles
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Plan
from edgetrain.core.planner import build
from edgetrain.core.problem import Problem, Severity
from edgetrain.reconcile.guard import guard, today
from edgetrain.reconcile.observe import observe
from edgetrain.reconcile.remote import connect
from edgetrain.reconcile.site import Site, choose_site, served
from edgetrain.reconcile.state import State, read_work_tree, stopping
from edgetrain.reconcile.validate import problems_of, validate
from edgetrain.repo.git import Git
from edgetrain.repo.ledger import Ledger, Machine
from edgetrain.repo.work_tree import WorkTree


def make_plan(root: Path, *, refresh: bool = False, site: str | None = None) -> Plan:
    """The plan of the work tree as it lies: offline, or `refresh`ed by asking the site's providers.

    Raises InvalidFiles, UsageError for an unclear site, RepositoryError, or ProviderError.
    """
    return _plan(checked(read_work_tree(Git.find(root))), refresh, site)


def checked_plan(
    root: Path, tree: WorkTree | None = None, site: str | None = None, *, refresh: bool = False
) -> Plan:
    """Like `make_plan`, after all that `validate` looks at; both read the files once. `tree` is root's work tree.

    InvalidFiles then holds warnings, too. What the egress guard finds stops its own experiment, and the plan
    tells it.
    """
    if tree is None or tree.git is None:
        tree = WorkTree(Git.find(root))
    state = read_work_tree(tree.git or Git.find(root), tree)
    problems = validate(root, on=tree, loaded=state.loaded)
    if any(found.severity is Severity.PROBLEM and not is_guard(found.code) for found in problems):
        raise InvalidFiles(problems)
    return _plan(checked(state), refresh, site)


def _plan(state: State, refresh: bool, site: str | None) -> Plan:
    if not refresh:
        if site is not None:
            choose_site(state.desired.configuration, site)
        return plan_of(state)
    return plan_of(state, observe_site(state, open_site(state, site)))


def observe_site(state: State, place: Site) -> Observation:
    """What the site's providers tell. Raises ProviderError."""
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


def plan_of(state: State, observed: Observation | None = None) -> Plan:
    """The plan of one state; offline if nothing was observed."""
    guarded = guard(state.desired, state.tree, state.git, today())
    return build(state.desired, state.recorded, served(), observed, state.commit, guarded)
