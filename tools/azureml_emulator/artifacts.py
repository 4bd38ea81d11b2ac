"""Files that runs and people leave with the service: records by origin, container and path, bytes as blobs."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from azureml_emulator import blobs, sas
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import FilePart, Refused

CONTAINER = "azureml"
RUN = "ExperimentRun"
ORIGINS = (RUN, "LocalUpload")
MAX_PATH = 900


def normal(path: str) -> str:
    """The path as it is kept: the client sends `./outputs/x` and Windows' slashes. Raises Refused."""
    found = posixpath.normpath(path.replace("\\", "/").strip("/") or ".")
    if found in {".", ".."} or found.startswith("../") or not found.isprintable() or len(found) > MAX_PATH:
        raise Refused(400, "UserError", "an artifact's path must be a relative path of printable characters")
    return found


def declare(emulator: Emulator, origin: str, container: str, path: str) -> dict[str, Any]:
    """The record of an artifact that is to be written. Raises Refused if its content is there already."""
    if origin not in ORIGINS or not container or "/" in container:
        raise Refused(400, "UserError", f"the artifact origin {origin[:40]!r} is not known")
    path = normal(path)
    identity = f"{origin}/{container}/{path}"
    with emulator.store.transaction():
        if blobs.get(emulator, CONTAINER, identity) is not None:
            raise Refused(409, "UserError", f"Resource Conflict: ArtifactId {identity} already exists.")
        record: dict[str, Any] | None = emulator.store.get("artifact", identity)
        if record is None:
            record = {
                "artifactId": identity,
                "origin": origin,
                "container": container,
                "path": path,
                "etag": None,
                "createdTime": emulator.time(),
                "dataPath": None,
            }
            emulator.store.put("artifact", identity, record)
    return record


def write(emulator: Emulator, origin: str, container: str, path: str, data: bytes | Path) -> dict[str, Any]:
    """Write a whole artifact, once. Raises Refused."""
    record = declare(emulator, origin, container, path)
    blobs.put(emulator, CONTAINER, record["artifactId"], data, only_new=True)
    return record


def append(emulator: Emulator, origin: str, container: str, path: str, data: bytes) -> dict[str, Any]:
    """Add to an artifact that grows: a log."""
    identity = f"{origin}/{container}/{normal(path)}"
    with emulator.store.transaction():
        record = find(emulator, origin, container, path) or declare(emulator, origin, container, path)
        blobs.append(emulator, CONTAINER, identity, data)
    return record


def find(emulator: Emulator, origin: str, container: str, path: str) -> dict[str, Any] | None:
    """The record of one artifact, or None."""
    found: dict[str, Any] | None = emulator.store.get("artifact", f"{origin}/{container}/{normal(path)}")
    return found


def listed(emulator: Emulator, origin: str, container: str, prefix: str = "") -> list[dict[str, Any]]:
    """The records under a prefix, by path: a folder, with or without its slash, or one file by its whole path."""
    prefix = prefix.strip("/")
    start = f"{origin}/{container}/{normal(prefix) if prefix else ''}"
    found = [record for _, record in emulator.store.scan("artifact", start)]
    if prefix:
        found = [record for record in found if record["artifactId"] == start or _below(record, start)]
    return sorted(found, key=lambda record: str(record["path"]))


def content(emulator: Emulator, host: str, record: dict[str, Any], permissions: str = "r") -> dict[str, Any]:
    """Where the bytes of an artifact are read or written, for whoever asked by this host name."""
    return {
        "contentUri": sas.address(emulator, host, CONTAINER, record["artifactId"], permissions),
        "origin": record["origin"],
        "container": record["container"],
        "path": record["path"],
    }


def _below(record: dict[str, Any], start: str) -> bool:
    return str(record["artifactId"]).startswith(f"{start}/")


def written(emulator: Emulator, record: dict[str, Any]) -> bool:
    """Whether the bytes of an artifact are there."""
    return blobs.get(emulator, CONTAINER, record["artifactId"]) is not None


def part(emulator: Emulator, record: dict[str, Any]) -> FilePart:
    """The bytes of an artifact. Raises Refused."""
    found = blobs.get(emulator, CONTAINER, record["artifactId"])
    if found is None:
        raise Refused(404, "UserError", f"Artifact {record['artifactId']} has no content yet")
    return FilePart(found.file, 0, found.size)
