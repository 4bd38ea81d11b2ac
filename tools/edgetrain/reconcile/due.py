"""Whether a lane of apply has work: a cheap look at main's tip, and at what is under way at the site."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgetrain.core.errors import EdgetrainError
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Operation
from edgetrain.core.planner import build
from edgetrain.core.ports import ArtifactStore
from edgetrain.reconcile.lanes import Lane, lane_of
from edgetrain.reconcile.lookup import read_main
from edgetrain.reconcile.observe import RETRIES, TICKETS, read_claims
from edgetrain.reconcile.outcomes import OUTCOMES
from edgetrain.reconcile.planning import checked, open_site, plan_of
from edgetrain.reconcile.site import Site, served
from edgetrain.reconcile.state import State


@dataclass(frozen=True)
class Due:
    """What each lane would look at, by name; `notes` is what could not be looked at."""

    commit: str
    train: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def due(root: Path, site: str | None = None) -> Due:
    """Look at main's tip as the remote has it now, and at the site's claims; no target, no data, no registry.

    A lane with nothing here may still have something to mend: `edgetrain drift` tells that. Raises InvalidFiles,
    UsageError for an unclear site, or RepositoryError.
    """
    state = checked(read_main(root, refresh=True))
    place = open_site(state, site)
    found: dict[Lane, list[str]] = {Lane.TRAIN: [], Lane.RELEASE: []}
    for change in plan_of(state).changes:
        if _counts(state, place, change):
            found[lane_of(change.operation)].append(change.id)
    notes = []
    try:
        for lane, name in _at_the_site(state, place, place.artifacts):
            found[lane].append(name)
    except EdgetrainError as error:
        notes.append(f"the state of site {place.name} could not be looked at: {error.message}")
    train, release = (tuple(dict.fromkeys(found[lane])) for lane in (Lane.TRAIN, Lane.RELEASE))
    return Due(state.commit, train, release, tuple(notes))


def _counts(state: State, place: Site, change: Change) -> bool:
    """Whether the change of the offline plan is work now. What only the workspace can tell counts too."""
    if change.operation in (Operation.TRAIN, Operation.SCORE):
        experiment = state.desired.experiments[change.subject["experiment"]]
        return any(target.site == place.name for target in state.desired.targets_for(experiment))
    return not change.conditional or change.operation is Operation.ATTACH


def _at_the_site(state: State, place: Site, artifacts: ArtifactStore) -> list[tuple[Lane, str]]:
    """Runs under way, those that nobody wants any more, wishes for a retry, and comments that are owed."""
    tickets = {
        name: ticket for name, ticket in read_claims(artifacts, TICKETS).items() if ticket["site"] == place.name
    }
    retries = read_claims(artifacts, RETRIES)
    glimpse = Observation(tickets=tickets, retries=retries)
    planned = build(state.desired, state.recorded, served(), glimpse, state.commit).changes
    under_way = [(Lane.TRAIN, f"ticket/{name}") for name in tickets]
    ended = [
        (lane, change.id) for change in planned for lane in Lane.ALL.parts if change.operation is Operation.CANCEL
    ]
    asked = [
        (Lane.TRAIN, change.id)
        for change in planned
        if change.operation is Operation.TRAIN and change.reason == "RetryRequested"
    ]
    tells = Lane.ALL.parts if place.configuration.forge is not None else ()
    owed = [(lane, name) for lane in tells for name, _ in artifacts.claims(f"{OUTCOMES}{lane.value}/")]
    return [*under_way, *ended, *asked, *owed]
