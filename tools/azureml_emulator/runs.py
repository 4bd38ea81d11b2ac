"""Runs: their records, what may be changed in them, and in which order their statuses follow each other."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from azureml_emulator import artifacts, snapshots
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Principal, Refused, Request

RUN_ID = re.compile(r"[a-zA-Z0-9][\w-]{0,255}")
# In the order in which the service goes through them; a run may leave some out, and never goes back.
ORDER = ("NotStarted", "Unapproved", "Preparing", "Provisioning", "Queued", "Starting", "Running", "Finalizing")
PAUSES = ("NotResponding", "Pausing", "Paused")
TERMINAL = ("Completed", "Failed", "Canceled")
STATUSES = (*ORDER, *PAUSES, "CancelRequested", *TERMINAL)
MAX_ENTRIES, MAX_KEY, MAX_VALUE = 50, 100, 1000
MAX_ERROR, MAX_WARNING = 3000, 300
MAX_DESCRIPTION = 5000
# What a client may say of a run, as the service spells it.
FIELDS = {
    name.lower(): name
    for name in (
        *("parentRunId", "startTimeUtc", "endTimeUtc", "heartbeatEnabled", "options", "name", "displayName"),
        *("description", "hidden", "runType", "runTypeV2", "scriptName", "target", "inputDatasets"),
        *("outputDatasets", "runDefinition", "primaryMetricName", "createdFrom", "cancelUri", "diagnosticsUri"),
        *("error", "warnings", "services"),
    )
}
TEXTS = {"parentrunid", "name", "displayname", "description", "runtype", "scriptname", "target", "canceluri"}
# Set by whoever makes the run, and for good.
FIXED = ("parentRunId", "createdFrom")


def get(emulator: Emulator, run_id: str) -> dict[str, Any] | None:
    """The run's record, or None."""
    found: dict[str, Any] | None = emulator.store.get("run", run_id)
    return found


def needed(emulator: Emulator, run_id: str) -> dict[str, Any]:
    """The run's record. Raises Refused."""
    found = get(emulator, run_id)
    if found is None:
        raise Refused(404, "UserError", f"Run {run_id[:256]} was not found")
    return found


def every(emulator: Emulator, now: float | None = None) -> list[dict[str, Any]]:
    """All runs as queries see them: as they were `options.lag` ago."""
    found = [run for _, run in emulator.store.scan("run")]
    lag = emulator.options.lag
    if lag <= 0:
        return found
    horizon = (emulator.now() if now is None else now) - lag
    seen = []
    for run in found:
        versions = emulator.store.get("run-versions", run["runId"])
        old = [then for time, then in versions or [[horizon, run]] if time <= horizon]
        if old:
            seen.append(old[-1])
    return seen


def create(
    emulator: Emulator,
    experiment: Mapping[str, Any],
    run_id: str,
    changes: Mapping[str, Any],
    *,
    by: Principal | None = None,
    definition: Any = None,
    host: str = "",
) -> dict[str, Any]:
    """Make a run: `definition` is the body of a submission, `host` the name by which it was asked for.

    Raises Refused if there is one of this id, or the rules don't allow it.
    """
    if emulator.options.strict and not RUN_ID.fullmatch(run_id):
        raise Refused(400, "UserError", "a run's id is letters, digits, _ and -, at most 256")
    if not run_id or "/" in run_id or len(run_id) > 256:
        raise Refused(400, "UserError", "the run's id can't be used")
    with emulator.store.transaction():
        if get(emulator, run_id) is not None:
            raise Refused(409, "UserError", f"Run {run_id} already exists")
        parent_id = _given(changes, "parentRunId")
        parent = needed(emulator, str(parent_id)) if parent_id else None
        identity = str(uuid.uuid4())
        run: dict[str, Any] = {
            "runId": run_id,
            "rootRunId": parent["rootRunId"] if parent else run_id,
            "parentRunId": parent["runId"] if parent else None,
            "runNumber": emulator.store.next(f"run:{experiment['experimentId']}"),
            "experimentId": experiment["experimentId"],
            "dataContainerId": f"dcid.{run_id}",
            "status": "NotStarted",
            "createdUtc": emulator.time(),
            "startTimeUtc": None,
            "endTimeUtc": None,
            "createdBy": _person(emulator, by),
            "userId": _person(emulator, by)["userObjectId"],
            "runUuid": identity,
            "rootRunUuid": parent["rootRunUuid"] if parent else identity,
            "parentRunUuid": parent["runUuid"] if parent else None,
            "runType": None,
            "target": None,
            "name": None,
            "displayName": None,
            "description": None,
            "hidden": False,
            "heartbeatEnabled": False,
            "scriptName": None,
            "cancelUri": None,
            "tags": {},
            "properties": {},
            "error": None,
            "warnings": None,
            "_experiment": experiment["name"],
            "_definition": definition,
            "_host": host,
            "_revision": 0,
        }
        _merge(emulator, run, changes)
        _keep(emulator, run)
        status = _given(changes, "status")
        return set_status(emulator, run_id, str(status)) if status else run


def patch(emulator: Emulator, run_id: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change a run: tags and properties are added to, what is not named stays. Raises Refused."""
    with emulator.store.transaction():
        run = needed(emulator, run_id)
        _merge(emulator, run, changes)
        _keep(emulator, run)
        status = _given(changes, "status")
        return set_status(emulator, run_id, str(status)) if status else run


def remove_tags(emulator: Emulator, run_id: str, keys: Iterable[str]) -> dict[str, Any]:
    """Take tags away; those that are not there are gone already."""
    with emulator.store.transaction():
        run = needed(emulator, run_id)
        for key in keys:
            run["tags"].pop(key, None)
        _keep(emulator, run)
        return run


def set_status(
    emulator: Emulator, run_id: str, status: str, *, force: bool = False, **fields: Any
) -> dict[str, Any]:
    """Bring a run to a status, with start and end times. The status it has changes nothing but `fields`.

    Raises Refused if the service would never go that way, unless forced.
    """
    if status not in STATUSES:
        raise Refused(400, "UserError", f"{status[:40]!r} is not a status of a run")
    with emulator.store.transaction():
        run = needed(emulator, run_id)
        if run["status"] != status:
            if not force and not may_follow(run["status"], status):
                raise Refused(409, "UserError", f"a run that is {run['status']} can't become {status}")
            run["status"] = status
            now = emulator.time()
            if status in {"Running", "Finalizing"} or (status in TERMINAL and status != "Canceled"):
                run["startTimeUtc"] = run["startTimeUtc"] or now
            if status in TERMINAL:
                run["endTimeUtc"] = run["endTimeUtc"] or now
            elif force:
                run["endTimeUtc"] = None
        _merge(emulator, run, fields)
        _keep(emulator, run)
        return run


def may_follow(before: str, after: str) -> bool:
    """Whether a run goes from one status to the other."""
    if before in TERMINAL or before == after:
        return False
    if after in TERMINAL:
        return after != "Canceled" or before != "Finalizing"
    if after == "CancelRequested":
        return before != "Finalizing"
    if before == "CancelRequested":
        return after == "Finalizing"
    if after in PAUSES:
        return before in {"Running", *PAUSES}
    if before in PAUSES:
        return after in {"Running", "Finalizing"}
    return ORDER.index(after) > ORDER.index(before)


def add_artifact(emulator: Emulator, run_id: str, path: str, data: bytes | Path) -> None:
    """Write one of the run's files, once. Raises Refused (409) if it is there."""
    artifacts.write(emulator, artifacts.RUN, needed(emulator, run_id)["dataContainerId"], path, data)


def append_log(emulator: Emulator, run_id: str, path: str, data: bytes) -> None:
    """Add to one of the run's logs."""
    artifacts.append(emulator, artifacts.RUN, needed(emulator, run_id)["dataContainerId"], path, data)


def snapshot_files(emulator: Emulator, snapshot_id: str) -> dict[str, Path]:
    """Relative path to file on disk of a snapshot. Raises Refused if it is not there."""
    return snapshots.files(emulator, snapshot_id)


def allow(emulator: Emulator, request: Request, run_id: str) -> None:
    """Raises Refused if a run's own token writes to what is neither that run nor one of its children."""
    by = request.principal
    if by is None or by.role != "run":
        return
    at: str | None = run_id
    while at and at != by.run:
        run = get(emulator, at)
        at = run["parentRunId"] if run else None
    if not at:
        raise Refused(403, "Forbidden", f"the token is for run {by.run} only")


def allow_container(emulator: Emulator, request: Request, origin: str, container: str) -> None:
    """The same for the files of a run."""
    if origin == artifacts.RUN:
        allow(emulator, request, container.removeprefix("dcid."))


def view(emulator: Emulator, run: Mapping[str, Any], host: str) -> dict[str, Any]:
    """The run as the service shows it to whoever asked by this host name."""
    shown = {key: value for key, value in run.items() if not key.startswith("_")}
    shown["revision"] = run["_revision"]
    if run["_definition"] is not None and not run["cancelUri"]:
        shown["cancelUri"] = (
            f"{emulator.urls(host).api}/execution/v1.0{emulator.workspace_path}"
            f"/experiments/{run['_experiment']}/runId/{run['runId']}/cancel"
        )
    return shown


def _person(emulator: Emulator, by: Principal | None) -> dict[str, Any]:
    name = by.name if by else "emulator"
    return {
        "userObjectId": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "userTenantId": emulator.options.tenant,
        "userName": name,
    }


def _given(changes: Mapping[str, Any], wanted: str) -> Any:
    return next((value for key, value in changes.items() if key.lower() == wanted.lower()), None)


def _merge(emulator: Emulator, run: dict[str, Any], changes: Mapping[str, Any]) -> None:
    strict = emulator.options.strict
    new = run["_revision"] == 0
    for key, value in changes.items():
        low = key.lower()
        if key.startswith("_"):
            # Of our own making: no client has such keys.
            run[key] = value
        elif low in {"tags", "properties"}:
            merge_entries(run[low], value, low, strict)
        elif low in FIELDS and value is not None and (new or FIELDS[low] not in FIXED):
            if low in TEXTS and not isinstance(value, str):
                raise Refused(400, "UserError", f"{FIELDS[low]} is not a string")
            run[FIELDS[low]] = value
    if strict and len(str(run["description"] or "")) > MAX_DESCRIPTION:
        raise Refused(400, "UserError", f"a run's description has at most {MAX_DESCRIPTION} characters")
    if isinstance(run["error"], dict) and isinstance(run["error"].get("error"), dict):
        inner = run["error"]["error"]
        inner["message"] = str(inner.get("message") or "")[:MAX_ERROR]


def merge_entries(kept: dict[str, Any], given: Any, what: str, strict: bool) -> None:
    """Add tags or properties to those that are there. Raises Refused."""
    if given is None:
        return
    if not isinstance(given, dict):
        raise Refused(400, "UserError", f"{what} are a map")
    for key, value in given.items():
        if value is not None and not isinstance(value, str):
            raise Refused(400, "UserError", f"a value in {what} is not a string")
        if strict and what == "properties" and key in kept and kept[key] != value:
            raise Refused(400, "UserError", f"The property {key[:MAX_KEY]} is immutable")
        if strict and (not key or len(key) > MAX_KEY or len(value or "") > MAX_VALUE):
            raise Refused(400, "UserError", f"{what}: keys up to {MAX_KEY}, values up to {MAX_VALUE} characters")
        kept[key] = value
    if strict and len(kept) > MAX_ENTRIES:
        raise Refused(400, "UserError", f"a run has at most {MAX_ENTRIES} {what}")


def _keep(emulator: Emulator, run: dict[str, Any]) -> None:
    run["_revision"] += 1
    run["_modified"] = emulator.time()
    emulator.store.put("run", run["runId"], run)
    if emulator.options.lag > 0:
        now = emulator.now()
        versions = emulator.store.get("run-versions", run["runId"]) or []
        old = [entry for entry in versions if entry[0] <= now - emulator.options.lag]
        recent = [entry for entry in versions if entry[0] > now - emulator.options.lag]
        emulator.store.put("run-versions", run["runId"], [*old[-1:], *recent, [now, run]])
