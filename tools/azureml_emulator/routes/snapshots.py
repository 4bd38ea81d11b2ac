"""The content service: snapshots of code."""

from __future__ import annotations

import uuid
from typing import Any

from azureml_emulator import bodies, sas, snapshots
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

CONTENT = ("/content/v1.0{WS}/snapshots", "/content/v2.0{WS}/snapshots")
MAX_NAMES = 5000


@route("GET", CONTENT[0] + "/latest/metadata")
@route("GET", CONTENT[1] + "/latest/metadata")
def get_latest(emulator: Emulator, request: Request) -> Answer:
    """What the next snapshot may be told as a difference to."""
    return Answer(200, snapshots.latest(emulator))


@route("POST", CONTENT[1] + "/getblob")
def get_blob(emulator: Emulator, request: Request) -> Answer:
    """Where the new files of a snapshot are uploaded to."""
    names = bodies.texts(bodies.given(request), "FileNames")
    if len(names) > MAX_NAMES:
        raise Refused(400, "UserError", f"a snapshot has at most {MAX_NAMES} files")
    folder = uuid.uuid4().hex
    nodes = []
    for name in names:
        path = f"{folder}/{snapshots.path_of(name)}"
        address = sas.address(emulator, request.host, snapshots.CONTAINER, path, "rc")
        nodes.append({"fullName": name, "blobUri": address})
    return Answer(200, {"fileNodes": nodes})


@route("POST", CONTENT[1] + "/{snapshot_id}")
def create_snapshot(emulator: Emulator, request: Request, snapshot_id: str) -> Answer:
    """Take the snapshot whose files were uploaded."""
    try:
        identity = str(uuid.UUID(snapshot_id))
    except ValueError:
        raise Refused(400, "UserError", "a snapshot's id is a GUID") from None
    return Answer(200, _shown(snapshots.create(emulator, identity, bodies.given(request))))


@route("POST", CONTENT[1] + "/{snapshot_id}/zip", writes=False)
def zip_snapshot(emulator: Emulator, request: Request, snapshot_id: str) -> Answer:
    """All its files as a zip."""
    path = snapshots.zipped(emulator, snapshot_id)
    return Answer(200, {"zipSasUri": sas.address(emulator, request.host, snapshots.CONTAINER, path)})


@route("GET", CONTENT[0] + "/{snapshot_id}/metadata")
@route("GET", CONTENT[1] + "/{snapshot_id}/metadata")
def get_snapshot(emulator: Emulator, request: Request, snapshot_id: str) -> Answer:
    """Its tree."""
    record = snapshots.get(emulator, snapshot_id)
    if record is None:
        raise Refused(404, "UserError", f"Snapshot {snapshot_id} was not found")
    return Answer(200, _shown(record))


@route("GET", CONTENT[0] + "/{snapshot_id}/sas")
def get_addresses(emulator: Emulator, request: Request, snapshot_id: str) -> Answer:
    """Its tree with an address for each file."""
    record = snapshots.get(emulator, snapshot_id)
    if record is None:
        raise Refused(404, "UserError", f"Snapshot {snapshot_id} was not found")
    host = request.host
    return Answer(
        200,
        {
            path: sas.address(emulator, host, snapshots.CONTAINER, entry["blob"])
            for path, entry in sorted(record["files"].items())
        },
    )


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("id", "parentId", "root", "tags", "properties", "createdUtc")}
