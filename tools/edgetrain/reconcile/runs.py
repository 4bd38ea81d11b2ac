"""Lists runs, reads their logs, cancels them, asks for another attempt, proposes their models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edgetrain.core.digest import canonical
from edgetrain.core.errors import EdgetrainError, ProviderError, Unavailable, UsageError
from edgetrain.core.plan import Change, Effect, Operation
from edgetrain.core.planner import wanted_runs
from edgetrain.core.planner.proposals import proposal_branch
from edgetrain.core.ports import RunPhase, RunState
from edgetrain.core.record import Outcome, RunRecord, run_id
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.facts import ticket_name
from edgetrain.reconcile.lookup import no_run, one_of, read_main, run_named
from edgetrain.reconcile.observe import GIVEN_UP, RETRIES, read_claims
from edgetrain.reconcile.person import person
from edgetrain.reconcile.planning import checked, plan_of
from edgetrain.reconcile.proposing import propose
from edgetrain.reconcile.report import Report, Status
from edgetrain.reconcile.resubmit import Notes, in_our_words, of_no_use
from edgetrain.reconcile.scoring import SCORINGS, last_attempt
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.slots import Slots
from edgetrain.reconcile.state import State, open_ledger
from edgetrain.reconcile.under_way import UnderWay, again, made_again, under_way
from edgetrain.render.runs import RunRow, Runs
from edgetrain.repo.message import one_line

CACHES = ".edgetrain"


def list_runs(root: Path, experiment: str | None = None, outcome: str | None = None) -> Runs:
    """Recorded runs in the order of facts, then those under way, then those that wait for an apply."""
    state = read_main(root)
    notes: list[str] = []
    if state.git.boundary():
        notes.append("this clone is shallow: the order of older runs can't be told; git fetch --unshallow")
    started = under_way(state, notes)
    rows = [_recorded(state, run) for run in state.recorded.runs]
    rows += [_under_way(state, name, found, notes) for name, found in sorted(started.items())]
    rows += _made_again(state, notes)
    rows += _waiting(state, started)
    chosen = [
        row
        for row in rows
        if (experiment is None or row.experiment == experiment) and (outcome is None or row.outcome == outcome)
    ]
    return Runs(tuple(chosen), tuple(notes))


def _recorded(state: State, run: RunRecord) -> RunRow:
    judged = state.recorded.evaluation(run)
    data = run.data
    last = judged.data if judged else data
    return RunRow(
        id=run.run_id,
        experiment=run.experiment,
        model=run.model,
        state="recorded",
        outcome=state.recorded.outcome(run).value,
        phase=None,
        target=data["target"].get("name"),
        started=data.get("started"),
        ended=data.get("ended"),
        seconds=data.get("seconds"),
        metrics=run.metrics,
        reason=str(last.get("reason", "")),
        message=str(last.get("message", "")),
    )


def _under_way(state: State, name: str, found: UnderWay, notes: list[str]) -> RunRow:
    seen = _seen(state, name, found, notes)
    absent = seen is not None and seen.phase is RunPhase.ABSENT
    over = seen is not None and seen.phase in (RunPhase.ENDED, RunPhase.LOST)
    reason = "the next apply records it" if over else ""
    return _started(name, found, seen, "ticket taken, not started" if absent else "", reason)


def _made_again(state: State, notes: list[str]) -> Iterator[RunRow]:
    """Versions that are made again, or that a call which was killed has left so."""
    for name, found in sorted(made_again(state).items()):
        seen = _seen(state, name, found, notes)
        if seen is not None and of_no_use(seen):
            Notes(found.site).drop(name)
            continue
        phase = "not submitted" if seen is not None and seen.phase is RunPhase.ABSENT else ""
        reason = f"{again(found)} takes it up; edgetrain cancel ends it"
        yield _started(name, found, seen, phase, reason)


def _seen(state: State, name: str, found: UnderWay, notes: list[str]) -> RunState | None:
    """How it is; None, with a note, if its target can't be asked."""
    try:
        return found.compute(state).inspect(name)
    except EdgetrainError as error:
        notes.append(f"{name} could not be looked at: {error.message}")
        return None


def _started(name: str, found: UnderWay, seen: RunState | None, phase: str, reason: str) -> RunRow:
    return RunRow(
        id=name,
        experiment=str(found.ticket["experiment"]),
        model=str(found.ticket["model"]),
        state="under way",
        outcome=None,
        phase=phase or (seen.phase.value if seen else "not known"),
        target=str(found.ticket["target"]),
        started=seen.started if seen else None,
        ended=seen.ended if seen else None,
        seconds=None,
        metrics={},
        reason=reason,
    )


def _waiting(state: State, started: Mapping[str, UnderWay]) -> Iterator[RunRow]:
    """What the offline plan would start, and what it holds back."""
    plan = plan_of(state)
    slots = _slots(state, started.values())
    busy = [(u.ticket["experiment"], u.ticket["trial"]) for u in started.values()]
    held = dict(plan.waiting)
    coming = [change for change in plan.changes if change.operation is Operation.TRAIN]
    for change in coming:
        subject = change.subject
        if (subject["experiment"], subject["trial"]) not in busy:
            known = subject["identity"]
            name = run_id(subject["experiment"], known, subject["attempt"]) if known else change.id
            full = _full(state, subject["experiment"], slots)
            yield _idle(
                name, subject["experiment"], subject["model"], "NoFreeSlot" if full else change.reason, full
            )
    for key, reason in held.items():
        name = key.removeprefix("run/").partition("/")[0]
        wanted = state.desired.experiments.get(name)
        yield _idle(key, name, wanted.model if wanted else "", reason)


def _slots(state: State, started: Iterable[UnderWay]) -> Slots:
    slots = Slots()
    for found in started:
        target = state.desired.targets.get(found.ticket["target"])
        experiment = state.desired.experiments.get(found.ticket["experiment"])
        if target is not None and experiment is not None:
            slots.take(ticket_name(found.ticket), target, experiment)
    return slots


def _full(state: State, name: str, slots: Slots) -> str:
    """Why no target has room for the experiment's next run; empty if one has."""
    experiment = state.desired.experiments[name]
    if experiment.max_concurrent and slots.of(name) >= experiment.max_concurrent:
        return f"{slots.of(name)} of its runs are under way, and it allows no more"
    open_ = [target for target in state.desired.targets_for(experiment) if target.schedulable]
    if not open_ or any(slots.room(target, experiment) for target in open_):
        return ""
    return "; ".join(
        f"{target.metadata.name} has {max(slots.left(target), 0)} of {target.capacity.slots} slots free"
        for target in open_
    )


def _idle(name: str, experiment: str, model: str, reason: str, message: str = "") -> RunRow:
    return RunRow(name, experiment, model, "waiting", None, None, None, None, None, None, {}, reason, message)


# --- acting on runs ----------------------------------------------------------------------------------


def cancel(root: Path, text: str, lost: bool = False, reason: str = "") -> str:
    """End a run that is under way; answer what was done. With `lost` its target, which is gone for good, is
    not asked. Who asks, and the reason, go on record. Raises UsageError if it is over or unknown."""
    state = read_main(root)
    notes: list[str] = []
    started, remade = under_way(state, notes), made_again(state)
    name = one_of((*started, *remade), in_our_words(text))
    if name is None:
        raise _not_under_way(state, text, (*started, *remade), notes)
    by = ": ".join(part for part in (person(state.git) or "a person", reason) if part)
    if name in remade:
        return _cancel_made_again(state, name, remade[name], lost, one_line(f"cancelled by {by}"))
    if lost:
        by = one_line(f"given up by {by}")
        started[name].site.artifacts.claim(GIVEN_UP + name, by.encode())
        return f"{name} is given up; the next apply records it as lost"
    compute = started[name].compute(state)
    phase = compute.inspect(name).phase
    if phase is RunPhase.ENDED and _cancel_scoring(state, started[name].site, name, one_line(f"cancelled by {by}")):
        return (
            f"the evaluation of {name} is cancelled; the next apply records it, and nothing starts it again unasked"
        )
    if phase in (RunPhase.ENDED, RunPhase.LOST):
        return f"{name} is over already ({phase.value}); the next apply records how it ended"
    compute.cancel(name, one_line(f"cancelled by {by}"))
    return f"{name} is cancelled; the next apply records it, and nothing starts it again unasked"


def _cancel_made_again(state: State, name: str, found: UnderWay, lost: bool, reason: str) -> str:
    """End a run that makes a version again: nothing is recorded of it, and nobody takes it up."""
    if lost:
        raise UsageError(f"{name} makes a version again, and no apply waits for it", fix="call it without --lost")
    compute = found.compute(state)
    seen = compute.inspect(name)
    if seen.phase in (RunPhase.ENDED, RunPhase.LOST) and not of_no_use(seen):
        return f"{name} is over already; {again(found)} compares it"
    if not of_no_use(seen):
        compute.cancel(name, reason)
    Notes(found.site).drop(name)
    return f"{name} is cancelled; nothing was compared, and nothing takes it up"


def _cancel_scoring(state: State, site: Site, run: str, reason: str) -> bool:
    """End the evaluation that an ended run waits for; False if it waits for none."""
    for facts in read_claims(site.artifacts, SCORINGS).values():
        target = state.desired.targets.get(facts["target"])
        if facts["run"] == run and target is not None:
            compute = site.aside(target)
            name = last_attempt(compute, facts)
            if compute.inspect(name).phase in (RunPhase.PREPARING, RunPhase.RUNNING):
                compute.cancel(name, reason)
                return True
    return False


def _not_under_way(state: State, text: str, started: Iterable[str], notes: list[str]) -> UsageError:
    recorded = {run.run_id: run for run in state.recorded.runs}
    name = one_of(recorded, text)
    if name is not None:
        outcome = state.recorded.outcome(recorded[name]).value
        return UsageError(f"{name} is over: {outcome}", fix="only a run under way can be cancelled")
    error = no_run(text, [*started, *recorded])
    error.fix = "; ".join([error.fix, *notes])
    return error


def retry(root: Path, text: str, reason: str) -> str:
    """Ask for the next attempt of a recorded run, in the claim that apply looks for; answer its run id.

    Raises UsageError for a run that is unknown, under way, not the last attempt, or not wanted any more.
    """
    said = one_line(reason)
    if not said:
        raise UsageError("a retry needs a reason", fix='--reason "the disk was full"')
    state = checked(read_main(root, refresh=True))
    by = person(state.git)
    if not by:
        raise UsageError(
            "git does not know who you are", fix='git config user.name "..."; git config user.email ...'
        )
    run = _retryable(state, text)
    following = run_id(run.experiment, run.identity, run.attempt + 1)
    site = _site_of(state, run)
    wish = {"by": by, "reason": said, "run": run.run_id}
    held = json.loads(site.artifacts.claim(RETRIES + following, canonical(wish)))
    if held != wish:
        raise UsageError(
            f"{following} was asked for already, by {held.get('by')}: {held.get('reason')}",
            fix="the next apply starts it: edgetrain apply",
        )
    return following


def _retryable(state: State, text: str) -> RunRecord:
    started = under_way(state, [])
    known = {run.run_id for run in state.recorded.runs}
    if (waiting := one_of({*started, *known}, text)) in started:
        raise UsageError(f"{waiting} is under way", fix=f"wait for its end, or: edgetrain cancel {waiting}")
    run = run_named(state.recorded, text)
    for want in wanted_runs(state.desired, state.recorded, None):
        if want.last is None or want.identity != run.identity:
            continue
        if want.last.digest != run.digest:
            raise UsageError(
                f"{run.run_id} is not the last attempt",
                fix=f"retry that one: edgetrain retry {want.last.run_id} --reason ...",
            )
        following = run_id(run.experiment, run.identity, run.attempt + 1)
        if following in started:
            raise UsageError(f"its next attempt {following} is under way", fix=f"edgetrain logs {following}")
        return run
    raise UsageError(
        f"{run.run_id} is not what main wants any more",
        fix=f"bring experiments/{run.experiment} back to commit {run.data['commit'][:12]}, merge, then retry",
    )


def _site_of(state: State, run: RunRecord) -> Site:
    """The site that the run was made at. Raises Unavailable if this machine does not have its state."""
    name = str(run.data["target"].get("site", ""))
    if name in state.desired.configuration.sites:
        site = Site(state.desired.configuration, name, state.git.root)
        if site.state.is_dir():
            return site
    raise Unavailable(
        f"this machine does not hold the state of site {name}",
        reason="NotTheRunner",
        fix=f"run this on the runner of site {name}",
    )


def propose_again(root: Path, text: str, report: Report) -> tuple[str, str]:
    """Propose a recorded candidate as the next version, also one whose proposal was closed.

    Answers version and branch. Raises UsageError for a run that is no candidate or a version already.
    """
    state = checked(read_main(root, refresh=True))
    run = run_named(state.recorded, text)
    model = state.desired.models.get(run.model)
    if model is None or model.metadata.retired:
        raise UsageError(f"model {run.model} is retired or not declared", fix=f"see models/{run.model}/model.yaml")
    if model.unreviewed:
        what = f"model {model.name} is of high risk, and `release: automatic` would release it without a review"
        raise UsageError(what, fix=f"write `release: review` in {model.path}, merge it, then propose again")
    merged = next((v for v in state.desired.versions.values() if v.record == run.digest), None)
    if merged is not None:
        raise UsageError(f"{run.run_id} is {merged.id} already", fix=f"edgetrain audit {merged.id}")
    outcome = state.recorded.outcome(run)
    if outcome is not Outcome.CANDIDATE:
        raise UsageError(
            f"{run.run_id} is {outcome.value}, and only a candidate can be proposed",
            fix="see its gates: edgetrain log " + run.model,
        )
    site = _site_of(state, run)
    ledger = open_ledger(state, lambda step: None, lambda note: None)
    number = state.desired.latest_version(run.model) + 1
    branch = proposal_branch(run.model, number)
    change = Change(
        id=f"proposal/{run.model}@{number}",
        operation=Operation.PROPOSE,
        effect=Effect.CREATE,
        reason="AskedFor",
        subject={
            "model": run.model,
            "version": number,
            "run": run.run_id,
            "record": run.digest,
            "release": model.release,
            "branch": branch,
        },
    )
    result = propose(Context(state, site, ledger, report), change)
    if result.status is not Status.APPLIED:
        raise ProviderError(result.message, reason=result.reason, fix=result.fix)
    automatic = model.release == "automatic"
    return f"{run.model}@{number}", state.desired.configuration.branch if automatic else branch
