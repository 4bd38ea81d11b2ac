"""One run from ticket to record. Every step is check-then-act, so any apply can take it up anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from edgetrain.core.errors import ProviderError, Rejected
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.plan import Change, Operation
from edgetrain.core.ports import Compute, Examination, Harvest, RunPhase, RunState, TrackedRun
from edgetrain.core.record import MAX_RECORD_BYTES, Outcome, parse_record, run_path
from edgetrain.core.template import literal
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.evaluating import Evaluated, Trained, evaluate_trained, judge
from edgetrain.reconcile.facts import tags_of, ticket_name
from edgetrain.reconcile.finish import (
    Kept,
    Verdict,
    check,
    keep,
    refusal,
    rules_of,
    run_record,
    undecided,
    verdict_of,
)
from edgetrain.reconcile.logs import save_log, tell_log
from edgetrain.reconcile.observe import GIVEN_UP, TICKETS
from edgetrain.reconcile.report import Result, Status
from edgetrain.reconcile.scoring import tidy_scorings
from edgetrain.reconcile.starting import measure, start, take_ticket
from edgetrain.reconcile.tidying import tidy
from edgetrain.reconcile.waiting import wait

# Another apply may be storing a large model under the same lock.
LOCK_SECONDS = 3600.0


def conduct(context: Context, change: Change, target: ComputeTarget, freed: Callable[[], None]) -> Result:
    """Train (or adopt) one run, wait for its end, and record it; `freed` is called when it has ended.

    Raises Stopped if the run goes on: asked to stop meanwhile, or not to wait.
    """
    experiment = context.state.desired.experiments[change.subject["experiment"]]
    site = context.site
    if (given_up := given_up_on(context, change)) is not None:
        freed()
        state = RunState(RunPhase.LOST, message="a person gave it up: its target is gone for good")
        return finish(context, site.compute(target), experiment, given_up, state)
    facts = running(context, change, target) if change.operation is Operation.ADOPT else None
    if facts is None:
        data, staged = measure(context, experiment, target, change.subject["identityOf"]["inputs"])
        if change.subject["identity"] is None:
            raise Rejected(
                "the data could not be digested when the plan was made", reason="IdentityUnknown", fix="apply again"
            )
        facts = take_ticket(context, change, experiment, target, data, staged)
    name = ticket_name(facts)
    if facts["target"] != target.metadata.name:
        target = context.state.desired.targets[facts["target"]]
    compute = site.compute(target)
    done = recorded_elsewhere(context, facts)
    if done is not None:
        tidy(context, compute, facts)
        return done
    start(context, compute, experiment, facts)
    context.step("wait")
    state = wait(context, compute, name)
    model = context.state.desired.models.get(facts["model"])
    if model is None or model.evaluation is None or verdict_of(state).outcome is not None:
        freed()
        with context.finishing:
            return finish(context, compute, experiment, facts, state)
    with context.finishing:
        secured = secure(context, compute, experiment, facts, state)
    evaluated = None
    if secured is not None and secured.verdict.outcome is None:
        # In the slot of the run, and outside every lock.
        evaluated = evaluate_trained(context, model, experiment, target, trained_of(facts, secured.kept))
    freed()
    with context.finishing:
        return finish(context, compute, experiment, facts, state, secured, evaluated)


def trained_of(facts: Mapping[str, Any], kept: Kept) -> Trained:
    """A ticket's run as an evaluation needs it."""
    return Trained(
        run=ticket_name(facts),
        identity_of=facts["identityOf"],
        outputs=kept.outputs,
        inputs={key: value["digest"] for key, value in facts["inputs"].items()},
        record=run_path(facts["experiment"], facts["identity"], facts["attempt"]),
    )


def running(context: Context, change: Change, target: ComputeTarget) -> dict[str, Any] | None:
    """The ticket of a run that was started, whatever became of its data since; None if it still must be."""
    name = str(change.subject["run"])
    held = dict(context.site.artifacts.claims(TICKETS)).get(TICKETS + name)
    if held is None or context.site.compute(target).inspect(name).phase is RunPhase.ABSENT:
        return None
    facts: dict[str, Any] = json.loads(held)
    return facts


def given_up_on(context: Context, change: Change) -> dict[str, Any] | None:
    """The ticket of a started run that a person gave up, for its target never answers again."""
    if change.operation is not Operation.ADOPT:
        return None
    name, artifacts = str(change.subject["run"]), context.site.artifacts
    held = dict(artifacts.claims(TICKETS + name)).get(TICKETS + name)
    if held is None or GIVEN_UP + name not in dict(artifacts.claims(GIVEN_UP + name)):
        return None
    facts: dict[str, Any] = json.loads(held)
    return facts


def recorded_elsewhere(context: Context, facts: Mapping[str, Any]) -> Result | None:
    """The result of a run that another apply has recorded since this one read main."""
    git, branch = context.state.git, context.site.configuration.branch
    path = run_path(facts["experiment"], facts["identity"], facts["attempt"])
    data = git.show(git.tip(branch), path, limit=MAX_RECORD_BYTES)
    if data is None:
        return None
    record = parse_record(path, data)
    reason, message = str(record.data["reason"]), str(record.data["message"])
    outcome = Outcome(record.data["outcome"])
    return Result(ticket_name(facts), "train", Status.UNCHANGED, reason, message, outcome=outcome)


def still_there(context: Context, facts: Mapping[str, Any]) -> bool:
    """Whether main still has the experiment and its model: a record without them would be a problem of main."""
    git = context.state.git
    tip = git.tip(context.site.configuration.branch)
    paths = (f"experiments/{facts['experiment']}/experiment.yaml", f"models/{facts['model']}/model.yaml")
    return all(git.show(tip, path) is not None for path in paths)


@dataclass(frozen=True)
class Secured:
    """An ended run whose outputs were checked, and stored if they passed: then the verdict is open."""

    verdict: Verdict
    harvest: Harvest = field(default_factory=lambda: Harvest((), {}))
    examination: Examination | None = None
    kept: Kept = field(default_factory=Kept)


def secure(
    context: Context, compute: Compute, experiment: Experiment | None, facts: Mapping[str, Any], state: RunState
) -> Secured | None:
    """Check and store what an ended run left, under its lock; None if nothing is to be decided any more."""
    name = ticket_name(facts)
    with context.site.artifacts.lock(f"run/{name}", timeout=LOCK_SECONDS):
        if recorded_elsewhere(context, facts) is not None or not still_there(context, facts):
            return None
        return _secured(context, compute, experiment, facts, state)


def _secured(
    context: Context, compute: Compute, experiment: Experiment | None, facts: Mapping[str, Any], state: RunState
) -> Secured:
    name = ticket_name(facts)
    verdict = verdict_of(state, "Superseded" if experiment is None else "")
    if verdict.outcome is None:
        verdict = data_unchanged(context, experiment, facts)
    if verdict.outcome is not None:
        return Secured(verdict)
    harvest = compute.harvest(name, {key: value["path"] for key, value in facts["outputs"].items()})
    verdict = check(facts, harvest)
    if verdict.outcome is not None:
        return Secured(verdict, harvest)
    context.step("examine")
    examination = compute.examine(name, rules_of(facts, harvest))
    verdict = refusal(facts, examination)
    if verdict.outcome is not None:
        return Secured(verdict, harvest, examination)
    if facts["logs"] != "site":
        tell_log(context, compute, name)
    storing = partial(context.step, "artifacts")
    kept = keep(facts, harvest, compute, name, context.site.artifacts, context.scratch, storing)
    return Secured(verdict, harvest, examination, kept)


def finish(
    context: Context,
    compute: Compute,
    experiment: Experiment | None,
    facts: Mapping[str, Any],
    state: RunState,
    secured: Secured | None = None,
    evaluated: Evaluated | None = None,
) -> Result:
    """Check, store, judge, track and record an ended run; then clear it away. `secured` is what was stored
    already, `evaluated` what the model's evaluation said of that."""
    name = ticket_name(facts)
    context.tell("Checking", name)
    with context.site.artifacts.lock(f"run/{name}", timeout=LOCK_SECONDS):
        done = recorded_elsewhere(context, facts)
        if done is not None:
            return done
        if not still_there(context, facts):
            tidy(context, compute, facts)
            message = f"{facts['experiment']} was deleted before it had a record, so none is written"
            return Result(name, "train", Status.APPLIED, "Superseded", message, outcome=Outcome.CANCELLED)
        secured = secured or _secured(context, compute, experiment, facts, state)
        verdict, kept, harvest = secured.verdict, secured.kept, secured.harvest
        model = context.state.desired.models.get(facts["model"])
        if verdict.outcome is None and model is not None and model.evaluation is not None and evaluated is None:
            verdict = Verdict(
                Outcome.CANCELLED, "Superseded", "nobody wants the run any more: it was not evaluated"
            )
        if verdict.outcome is None and model is not None:
            inputs = {key: value["digest"] for key, value in facts["inputs"].items()}
            decision = judge(context, model, experiment, facts["identity"], kept.metrics, inputs, evaluated)
        else:
            decision = undecided(verdict, model)
        judged = evaluated.judged(kept.metrics) if evaluated is not None else None
        context.step("track")
        workspace = track(context, facts, state, decision.outcome, kept, harvest, judged)
        record = run_record(facts, state, decision, kept, workspace, secured.examination, judged)
        context.step("log")
        save_log(context, compute, name, facts["target"])
        context.commit_record(
            run_path(facts["experiment"], facts["identity"], facts["attempt"]),
            record,
            f"Record run {name}: {decision.outcome.value}",
            [("Run", name), ("Model", facts["model"])],
        )
        tidy(context, compute, facts)
        if judged is not None:
            tidy_scorings(context)
    return Result(
        change=name,
        operation="train",
        status=Status.APPLIED,
        reason=decision.reason,
        message=decision.message,
        outcome=decision.outcome,
    )


def data_unchanged(context: Context, experiment: Experiment | None, facts: Mapping[str, Any]) -> Verdict:
    """Whether the inputs that were read in place still are what the run was to read."""
    for name, entry in facts["inputs"].items():
        if experiment is not None and name not in facts.get("staged", ()):
            seen = context.site.datastore(entry["datastore"]).digest(entry["path"])
            if seen.digest != entry["digest"]:
                return Verdict(Outcome.REJECTED, "DataChanged", f"input {name} changed while the run read it")
    return Verdict(None)


def track(
    context: Context,
    facts: Mapping[str, Any],
    state: RunState,
    outcome: Outcome,
    kept: Kept,
    harvest: Harvest,
    judged: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Tell the workspace; what the record says of it. Evaluated metrics have names of their own there."""
    declared = set(facts["metrics"])
    evaluated = {f"evaluated/{metric}": value for metric, value in (judged or {}).get("metrics", {}).items()}
    number = context.site.workspace.track(
        TrackedRun(
            id=ticket_name(facts),
            experiment=facts["experiment"],
            outcome=outcome.value,
            parameters={key: literal(value) for key, value in facts["parameters"].items()},
            metrics={**kept.metrics, **evaluated},
            history=[point for point in harvest.history if kept.metrics and point.name in declared],
            # All of them: the apply that submitted the run may have been killed before it could tell any.
            tags={**tags_of(facts), "edgetrain.target": facts["target"], "edgetrain.outcome": outcome.value},
            started=state.started,
            ended=state.ended,
        )
    )
    return {"type": context.site.configuration.workspace["type"], "run": number}


def cancel_superseded(context: Context, change: Change) -> Result:
    """End a run that nobody wants any more, and record it as cancelled."""
    facts = change.subject
    name = str(facts["run"])
    target = context.state.desired.targets.get(facts["target"])
    if target is None:
        raise target_gone(name, facts["target"])
    compute = context.site.compute(target)
    context.step("cancel")
    compute.cancel(name, "Superseded")
    context.step("wait")
    state = wait(context, compute, name)
    return finish(context, compute, None, {k: v for k, v in facts.items() if k != "run"}, state)


def target_gone(run: str, target: str) -> ProviderError:
    """The refusal of a run whose target was taken out of the manifests."""
    return ProviderError(
        f"{run} was started on {target}, which is not declared any more",
        reason="TargetGone",
        fix=f"declare compute/{target}.yaml again (schedulable: false) until the run has its record",
    )
