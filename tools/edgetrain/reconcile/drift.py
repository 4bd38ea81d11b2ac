"""Compares the world with what git says of it, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgetrain.core.codes.policy import ATTACHMENT_HELD, DATASTORE_HELD
from edgetrain.core.digest import digest_bytes, short
from edgetrain.core.errors import UsageError
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Plan
from edgetrain.core.planner.releases import FOREIGN
from edgetrain.core.ports import Forge
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.drift_seen import idle_targets, lost_files, moved_data
from edgetrain.reconcile.lookup import read_main
from edgetrain.reconcile.planning import checked, observe_site, open_site, plan_of
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State, read_work_tree
from edgetrain.render.drift import Drift
from edgetrain.render.drift_issue import issue_body, issue_title
from edgetrain.repo.git import Git

# Why the refreshed plan changes something that was as it should be before somebody touched it.
DRIFTED = frozenset(
    {"AttachmentDrifted", "AttachmentFailed", "ChannelDrifted", "Missing", "TagMoved", "WorkspaceDrifted"}
)
LABEL = "edgetrain"
MARK = 64
HELD = frozenset({ATTACHMENT_HELD.id, DATASTORE_HELD.id})


def drift(root: Path, site: str | None = None) -> Drift:
    """What differs at the site. Raises InvalidFiles, UsageError for an unclear site, or ProviderError."""
    state = checked(read_work_tree(Git.find(root)))
    return _look(state, open_site(state, site))


def drift_of_main(root: Path, site: str | None = None) -> tuple[Drift, Forge]:
    """What differs from main as the remote has it, and the forge to keep an issue on. Raises besides UsageError
    without a forge."""
    state = checked(read_main(root, refresh=True))
    place = open_site(state, site)
    if place.forge is None:
        raise UsageError("there is no forge to keep an issue on", fix="declare one in edgetrain.yaml: spec.forge")
    return _look(state, place), place.forge


def keep_issue(forge: Forge, found: Drift) -> int | None:
    """Ensure one open issue while something differs, and none else; its number. Raises ProviderError."""
    return forge.issue(issue_mark(found.site), issue_title(found), issue_body(found), [LABEL])


def issue_mark(site: str) -> str:
    """By what the site's issue is found again; marks are shorter than names may be."""
    mark = f"drift-{site}"
    return mark if len(mark) <= MARK else f"{mark[: MARK - 9]}-{short(digest_bytes(site.encode()), 8)}"


def _look(state: State, place: Site) -> Drift:
    observed: Observation = observe_site(state, place)
    found = drift_of(plan_of(state, observed), state.recorded, place.name, state.git.head())
    noted = (*found.noted, *moved_data(state, place), *idle_targets(state, place))
    return replace(found, lost=tuple(lost_files(state, place)), noted=noted)


def drift_of(plan: Plan, recorded: Recorded, site: str, commit: str) -> Drift:
    """The part of a refreshed plan that is drift; pure."""
    drifted = tuple(_drifted(plan, recorded))
    pending = [change for change in plan.changes if not change.conditional and change not in drifted]
    return Drift(
        site=site,
        commit=commit,
        drifted=drifted,
        foreign=tuple(note for note in plan.notes if note[0].startswith(FOREIGN)),
        refused=tuple(problem for problem in plan.problems if problem.code in HELD),
        noted=tuple(note for note in plan.notes if not note[0].startswith(FOREIGN)),
        pending=len(pending),
    )


def _drifted(plan: Plan, recorded: Recorded) -> Iterator[Change]:
    used = {run.data["target"]["name"] for run in recorded.runs}
    for change in plan.changes:
        # Git does not say what is attached, but a run that was made on a target does.
        gone = change.reason == "NotAttached" and change.subject.get("target") in used
        if gone or change.reason in DRIFTED:
            yield change
