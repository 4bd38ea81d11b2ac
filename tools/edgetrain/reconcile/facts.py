"""The facts of one attempt, fixed before it starts and kept in its ticket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgetrain import __version__
from edgetrain.core.egress import to_json
from edgetrain.core.errors import Rejected
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.plan import Change
from edgetrain.core.planner.refusals import allows_advisory
from edgetrain.core.ports import DataDigest, InputMount, Leaving, RunLimits, RunSpec
from edgetrain.core.quantity import human_bytes
from edgetrain.core.record import run_id
from edgetrain.core.template import render
from edgetrain.reconcile.site import Site

DEFAULT_OUTPUTS_ROOM = 64 * 2**20


def ticket(
    change: Change,
    experiment: Experiment,
    target: ComputeTarget,
    data: Mapping[str, DataDigest],
    commit: str,
    provenance: Mapping[str, Any],
    manifest: str,
    code: Mapping[str, Any],
) -> dict[str, Any]:
    """All that a record needs and that is known before the start, so that any later apply can finish it."""
    subject = change.subject
    return {
        "experiment": experiment.name,
        "model": experiment.model,
        "identity": subject["identity"],
        "identityOf": subject["identityOf"],
        "attempt": subject["attempt"],
        "trial": subject["trial"],
        "target": target.metadata.name,
        "targetType": target.type,
        "site": target.site,
        "commit": commit,
        "manifest": manifest,
        "provenance": dict(provenance),
        "parameters": {**experiment.parameters, **subject["trial"]},
        "inputs": {
            name: {
                "type": source.type,
                "datastore": source.datastore,
                "path": source.path,
                "digest": data[name].digest,
                "files": data[name].files,
                "bytes": data[name].bytes,
            }
            for name, source in experiment.data.items()
        },
        **given(experiment, code),
        "edgetrain": __version__,
        **({"retry": subject["retry"]} if "retry" in subject else {}),
    }


def given(experiment: Experiment, code: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that the experiment's manifest and code tell by themselves; `code` in numbers."""
    return {
        "outputs": {
            name: {"type": output.type, "path": output.path, "maxSize": output.max_size}
            for name, output in experiment.outputs.items()
        },
        "metrics": list(experiment.metrics),
        "logs": experiment.logs,
        "code": dict(code),
        # The plan started nothing with one that has expired: all that are declared held on that day.
        "waivers": [to_json(waiver) for waiver in experiment.waivers],
        **({"signature": dict(experiment.signature)} if experiment.signature else {}),
    }


def ticket_name(facts: Mapping[str, Any]) -> str:
    """The run id that the ticket is for."""
    return run_id(facts["experiment"], facts["identity"], facts["attempt"])


def run_spec(
    experiment: Experiment,
    trial: Mapping[str, Any],
    run: str,
    code: Path,
    requirements: bytes,
    python: str,
    site: Site,
    data: Mapping[str, str],
    attached: bool = False,
) -> RunSpec:
    """What the target is told. `run` is the run id, `code` the export's folder, `data` each input's digest;
    `attached`: the workspace's own service runs the script."""
    parameters = {**experiment.parameters, **trial}
    outputs = {name: output.path for name, output in experiment.outputs.items()}
    allowed = allows_advisory(experiment) if attached else site.configuration.allow_unsandboxed
    return RunSpec(
        id=run,
        command=render(experiment.command, parameters, experiment.data, outputs),
        parameters=parameters,
        seed=experiment.seed,
        code=code,
        requirements=requirements,
        image=experiment.environment.image,
        python=python,
        inputs=[mount(site, experiment, name, data[name]) for name in experiment.data],
        outputs=outputs,
        limits=limits_of(experiment, sum(output.max_size for output in experiment.outputs.values())),
        require_enforced=require_enforced(site, experiment.data.values(), allowed),
    )


def limits_of(experiment: Experiment, outputs: int = 0) -> RunLimits:
    """The bounds of a run whose outputs may have so many bytes."""
    resources = experiment.resources
    return RunLimits(
        timeout=experiment.timeout,
        memory=resources.memory,
        cpus=resources.cpus,
        gpus=resources.gpus,
        outputs=outputs + DEFAULT_OUTPUTS_ROOM,
        **{key: value for key in ("shm", "tmp", "pids") if (value := getattr(resources, key)) is not None},
    )


def leaving_of(facts: Mapping[str, Any]) -> Leaving:
    """What of the ticket's run may leave, for a target that checks it by itself."""
    outputs = facts["outputs"].values()
    return Leaving(
        outputs={output["path"]: output["type"] for output in outputs},
        sizes={output["path"]: output["maxSize"] for output in outputs},
        metrics=list(facts["metrics"]),
        log=facts["logs"] != "site",
        waived=[(waiver["code"], waiver.get("path", "")) for waiver in facts.get("waivers", ())],
    )


def tags_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """What the ticket's run is found by where it is submitted."""
    found = {
        name: facts[name] for name in ("experiment", "model", "identity", "attempt", "commit", "manifest", "site")
    }
    if request := facts["provenance"].get("pullRequest"):
        found["pullRequest"] = request
    return {f"edgetrain.{name}": str(value) for name, value in found.items()}


def mount(site: Site, experiment: Experiment, name: str, digest: str) -> InputMount:
    """Where the target finds one data input; `digest` as observed, for the manifest may say `latest`."""
    source = experiment.data[name]
    store = site.datastore(source.datastore)
    return InputMount(name, store.source(source.path), digest, source.single)


def require_enforced(site: Site, sources: Iterable[DataInput], allowed: bool) -> bool:
    """Whether a run that reads these may only be where the script is held back; `allowed`: it may be elsewhere."""
    stores = site.settings.datastores
    return not allowed or any(stores[data.datastore].get("requireEgress") == "enforced" for data in sources)


def check_size(size: int, allowed: int) -> None:
    """Raises Rejected for code of more bytes than `allowed`: the classic accident is data beside the script."""
    if size > allowed:
        raise Rejected(
            f"the code has {human_bytes(size)} and {human_bytes(allowed)} are allowed",
            reason="CodeTooLarge",
            fix="keep data out of the code's folder: it belongs in a datastore",
        )
