"""Evaluation: the identity of how models are scored on held-out data, and the scores that records hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgetrain.core.desired import Desired, EvaluationFiles
from edgetrain.core.digest import digest_of
from edgetrain.core.kinds import Experiment, Model, ModelVersion
from edgetrain.core.kinds.model import MODEL_INPUT
from edgetrain.core.record import RunRecord
from edgetrain.core.recorded import Recorded

# The folder below a site's state where the models lie that are being scored.
SCORING_FOLDER = "scoring"
# Why a run whose artifacts are stored has no scores; a changed evaluation scores it again.
EVALUATION_FAILED, SCORES_REFUSED, HELD_OUT_SEEN = "EvaluationFailed", "ScoresRefused", "HeldOutSeen"
UNSCORED = frozenset({EVALUATION_FAILED, SCORES_REFUSED, HELD_OUT_SEEN})


def evaluation_of(desired: Desired, model: Model, of: Mapping[str, Any]) -> dict[str, Any] | None:
    """All that the identity of an evaluation is made of; None if the model has none. `of` are the fields of the
    run's identity, whose environment holds where the evaluation names none of its own."""
    # Where the files have problems nothing is carried out.
    return evaluation_fields(model, desired.evaluations.get(model.name, EvaluationFiles("")), of)


def evaluation_fields(model: Model, files: EvaluationFiles, of: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same, of a model whose evaluation has these files."""
    evaluation = model.evaluation
    if evaluation is None:
        return None
    own = evaluation.environment
    return {
        "version": 1,
        "command": evaluation.command,
        "parameters": {},
        "code": files.code,
        "requirements": files.lock if own else of["requirements"],
        "image": (own.image if own else None) or of["image"],
        "python": (own.python if own else None) or of["python"],
        "platform": (own.platform if own else None) or of["platform"],
        "inputs": {name: source.digest for name, source in evaluation.data.items()},
        "metrics": sorted(model.scored),
        "slices": sorted(evaluation.slices),
    }


def evaluation_identity(of: Mapping[str, Any] | None) -> str | None:
    """`sha256:<hex>` over the canonical form of the fields; None for no evaluation."""
    return None if of is None else digest_of(of)


def model_output(outputs: Iterable[str]) -> str | None:
    """The output that is evaluated: the one called `model`, or the only one; None if that is not clear."""
    names = list(outputs)
    if MODEL_INPUT in names:
        return MODEL_INPUT
    return names[0] if len(names) == 1 else None


def artifact_of(outputs: Mapping[str, Any]) -> str | None:
    """The digest of the output that is evaluated, from a record's `outputs` or a version's `artifacts`."""
    name = model_output(outputs)
    return str(outputs[name]["digest"]) if name is not None else None


def version_artifact(recorded: Recorded, version: ModelVersion) -> str | None:
    """The digest of a version's model, as its run's record has it."""
    run = recorded.run(version.record)
    return artifact_of(run.data["outputs"]) if run else None


def referred(desired: Desired, model: Model) -> dict[str, ModelVersion]:
    """By channel, the versions that the gates compare with; withdrawn ones are compared with nothing."""
    found = {}
    for channel in sorted({gate.reference for gate in model.gates if gate.reference}):
        number = model.channels.get(channel)
        version = desired.versions.get((model.name, number)) if number is not None else None
        if version is not None and number not in model.withdrawn:
            found[channel] = version
    return found


def saw_held_out(model: Model, inputs: Mapping[str, str]) -> str | None:
    """The name of a held-out input whose digest is among those of a training's inputs."""
    seen = set(inputs.values())
    sources = model.evaluation.data if model.evaluation else {}
    return next((name for name, source in sources.items() if source.digest in seen), None)


def held_out_digests(desired: Desired) -> dict[str, str]:
    """Each digest of held-out data, with the model that it is for."""
    found: dict[str, str] = {}
    for name, model in sorted(desired.models.items()):
        for source in model.evaluation.data.values() if model.evaluation else ():
            found.setdefault(source.digest, name)
    return found


def evaluated_by(recorded: Recorded, run: RunRecord) -> str | None:
    """The identity of the evaluation that the run was last judged by; None if by its own metrics."""
    told = recorded.judged(run).get("evaluation")
    return str(told["identity"]) if isinstance(told, Mapping) else None


def in_records(desired: Desired, recorded: Recorded, model: Model, run: RunRecord, identity: str) -> bool:
    """Whether all scores that the gates need are recorded, so that nothing is to be scored."""
    needed = [artifact_of(run.data["outputs"])]
    needed += [version_artifact(recorded, version) for version in referred(desired, model).values()]
    return all(recorded.score(identity, artifact) is not None for artifact in needed)


def no_model(experiment: Experiment) -> bool:
    """Whether it is not clear which of the experiment's outputs is evaluated."""
    return model_output(experiment.outputs) is None
