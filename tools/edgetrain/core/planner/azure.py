"""What of an experiment's runs would travel to Azure, for the reviewer of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.egress import code_json
from edgetrain.core.evaluation import SCORING_FOLDER
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.kinds.model import MODEL_INPUT
from edgetrain.core.observation import Observation
from edgetrain.core.planner.refusals import told_metrics

# What a run is told to the workspace with, beside parameters and metrics; and with more where it is submitted.
TRACKED_TAGS = (
    "edgetrain.attempt",
    "edgetrain.commit",
    "edgetrain.experiment",
    "edgetrain.identity",
    "edgetrain.manifest",
    "edgetrain.model",
    "edgetrain.outcome",
    "edgetrain.pullRequest",
    "edgetrain.run",
    "edgetrain.site",
    "edgetrain.target",
)
SUBMITTED_TAGS = ("edgetrain.timeout",)


def travels(desired: Desired, experiment: Experiment, observed: Observation | None) -> dict[str, Any] | None:
    """Names, digests and numbers of it; None if nothing goes to Azure.

    `submitted` are the targets on which Azure ML itself would run the code: there the code's files go too. `inputs`
    are the folders and single files that a cluster's pod is told to read, for the training and for the model's
    evaluation; `evaluation` is what Azure ML runs of that, and where. `keys` are the private keys that
    attaching these targets gives away.
    """
    targets = [target for target in desired.targets_for(experiment) if target.attached]
    if not desired.configuration.attaches:
        return None
    clusters = [target for target in targets if target.only_submitted]
    return {
        "submitted": [target.metadata.name for target in targets],
        "environment": {
            "image": experiment.environment.image,
            "requirements": desired.locks[experiment.name],
            "python": experiment.environment.python,
        },
        "inputs": [
            {"target": target.metadata.name, "name": name, "path": _place(desired, target, data)}
            for target in clusters
            for name, data in sorted(experiment.data.items())
        ]
        + _scored_inputs(desired, experiment, clusters),
        **_evaluation(desired, experiment, clusters),
        "parameters": sorted({*experiment.parameters, *(experiment.sweep.space if experiment.sweep else ())}),
        "metrics": told_metrics(desired, experiment),
        "tags": sorted({*TRACKED_TAGS, *(SUBMITTED_TAGS if targets else ())}),
        "keys": [
            {"target": target.metadata.name, "secret": secret, **_fingerprint(target.metadata.name, observed)}
            for target in targets
            if (secret := target.settings.get("privateKey", {}).get("secret"))
        ],
    }


def _scored_inputs(
    desired: Desired, experiment: Experiment, clusters: Sequence[ComputeTarget]
) -> list[dict[str, str]]:
    """Of the evaluation: held-out data, and the copy of the model below the site's state."""
    model = desired.models.get(experiment.model)
    if model is None or model.evaluation is None:
        return []
    found = []
    for target in clusters:
        name, site = target.metadata.name, desired.configuration.sites.get(target.site)
        state = str(site.state).rstrip("/") if site else ""
        found.append({"target": name, "name": MODEL_INPUT, "path": f"{state}/{SCORING_FOLDER}/"})
        found += [
            {"target": name, "name": key, "path": _place(desired, target, data)}
            for key, data in sorted(model.evaluation.data.items())
        ]
    return found


def _evaluation(desired: Desired, experiment: Experiment, clusters: Sequence[ComputeTarget]) -> dict[str, Any]:
    """`evaluation`: what of it goes to Azure where only Azure ML reaches the target; nothing elsewhere."""
    model, files = desired.models.get(experiment.model), desired.evaluations.get(experiment.model)
    if model is None or model.evaluation is None or files is None or not clusters:
        return {}
    own = model.evaluation.environment
    told = {
        "targets": [target.metadata.name for target in clusters],
        "code": code_json(files.snapshot),
        "requirements": files.lock if own else desired.locks[experiment.name],
        "metrics": list(model.scored),
        "slices": list(model.evaluation.slices),
    }
    return {"evaluation": told}


def _place(desired: Desired, target: ComputeTarget, data: DataInput) -> str:
    """Where the input lies in the pod, as edgetrain.yaml and the manifest write it."""
    site = desired.configuration.sites.get(target.site)
    root = str(site.datastores.get(data.datastore, {}).get("path", "")) if site else ""
    return f"{root.rstrip('/')}/{data.path}"


def _fingerprint(name: str, observed: Observation | None) -> dict[str, str]:
    """Of the public key, where the site's runner could tell it."""
    wanted = observed.attachments.wanted.get(name) if observed and observed.attachments else None
    return {"fingerprint": str(wanted.fields["key"])} if wanted and "key" in wanted.fields else {}
