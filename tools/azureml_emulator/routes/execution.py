"""The execution service: submitting runs, and asking for their end."""

from __future__ import annotations

import uuid
from typing import Any

from azureml_emulator import bodies, computes, experiments, runs, snapshots
from azureml_emulator.bodies import pick
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

EXECUTION = "/execution/v1.0{WS}"


@route("POST", EXECUTION + "/experiments/{name}/snapshotrun")
def submit(emulator: Emulator, request: Request, name: str) -> Answer:
    """Submit a run. The same submission under the same id is the same run: the client tries again after 500."""
    body = bodies.given(request)
    run_id = next((value for key, value in request.query.items() if key.lower() == "runid"), "") or str(
        pick(body, "runId") or f"{name}_{int(emulator.now())}_{uuid.uuid4().hex[:8]}"
    )
    settings = pick(body, "Configuration")
    if not isinstance(settings, dict):
        raise Refused(400, "UserError", "the run definition has no Configuration")
    target = str(pick(settings, "target") or "")
    _compute(emulator, target)
    snapshot = str(pick(body, "SnapshotId") or "")
    if snapshots.get(emulator, snapshot) is None:
        raise Refused(400, "UserError", f"Snapshot {snapshot[:40]} was not found")
    with emulator.store.transaction():
        experiment = experiments.ensure(emulator, name)
        run = runs.get(emulator, run_id)
        if run is None:
            run = _created(emulator, request, experiment, run_id, body, settings)
        elif run["experimentId"] != experiment["experimentId"] or not _same(emulator, run["_definition"], body):
            raise Refused(409, "UserError", f"Run {run_id} already exists, and is another")
    emulator.executor.submitted(run_id)
    return Answer(200, {"runId": run_id})


def _created(
    emulator: Emulator, request: Request, experiment: dict[str, Any], run_id: str, body: Any, settings: Any
) -> dict[str, Any]:
    parent = pick(body, "ParentRunId")
    runs.allow(emulator, request, str(parent or run_id))
    snapshot = str(pick(body, "SnapshotId"))
    changes = {
        "parentRunId": parent,
        "runType": "azureml.scriptrun",
        "target": str(pick(settings, "target")),
        "scriptName": pick(settings, "script"),
        "tags": pick(body, "Tags"),
        "properties": {
            **_map(pick(body, "Properties")),
            "_azureml.ComputeTargetType": "remote",
            "ContentSnapshotId": snapshot,
            "ProcessInfoFile": "azureml-logs/process_info.json",
            "ProcessStatusFile": "azureml-logs/process_status.json",
        },
        **{key: pick(body, key) for key in ("displayName", "description")},
    }
    return runs.create(
        emulator, experiment, run_id, changes, by=request.principal, definition=body, host=request.host
    )


@route("POST", EXECUTION + "/experiments/{name}/runId/{run_id}/cancel")
def cancel(emulator: Emulator, request: Request, name: str, run_id: str) -> Answer:
    """Ask for a run's end. One that has ended stays as it is."""
    run = runs.needed(emulator, run_id)
    if run["_experiment"] != name:
        raise Refused(404, "UserError", f"Run {run_id} was not found in experiment {name}")
    runs.allow(emulator, request, run_id)
    with emulator.store.transaction():
        run = runs.needed(emulator, run_id)
        if runs.may_follow(run["status"], "CancelRequested"):
            runs.set_status(emulator, run_id, "CancelRequested")
    emulator.executor.cancel(run_id)
    return Answer(200, {"runId": run_id})


@route("POST", EXECUTION + "/experiments/{name}/clean")
def clean(emulator: Emulator, request: Request, name: str) -> Answer:
    """Remove what runs left on their machines, and say what: nothing, since each run's folder goes with its end."""
    run_id = str(pick(bodies.given(request), "RunId") or "null")
    if run_id != "null":
        runs.needed(emulator, run_id)
    return Answer(200, [])


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _compute(emulator: Emulator, target: str) -> None:
    if computes.get(emulator, target) is None:
        raise Refused(400, "UserError", f"The compute target {target[:100]!r} was not found in the workspace")


def _same(emulator: Emulator, one: Any, two: Any) -> bool:
    """Whether two submissions ask for the same: the code by its content, not by the snapshot that holds it."""

    def meant(body: Any) -> Any:
        files = snapshots.digests(emulator, str(pick(body, "SnapshotId")))
        return (pick(body, "Configuration"), pick(body, "ParentRunId") or None, files)

    return bool(meant(one) == meant(two))
