"""Decides a finished run's outcome, and turns a candidate into a model version's manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.gate import GateResult, GateStatus, Scores, data_digest, evaluate, gates_digest
from edgetrain.core.kinds import Experiment, Model
from edgetrain.core.record import API_VERSION, JUDGED, Outcome, RunRecord
from edgetrain.core.recorded import Recorded


@dataclass(frozen=True)
class Decision:
    """The outcome with its reason (CamelCase), a sentence, and each gate's verdict."""

    outcome: Outcome
    reason: str
    message: str
    gates: Mapping[str, Any]


def channel_scores(desired: Desired, model: Model) -> dict[str, Scores]:
    """The scores of what each channel points to on main; withdrawn versions are compared with nothing."""
    scores = {}
    for channel, number in model.channels.items():
        version = desired.versions.get((model.name, number))
        if version is not None and number not in model.withdrawn:
            scores[channel] = scores_of(version.id, version.spec)
    return scores


def scores_of(label: str, told: Mapping[str, Any]) -> Scores:
    """The scores that a record or a version tells of itself: with an evaluation, those that it measured."""
    metrics, evaluation = told.get("metrics", {}), told.get("evaluation")
    if isinstance(evaluation, Mapping):
        return Scores(label, metrics, str(evaluation["identity"]), evaluation.get("slices", {}))
    return Scores(label, metrics, data_digest({name: e["digest"] for name, e in told.get("inputs", {}).items()}))


def decide(
    desired: Desired,
    recorded: Recorded,
    model: Model,
    experiment: Experiment | None,
    identity: str,
    metrics: Mapping[str, float],
    inputs: Mapping[str, str],
    scored: tuple[Scores, Mapping[str, Scores]] | None = None,
) -> Decision:
    """Judge a run that ended well: by the model's gates, and in a sweep beside the trials already recorded.

    `metrics` are what the run reports of itself. Where the model has an evaluation, `scored` holds what that
    measured of the candidate and of each channel's version, and the gates look at nothing else.
    """
    own = Scores("candidate", metrics, data_digest(inputs))
    candidate, channels = scored or (own, channel_scores(desired, model))
    results = evaluate(model.gates, candidate, channels)
    gates = {"digest": gates_digest(model.gates), "results": [result.to_json() for result in results]}
    failed = [result for result in results if not result.passed]
    if failed:
        reason = "NotComparable" if _only_not_comparable(failed) else "GatesFailed"
        why = {scores.label: scores.why for scores in channels.values()}
        sentences = dict.fromkeys(_sentence(result, why) for result in failed)
        return Decision(Outcome.NOT_BETTER, reason, "; ".join(sentences), gates)
    better = _better_trial(recorded, experiment, identity, metrics) if experiment else None
    if better:
        message = f"trial {better.run_id} is better by the objective"
        return Decision(Outcome.NOT_BETTER, "BetterTrial", message, gates)
    return Decision(Outcome.CANDIDATE, "GatesPassed", _passed(len(results)), gates)


def _passed(count: int) -> str:
    return "no gate was asked" if not count else f"{count} gate{'s' if count > 1 else ''} passed"


def _only_not_comparable(results: Sequence[GateResult]) -> bool:
    return all(result.status is GateStatus.NOT_COMPARABLE for result in results)


def _sentence(result: GateResult, why: Mapping[str, str]) -> str:
    name = result.metric if result.slice is None else f"{result.metric} of slice {result.slice}"
    if result.status is GateStatus.MISSING:
        return f"{name} was not reported"
    if result.status is GateStatus.NOT_COMPARABLE:
        because = why.get(result.reference or "") or "it was measured on other data"
        return f"{name} can't be compared with {result.reference}: {because}"
    return f"{name} {result.value:.6g} does not hold {result.rule} ({result.bound:.6g})"


def _better_trial(
    recorded: Recorded, experiment: Experiment, identity: str, metrics: Mapping[str, float]
) -> RunRecord | None:
    sweep = experiment.sweep
    if sweep is None or sweep.metric not in metrics:
        return None
    sign = 1 if sweep.goal == "maximize" else -1
    rivals = [
        run
        for run in recorded.runs_of(experiment.name)
        if run.identity != identity
        and recorded.outcome(run) is Outcome.CANDIDATE
        and sweep.metric in run.reported
        and _same_sweep(run.data["identityOf"], experiment)
    ]
    best = max(rivals, key=lambda run: sign * run.reported[sweep.metric], default=None)
    return best if best and sign * best.reported[sweep.metric] > sign * metrics[sweep.metric] else None


def _same_sweep(of: Mapping[str, Any], experiment: Experiment) -> bool:
    return (of["command"], of["seed"]) == (experiment.command, experiment.seed)


def version_manifest(run: RunRecord, number: int, recorded: Recorded, owners: Sequence[str]) -> dict[str, Any]:
    """The manifest of the version that cites this run: everything in it equals the record."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelVersion",
        "metadata": {"name": f"{run.model}-{number}", "owners": list(owners)},
        "spec": version_spec(run, number, recorded.gates(run), recorded.judged(run)),
    }


def version_spec(
    run: RunRecord, number: int, gates: Mapping[str, Any], judged: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a version repeats of its run record, and of how that was judged (see `Recorded.judged`; as it ended,
    unless given); `validate` demands that each of these is equal."""
    data = run.data
    return {
        "model": run.model,
        "version": number,
        "run": {
            "experiment": run.experiment,
            "identity": run.identity,
            "attempt": run.attempt,
            "record": run.digest,
        },
        "commit": data["commit"],
        "provenance": data["provenance"],
        "code": data["identityOf"]["code"],
        "command": data["identityOf"]["command"],
        "parameters": data["parameters"],
        "seed": data["identityOf"]["seed"],
        "inputs": data["inputs"],
        "environment": data["environment"],
        "target": {key: data["target"][key] for key in ("name", "type", "site", "egress")},
        **(judged or {key: data[key] for key in JUDGED if key in data}),
        "gates": gates["results"],
        "artifacts": data["outputs"],
        "egress": data["egress"],
        **({"signature": data["signature"]} if "signature" in data else {}),
    }
