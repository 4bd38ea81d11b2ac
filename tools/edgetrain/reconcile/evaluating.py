"""Judges runs by their model's evaluation: scores the candidate and what it is compared with, each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgetrain.core.decide import Decision, decide, scores_of
from edgetrain.core.errors import NotFound
from edgetrain.core.evaluation import (
    HELD_OUT_SEEN,
    artifact_of,
    evaluation_identity,
    evaluation_of,
    referred,
    saw_held_out,
    version_artifact,
)
from edgetrain.core.gate import Scores
from edgetrain.core.kinds import ComputeTarget, Experiment, Model, ModelVersion
from edgetrain.core.plan import Change, Operation
from edgetrain.core.planner.proposals import number_of, proposal_branch
from edgetrain.core.record import API_VERSION, Outcome, Record, RunRecord, parse_record, serialise
from edgetrain.core.scores import ENTRY, EVALUATED, SELF_REPORTED
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.finish import UNDECIDED, Verdict, undecided
from edgetrain.reconcile.observe import open_proposals
from edgetrain.reconcile.proposing import ask_for_review, put_forward, record_proposal
from edgetrain.reconcile.report import Result, Status
from edgetrain.reconcile.scoring import ARTIFACTS_GONE, Measured, Task, score, tidy_scorings

# After all that is recorded.
MAX_ORDINAL = 10**9
GONE = "its artifacts are not in this site's store: restore the artifact store, or point the channel elsewhere"
# Measures the model in a record's outputs; Measured without an entry says why there is none.
Measure = Callable[[Mapping[str, Any]], Measured]


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation gave: `told` is the `evaluation` of the record, `scored` what the gates look at. A verdict
    with an outcome says that no gate is asked."""

    told: Mapping[str, Any]
    verdict: Verdict = UNDECIDED
    scored: tuple[Scores, Mapping[str, Scores]] | None = None

    def judged(self, reported: Mapping[str, float]) -> dict[str, Any]:
        """The part of a record that says what the run was judged by; `reported` are the script's own metrics."""
        return {
            "metrics": dict(self.told.get("metrics", {})),
            "metricsSource": EVALUATED,
            "selfReported": dict(reported),
            "evaluation": dict(self.told),
        }


@dataclass(frozen=True)
class Trained:
    """A run whose artifacts are stored, as an evaluation needs it: by its record, or before it has one. `record` is
    the path of the record that follows."""

    run: str
    identity_of: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(repr=False)
    inputs: Mapping[str, str]
    record: str


def evaluate_trained(
    context: Context, model: Model, experiment: Experiment, target: ComputeTarget | None, trained: Trained
) -> Evaluated | None:
    """Evaluate the run by main's evaluation; None if the model has none. Without a target, records know all of it.

    Waits for what must be scored, one model after the other, and holds no lock meanwhile. Raises Stopped.
    """
    of = evaluation_of(context.state.desired, model, trained.identity_of)
    identity = evaluation_identity(of)
    if of is None or identity is None:
        return None
    told: dict[str, Any] = {
        "identity": identity,
        "identityOf": of,
        "inputs": {},
        "artifact": artifact_of(trained.outputs),
        "references": {},
    }
    seen = saw_held_out(model, trained.inputs)
    if seen is not None:
        message = f"the run trained on {seen}, which the evaluation holds out"
        return Evaluated({**told, "reason": message}, Verdict(Outcome.REJECTED, HELD_OUT_SEEN, message))

    def measure(outputs: Mapping[str, Any]) -> Measured:
        found = context.state.recorded.score(identity, artifact_of(outputs))
        if found is not None:
            return Measured(found)
        if target is None:
            raise NotFound("the scores are in no record", reason="ScoresGone", fix="apply again")
        task = Task(model, experiment, target, of, identity, trained.run, trained.record)
        return score(context, task, outputs)

    mine = measure(trained.outputs)
    if mine.entry is None:
        return Evaluated({**told, "reason": mine.verdict.message}, mine.verdict)
    told |= {"inputs": dict(mine.entry["inputs"]), **{key: mine.entry[key] for key in ENTRY}}
    channels = {}
    for channel, version in referred(context.state.desired, model).items():
        entry = _reference(context, model, version, measure)
        told["references"][channel] = {"version": version.id, **entry}
        # Without metrics there is no identity to share, so nothing is comparable.
        by = identity if "metrics" in entry else ""
        why = str(entry.get("reason", ""))
        channels[channel] = Scores(version.id, entry.get("metrics", {}), by, entry.get("slices", {}), why)
    return Evaluated(
        told, scored=(scores_of("candidate", {"metrics": told["metrics"], "evaluation": told}), channels)
    )


def _reference(context: Context, model: Model, version: ModelVersion, measure: Measure) -> dict[str, Any]:
    """What the record tells of a channel's version: its scores, or why there are none."""
    recorded = context.state.recorded
    run, artifact = recorded.run(version.record), version_artifact(recorded, version)
    if run is None or artifact is None:
        return {"reason": "which of its artifacts is the model is not clear"}
    seen = saw_held_out(model, run.input_digests)
    if seen is not None:
        return {"artifact": artifact, "reason": f"it was trained on {seen}, which the evaluation holds out"}
    try:
        measured = measure(run.data["outputs"])
    except NotFound as error:
        if error.reason != ARTIFACTS_GONE:
            raise
        return {"artifact": artifact, "reason": GONE}
    if measured.entry is None:
        return {"artifact": artifact, "reason": measured.verdict.message}
    return {key: measured.entry[key] for key in ENTRY}


def judge(
    context: Context,
    model: Model,
    experiment: Experiment | None,
    identity: str,
    metrics: Mapping[str, float],
    inputs: Mapping[str, str],
    evaluated: Evaluated | None,
) -> Decision:
    """The decision on a run that ended well: by its own metrics, or by the model's evaluation."""
    if evaluated is not None and evaluated.verdict.outcome is not None:
        return undecided(evaluated.verdict, model)
    state = context.state
    scored = evaluated.scored if evaluated else None
    return decide(state.desired, state.recorded, model, experiment, identity, metrics, inputs, scored)


# --- runs that have their record ---------------------------------------------------------------------


def evaluate_again(context: Context, change: Change, target: ComputeTarget | None = None) -> Result:
    """Judge a recorded run by the gates and the evaluation of now, and record the verdict; trains nothing. What is
    in no record is scored on `target`."""
    state = context.state
    run = state.recorded.run(change.subject["record"])
    model = state.desired.models[change.subject["model"]]
    operation = change.operation.value
    if run is None:
        return Result(change.id, operation, Status.FAILED, "RecordGone", "the run's record is not on main")
    experiment = state.desired.experiments.get(run.experiment)
    last = state.recorded.evaluation(run)
    number = int(last.data["number"]) + 1 if last else 1
    path = run.path.replace(".json", f".evaluation-{number}.json")
    evaluated = None
    if experiment is not None:
        of, outputs = run.data["identityOf"], run.data["outputs"]
        trained = Trained(run.run_id, of, outputs, run.input_digests, path)
        evaluated = evaluate_trained(context, model, experiment, target, trained)
    decision = judge(context, model, experiment, run.identity, run.reported, run.input_digests, evaluated)
    record = {
        "apiVersion": API_VERSION,
        "kind": "EvaluationRecord",
        "run": run.digest,
        "number": number,
        "outcome": decision.outcome.value,
        "reason": decision.reason,
        "message": decision.message[:500],
        **_judged(run, evaluated),
        "gates": dict(decision.gates),
    }
    if any(proposal.run == run.digest for proposal in state.recorded.proposals):
        mine = _proposals_of(context, run)
        if decision.outcome is Outcome.CANDIDATE:
            _renew(context, run, parse_record(path, serialise(record), MAX_ORDINAL), mine)
        elif mine:  # which the next round does
            record["closes"] = mine[0]
    context.commit_record(
        path,
        record,
        f"Record evaluation {run.run_id}: {decision.outcome.value}",
        [("Run", run.run_id), ("Model", run.model)],
        run.data["provenance"],
    )
    if change.operation is Operation.SCORE:
        tidy_scorings(context)
    return Result(
        change.id, operation, Status.APPLIED, decision.reason, decision.message, outcome=_told(change, decision)
    )


def _proposals_of(context: Context, run: RunRecord) -> list[str]:
    """The branches that propose the run, and the one that its last verdict closed: if that was for the gates, and
    nobody has the number since, it is opened again. Raises ProviderError where the forge can't be asked: a verdict
    that did not know of them would stand for good, and a later one could not tell who closed what."""
    state = context.state
    there = open_proposals(state.git, context.ledger, context.site, sure=True)
    found = [branch for branch, cited in there.items() if cited == run.digest and number_of(branch, run.model)]
    last = state.recorded.evaluation(run)
    closed = last.closes if last else None
    free = proposal_branch(run.model, state.desired.latest_version(run.model) + 1)
    newest = [proposal.run for proposal in state.recorded.proposals if proposal.model == run.model][-1]
    if closed == free and closed not in there and newest == run.digest:
        found.append(closed)
    return found


def _renew(context: Context, run: RunRecord, verdict: Record, branches: Sequence[str]) -> None:
    """Let the proposals of the run say what it is judged by now. Before the record: killed in between, the next
    apply judges the same again, and nothing is left that differs from the records."""
    told = replace(context, state=context.state.with_records([verdict]))
    for branch in branches:
        number = number_of(branch, run.model)
        with context.site.artifacts.lock(f"proposal/{run.model}"):
            put_forward(told, run, number, automatic=False)
            pull = ask_for_review(told, run, number)
            record_proposal(context, run, number, branch, pull)


def _judged(run: RunRecord, evaluated: Evaluated | None) -> dict[str, Any]:
    if evaluated is not None:
        return evaluated.judged(run.reported)
    return {"metrics": dict(run.reported), "metricsSource": SELF_REPORTED}


def _told(change: Change, decision: Decision) -> Outcome | None:
    """The outcome that an apply ends with; that of a judgement by records alone says nothing of a run."""
    return decision.outcome if change.operation is Operation.SCORE else None
