"""Plans runs: what to train, to adopt, to cancel and to judge again; what is settled stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.evaluation import UNSCORED, evaluated_by, evaluation_identity, evaluation_of, in_records
from edgetrain.core.gate import gates_digest
from edgetrain.core.identity import REASONS, may_match
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Difference, Effect, Operation
from edgetrain.core.planner.attachments import attachment_id, standing
from edgetrain.core.planner.refusals import usable
from edgetrain.core.planner.wanted import Wanted
from edgetrain.core.record import SETTLED, Outcome, RunRecord, run_id
from edgetrain.core.recorded import Recorded


def plan_runs(
    desired: Desired,
    recorded: Recorded,
    wanted: Sequence[Wanted],
    observed: Observation | None,
    refused: Collection[str],
) -> tuple[list[Change], list[tuple[str, str]]]:
    """Changes of runs, and `(run, why)` for what waits."""
    changes: list[Change] = []
    waiting: list[tuple[str, str]] = []
    for want in wanted:
        again = judged_anew(desired, recorded, want)
        change = _attempt(recorded, want, observed)
        if again is not None and again.operation is Operation.EVALUATE:
            changes.append(again)
        elif again is not None and change is None:  # a run to be made is judged by the evaluation of now
            change = again
        if change is None:
            continue
        # What was started is brought to its end, whatever keeps new runs away.
        if f"experiment/{want.experiment.name}" in refused and change.operation is not Operation.ADOPT:
            continue
        drained = not any(target.schedulable for target in desired.targets_for(want.experiment))
        if drained and change.operation is not Operation.ADOPT:  # what runs there already is brought to its end
            waiting.append((want.key, "TargetDrained"))
            continue
        if change.operation is Operation.TRAIN:
            after, waits = _attaching(desired, want, observed)
            if waits:
                waiting.append((want.key, waits))
                continue
            change = replace(change, after=after)
        changes.append(change)
    changes += _superseded(wanted, recorded, observed)
    return changes, waiting


def _attaching(desired: Desired, want: Wanted, observed: Observation | None) -> tuple[tuple[str, ...], str]:
    """The attachments that must come first, or what is waited for, where no target can take the run as it is."""
    targets = [target for target in desired.targets_for(want.experiment) if target.schedulable]
    if observed is None:
        coming = [target for target in targets if target.attached and desired.configuration.attaches]
        names = [attachment_id(target.metadata.name) for target in coming]
        return (tuple(names), "") if len(names) == len(targets) else ((), "")
    if any(not usable(desired, want.experiment, target, observed) for target in targets):
        return (), ""
    found = [standing(target, observed) for target in targets]
    changes = tuple(one.change.id for one in found if one.change)
    waits = next((one.waits for one in found if one.waits), "")
    return changes, "" if changes else waits


def judged_anew(desired: Desired, recorded: Recorded, want: Wanted) -> Change | None:
    """Changed gates judge stored results again, and a changed evaluation scores stored models again: neither
    trains. A version that cites the run has settled the matter."""
    run, model = want.last, desired.models[want.experiment.model]
    if run is None or desired.cites(run.digest) or not _may_be_judged(recorded, run):
        return None
    of = evaluation_of(desired, model, run.data["identityOf"])
    differences = [
        Difference(name, before, now)
        for name, before, now in (
            ("evaluation", evaluated_by(recorded, run), evaluation_identity(of)),
            ("gates", recorded.gates(run)["digest"], gates_digest(model.gates)),
        )
        if before != now
    ]
    if not differences:
        return None
    identity = evaluation_identity(of)
    subject: dict[str, Any] = {"run": run.run_id, "record": run.digest, "model": model.name}
    operation = Operation.EVALUATE
    if identity is not None and not in_records(desired, recorded, model, run, identity):
        operation = Operation.SCORE
        subject |= {
            "experiment": run.experiment,
            "evaluation": identity,
            "identityOf": dict(run.data["identityOf"]),
        }
    return Change(
        id=f"evaluation/{run.run_id}",
        operation=operation,
        effect=Effect.CREATE,
        reason="EvaluationChanged" if differences[0].path == "evaluation" else "GatesChanged",
        differences=tuple(differences),
        subject=subject,
    )


def _may_be_judged(recorded: Recorded, run: RunRecord) -> bool:
    """Whether gates have judged the run, or only its evaluation kept them from it."""
    if recorded.outcome(run) in (Outcome.CANDIDATE, Outcome.NOT_BETTER):
        return True
    last = recorded.evaluation(run) or run
    return last.data.get("reason") in UNSCORED and bool(run.data["outputs"])


def _attempt(recorded: Recorded, want: Wanted, observed: Observation | None) -> Change | None:
    last, identity = want.last, want.identity
    attempt = 1 if last is None else last.attempt + 1
    next_id = run_id(want.experiment.name, identity, attempt) if identity else ""
    subject = {
        "experiment": want.experiment.name,
        "model": want.experiment.model,
        "trial": dict(want.trial),
        "attempt": attempt,
        "identity": identity,
        "identityOf": dict(last.data["identityOf"] if last else want.of),
    }
    held = _under_way(want, observed)
    if observed and held:
        if held != next_id:
            subject |= {key: observed.tickets[held][key] for key in ("attempt", "identity", "identityOf")}
        return Change(want.key, Operation.ADOPT, Effect.CREATE, "RunUnderWay", subject={**subject, "run": held})
    if last is None:
        reason, differences = _why(want, recorded)
    elif observed and next_id in observed.retries:
        reason, differences = "RetryRequested", ()
        subject["retry"] = dict(observed.retries[next_id])
    elif last.outcome is Outcome.LOST and last.attempt <= want.experiment.retries:
        reason, differences = "RunLost", ()
    elif last.outcome in SETTLED or last.outcome is Outcome.LOST:
        return None
    return Change(want.key, Operation.TRAIN, Effect.CREATE, reason, differences, subject)


def _under_way(want: Wanted, observed: Observation | None) -> str | None:
    """The started, unrecorded run that is the wanted one's next attempt.

    What can't be read now, or is left open by the manifest, may be as it was at the start: neither a look
    that failed nor a drained target ends a long training.
    """
    if observed is None:
        return None
    if want.identity:
        name = run_id(want.experiment.name, want.identity, want.last.attempt + 1 if want.last else 1)
        if name in observed.tickets:
            return name
    if want.last:
        return None
    environment = want.experiment.environment
    of = {**want.of, "python": environment.python, "platform": environment.platform}
    tickets = sorted(observed.tickets.items())
    return next((name for name, ticket in tickets if may_match(of, ticket["identityOf"])), None)


def _why(want: Wanted, recorded: Recorded) -> tuple[str, tuple[Difference, ...]]:
    """Why there is no such run yet: what differs from the experiment's nearest recorded run."""
    earlier = recorded.runs_of(want.experiment.name)
    if not earlier:
        return "NewExperiment", ()
    options = [(differences_of(want.of, run), run) for run in earlier]
    differences, _ = min(options, key=lambda option: (len(option[0]), -option[1].ordinal))
    reasons = {REASONS.get(difference.path.split(".")[0], "IdentityChanged") for difference in differences}
    if want.experiment.sweep and reasons <= {"ParametersChanged"}:
        return "NewTrial", differences
    return (reasons.pop() if len(reasons) == 1 else "ExperimentChanged"), differences


def differences_of(wanted: Mapping[str, Any], run: RunRecord) -> tuple[Difference, ...]:
    """The fields in which a wanted run's identity differs from a recorded one's; open fields don't count."""
    recorded = run.data["identityOf"]
    found = []
    for key in sorted(wanted):
        new, old = wanted[key], recorded.get(key)
        if new == old or (new is None and key in ("python", "platform")):
            continue
        if isinstance(new, dict) and isinstance(old, dict):
            found += [
                Difference(f"{key}.{name}", old.get(name), new.get(name))
                for name in sorted(set(new) | set(old))
                if new.get(name) != old.get(name)
            ]
        else:
            found.append(Difference(key, old, new))
    return tuple(found)


def _superseded(wanted: Sequence[Wanted], recorded: Recorded, observed: Observation | None) -> Iterator[Change]:
    """Started runs that nobody wants any more. What has its record is over and needs no change."""
    if observed is None:
        return
    identities = {want.identity for want in wanted}
    held = {_under_way(want, observed) for want in wanted}
    done = {run.run_id for run in recorded.runs}
    for name, ticket in sorted(observed.tickets.items()):
        if ticket["identity"] not in identities and name not in done | held:
            yield Change(
                id=f"run/{name}",
                operation=Operation.CANCEL,
                effect=Effect.CREATE,
                reason="Superseded",
                subject={**ticket, "run": name},
            )
