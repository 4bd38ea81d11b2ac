"""What was started and is not over: runs that a ticket tells of, and versions made again through Azure ML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgetrain.core.errors import EdgetrainError, NotFound
from edgetrain.core.ports import Compute
from edgetrain.reconcile.observe import TICKETS, read_claims
from edgetrain.reconcile.resubmit import Notes
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State


@dataclass(frozen=True)
class UnderWay:
    """A started, unrecorded run: its ticket, and the site whose store holds it."""

    ticket: Mapping[str, Any]
    site: Site

    def compute(self, state: State) -> Compute:
        """Where it runs. Raises NotFound if that target is not declared any more."""
        target = state.desired.targets.get(self.ticket["target"])
        if target is None:
            raise NotFound(
                f"its target {self.ticket['target']} is not declared any more",
                reason="TargetGone",
                fix="declare the target again until the run is over",
            )
        return self.site.compute(target)


def under_way(state: State, notes: list[str]) -> dict[str, UnderWay]:
    """Runs with a ticket at a site whose state this machine has; what can't be asked goes to `notes`."""
    done = {run.run_id for run in state.recorded.runs}
    found: dict[str, UnderWay] = {}
    for name in state.desired.configuration.sites:
        try:
            site = Site(state.desired.configuration, name, state.git.root)
            tickets = read_claims(site.artifacts, TICKETS)
        except EdgetrainError as error:
            notes.append(f"site {name} could not be asked: {error.message}")
            continue
        for run, ticket in tickets.items():
            if run not in done and ticket["site"] == name:
                found[run] = UnderWay(ticket, site)
    return found


def made_again(state: State) -> dict[str, UnderWay]:
    """Versions made again whose call has not seen the run to its end, at sites whose state this machine has: what
    their calls noted stands for a ticket."""
    found: dict[str, UnderWay] = {}
    for name in state.desired.configuration.sites:
        try:
            site = Site(state.desired.configuration, name, state.git.root)
        except EdgetrainError:  # `under_way` says so
            continue
        found |= {run: UnderWay(facts, site) for run, facts in Notes(site).read().items()}
    return found


def again(found: UnderWay) -> str:
    """The call that takes up a version that is made again."""
    return f"edgetrain reproduce {found.ticket['version']} --target {found.ticket['target']}"
