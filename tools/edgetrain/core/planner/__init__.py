"""Desired × actual → plan. `build` is the whole of it; each file beside it plans one sort of object."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.egress import Verdict, summary
from edgetrain.core.errors import UnsafePlan
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Effect, Operation, Plan, surprises
from edgetrain.core.planner.attachments import plan_attachments
from edgetrain.core.planner.azure import travels
from edgetrain.core.planner.datastores import datastore_notes, plan_datastores
from edgetrain.core.planner.proposals import plan_closings, plan_proposals
from edgetrain.core.planner.refusals import refuse
from edgetrain.core.planner.releases import plan_notes, plan_releases
from edgetrain.core.planner.runs import plan_runs
from edgetrain.core.planner.wanted import Wanted, wanted_runs
from edgetrain.core.problem import Problem
from edgetrain.core.recorded import Recorded

__all__ = ["Wanted", "build", "check_limits", "surprises", "wanted_runs"]

# Below this many managed objects a share says nothing: one of two is already half.
RELATIVE_FROM = 10


def build(
    desired: Desired,
    recorded: Recorded,
    served: Mapping[str, Collection[str]],
    observed: Observation | None = None,
    commit: str = "",
    guarded: Mapping[str, Verdict] | None = None,
) -> Plan:
    """The plan; offline if nothing was observed. `served` lists, by port, the types that a provider serves;
    `guarded` is the egress guard's verdict on each experiment: it keeps new runs from starting, no more.

    Channel moves and releases come first, then attachments, evaluations, runs, and last what follows from runs.
    """
    problems, refused = refuse(desired, recorded, served, observed)
    wanted = wanted_runs(desired, recorded, observed)
    planned, waiting = plan_runs(desired, recorded, wanted, observed, refused)
    runs, kept = _guarded(planned, guarded or {})
    attachments, held, attaching = plan_attachments(desired, observed)
    datastores, unfit = plan_datastores(desired, observed)
    proposals = list(plan_proposals(desired, recorded, wanted, runs, observed, refused))
    changes: list[Change] = [
        *plan_releases(desired, recorded, observed, refused),
        *attachments,
        *datastores,
        *runs,
        *plan_closings(desired, recorded, [*runs, *proposals], observed),
        *proposals,
    ]
    return Plan(
        desired=desired.digest,
        changes=tuple(changes),
        problems=tuple(sorted([*problems, *kept, *held, *unfit])),
        refreshed=observed is not None,
        waiting=(*attaching, *waiting),
        managed=_managed(recorded),
        commit=commit,
        egress=tuple(_egress(desired, runs, guarded or {}, observed)),
        notes=(*plan_notes(desired, recorded, observed), *datastore_notes(desired, observed)),
    )


def _guarded(runs: Sequence[Change], guarded: Mapping[str, Verdict]) -> tuple[list[Change], list[Problem]]:
    """The runs that may start, and why the others may not. What runs already is brought to its end."""
    free: list[Change] = []
    why: set[Problem] = set()
    for change in runs:
        verdict = guarded.get(str(change.subject.get("experiment")))
        starts = change.operation in (Operation.TRAIN, Operation.SCORE)
        if starts and verdict is not None and verdict.refusals:
            why.update(verdict.refusals)
        else:
            free.append(change)
    return free, sorted(why)


def _egress(
    desired: Desired, runs: Sequence[Change], guarded: Mapping[str, Verdict], observed: Observation | None
) -> Iterator[Mapping[str, Any]]:
    """What the runs to start get as code, and what of the egress rules is waived for them."""
    names = {str(change.subject["experiment"]) for change in runs if change.operation is Operation.TRAIN}
    for name in sorted(names & set(guarded)):
        experiment, snapshot = desired.experiments[name], desired.snapshots[name]
        azure = travels(desired, experiment, observed)
        yield {**summary(experiment, snapshot, guarded[name]), **({"azure": azure} if azure else {})}


def _managed(recorded: Recorded) -> int:
    models = {release.model for release in recorded.releases}
    released = sum(release.event == "released" for release in recorded.releases)
    return released + sum(len(recorded.channels(model)) for model in models)


def check_limits(plan: Plan, desired: Desired, updates: int | None = None, deletions: int | None = None) -> None:
    """Raise UnsafePlan if more is updated or deleted than `edgetrain.yaml` (or the given number) allows."""
    limits = desired.configuration
    if not desired.experiments and not desired.models and plan.count(Effect.DELETE):
        raise UnsafePlan(
            "the repository holds no experiment and no model, so nothing is deleted",
            reason="EmptySource",
            fix="check that the right commit and folder were read",
        )
    for effect, limit, given, option in (
        (Effect.UPDATE, limits.updates, updates, "max-updates"),
        (Effect.DELETE, limits.deletions, deletions, "max-deletions"),
    ):
        count = plan.count(effect)
        if given is not None:
            allowed = given
        elif plan.managed >= RELATIVE_FROM:
            allowed = min(limit.absolute, int(limit.relative * plan.managed))
        else:
            allowed = limit.absolute
        if count > allowed:
            raise UnsafePlan(
                f"the plan has {count} {effect.value}s and {allowed} are allowed",
                fix=f"review the plan; if it is right: apply --{option} {count}",
            )
