"""What the wrapper in a pod is told of a run (see `onsite/azureml/pod.py`); no path of the pod is known here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import RunSpec
from edgetrain.providers.azureml.compute_vm import leaving_of
from edgetrain.providers.contract import TMP, Places, command_of, variables


def order(spec: RunSpec, work: str, grace: float, capacity: Mapping[str, Any]) -> dict[str, Any]:
    """The run as `run.json` tells it. `work` is the folder of runs in the pod."""
    mark = "@" + hashlib.sha256(spec.id.encode()).hexdigest()[:32] + "@"
    inputs = {}
    for mount in spec.inputs:
        last = f"/{Path(mount.source.location).name}" if mount.single_file else ""
        inputs[mount.name] = f"{mark}/inputs/{mount.name}{last}"
    places = Places(
        code=f"{mark}/code",
        outputs=f"{mark}/outputs",
        home=f"{mark}/home",
        tmp=TMP,
        environment=f"{mark}/environment",
        inputs=inputs,
    )
    env = variables(spec, places)
    env["PATH"] = env["PATH"].partition(":")[2]  # the environment's own place is known in the pod
    limits = {**vars(spec.limits), "grace": grace}
    return {
        "kind": "pod",
        "id": spec.id,
        "work": work,
        "mark": mark,
        "command": command_of(spec, places),
        "env": env,
        "inputs": {
            mount.name: {"location": mount.source.location, "single": mount.single_file} for mount in spec.inputs
        },
        "limits": {**limits, "memory": spec.limits.memory or capacity.get("memory")},
        "python": spec.python,
        "enforced": spec.require_enforced,
        "outputs": list(spec.outputs.values()),
        "leaving": asdict(leaving_of(spec)),
    }


def check(spec: RunSpec) -> None:
    """Raises Rejected for what pods are not given."""
    if spec.image is not None:
        raise not_served("a base image of the experiment", "remove environment.image: pods have their target's")
    for mount in spec.inputs:
        if mount.source.kind != "folder":
            raise not_served(f"data of kind {mount.source.kind}", "choose a datastore of type folder")


def not_served(what: str, fix: str) -> Rejected:
    """The refusal of what pods are not given."""
    return Rejected(f"an azureml-kubernetes target does not serve {what}", reason="NotServed", fix=fix)
