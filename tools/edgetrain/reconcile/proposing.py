"""Turns candidates into model versions for people to merge, and judges stored results again."""

from __future__ import annotations

import yaml

from edgetrain.core.decide import decide, version_manifest
from edgetrain.core.plan import Change
from edgetrain.core.planner.proposals import proposal_branch
from edgetrain.core.record import API_VERSION, RunRecord
from edgetrain.reconcile.context import Context
from edgetrain.reconcile.report import Result, Status

SCHEMA_LINE = "# yaml-language-server: $schema=../../../tools/edgetrain/schemas/modelversion.schema.json\n"


class _Quoted(yaml.SafeDumper):
    """Writes every text value in double quotes, so that no reader takes one for a number."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"')


class _Key(str):
    """A key, which stays unquoted."""

    __slots__ = ()


_Quoted.add_representer(str, _text)
_Quoted.add_representer(_Key, lambda dumper, key: dumper.represent_scalar("tag:yaml.org,2002:str", str(key)))


def _keyed(value: object) -> object:
    if isinstance(value, dict):
        return {_Key(key): _keyed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_keyed(item) for item in value]
    return value


def manifest_bytes(context: Context, run: RunRecord, number: int) -> bytes:
    """The version's manifest as a file."""
    model = context.state.desired.models[run.model]
    manifest = version_manifest(run, number, context.state.recorded, model.metadata.owners)
    text = yaml.dump(_keyed(manifest), Dumper=_Quoted, sort_keys=False, width=120, allow_unicode=True)
    return (SCHEMA_LINE + text).encode()


def propose(context: Context, change: Change) -> Result:
    """Ensure the proposal: a branch for review, or the version itself where the model says `automatic`."""
    subject = change.subject
    model, number = str(subject["model"]), int(subject["version"])
    run = context.state.recorded.run(subject["record"])
    if run is None:
        return Result(change.id, "propose", Status.FAILED, "RecordGone", "the candidate's record is not on main")
    with context.site.artifacts.lock(f"proposal/{model}"):
        put_forward(context, run, number, automatic=subject["release"] == "automatic")
        record_proposal(context, run, number, str(subject["branch"]))
    message = f"version {number} from {run.run_id}"
    return Result(change.id, "propose", Status.APPLIED, change.reason, message)


def put_forward(context: Context, run: RunRecord, number: int, *, automatic: bool) -> None:
    """Write the version's manifest to its branch, or to main."""
    path = f"models/{run.model}/versions/{number}.yaml"
    files = {path: manifest_bytes(context, run, number)}
    subject = f"Propose {run.model}@{number} from {run.run_id}"
    trailers = [("Run", run.run_id), ("Model", f"{run.model}@{number}")]
    context.step("propose")
    if automatic:
        context.ledger.commit(files, f"Release {run.model}@{number} from {run.run_id}", trailers=trailers)
    else:
        context.ledger.propose(proposal_branch(run.model, number), files, subject, trailers=trailers)
        context.tell("Proposed", f"{run.model}@{number}", f"branch {proposal_branch(run.model, number)}")


def record_proposal(context: Context, run: RunRecord, number: int, branch: str) -> None:
    """Write down that this run was proposed, so that a closed proposal does not come back."""
    earlier = [p for p in context.state.recorded.proposals if p.model == run.model and p.version == number]
    identity = run.identity.removeprefix("sha256:")[:12]
    context.commit_record(
        f"models/{run.model}/proposals/{number}-{identity}-{run.attempt}.json",
        {
            "apiVersion": API_VERSION,
            "kind": "ProposalRecord",
            "model": run.model,
            "version": number,
            "run": run.digest,
            "branch": branch,
            "supersedes": earlier[-1].digest if earlier else None,
        },
        f"Record proposal {run.model}@{number}",
        [("Run", run.run_id), ("Model", f"{run.model}@{number}")],
    )


def evaluate_again(context: Context, change: Change) -> Result:
    """Judge a recorded run by the gates of now, and record the verdict."""
    state = context.state
    run = state.recorded.run(change.subject["record"])
    model = state.desired.models[change.subject["model"]]
    if run is None:
        return Result(change.id, "evaluate", Status.FAILED, "RecordGone", "the run's record is not on main")
    experiment = state.desired.experiments.get(run.experiment)
    decision = decide(
        state.desired, state.recorded, model, experiment, run.identity, run.metrics, run.input_digests
    )
    last = state.recorded.evaluation(run)
    number = int(last.data["number"]) + 1 if last else 1
    context.commit_record(
        run.path.replace(".json", f".evaluation-{number}.json"),
        {
            "apiVersion": API_VERSION,
            "kind": "EvaluationRecord",
            "run": run.digest,
            "number": number,
            "outcome": decision.outcome.value,
            "reason": decision.reason,
            "message": decision.message[:500],
            "metricsSource": run.data["metricsSource"],
            "gates": dict(decision.gates),
        },
        f"Record evaluation {run.run_id}: {decision.outcome.value}",
        [("Run", run.run_id)],
    )
    return Result(change.id, "evaluate", Status.APPLIED, decision.reason, decision.message)
