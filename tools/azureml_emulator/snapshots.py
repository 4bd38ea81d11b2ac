"""Snapshots of code: trees of files, each kept as a blob; a later one names only what changed."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from azureml_emulator import blobs, sas
from azureml_emulator.bodies import objects, pick
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Refused, insensitive

CONTAINER = "snapshots"
NONE = "00000000-0000-0000-0000-000000000000"
MAX_FILES = 20000
MAX_DEPTH = 64
EMPTY_TREE: dict[str, Any] = {
    "name": "",
    "type": "Directory",
    "hash": None,
    "timestamp": "0001-01-01T00:00:00",
    "children": {},
}


def get(emulator: Emulator, snapshot_id: str) -> dict[str, Any] | None:
    """The snapshot's record: `id`, `root` (the tree), `files` (path to hash and blob)."""
    found: dict[str, Any] | None = emulator.store.get("snapshot", snapshot_id)
    return found


def files(emulator: Emulator, snapshot_id: str) -> dict[str, Path]:
    """Relative path to file on disk. Raises Refused if the snapshot is not there."""
    record = get(emulator, snapshot_id)
    if record is None:
        raise Refused(404, "UserError", f"Snapshot {snapshot_id} was not found")
    return {path: _file(emulator, entry["blob"]) for path, entry in record["files"].items()}


def digests(emulator: Emulator, snapshot_id: str) -> dict[str, str]:
    """Relative path to hash; empty if the snapshot is not there."""
    record = get(emulator, snapshot_id)
    return {} if record is None else {path: str(entry["hash"]) for path, entry in record["files"].items()}


def create(emulator: Emulator, snapshot_id: str, body: Any) -> dict[str, Any]:
    """Take a snapshot from the client's tree, its list of new files and its parent. Raises Refused."""
    tree: Any = pick(body, "DirTreeNode")
    wanted: dict[str, str] = {}
    if not isinstance(tree, dict):
        raise Refused(400, "UserError", "the snapshot has no DirTreeNode")
    _walk(tree, "", wanted)
    fresh = {}
    for node in objects(pick(body, "FileRevisionList"), "FileNodes"):
        low = insensitive(node)
        fresh[path_of(str(low.get("fullname", "")))] = _uploaded(emulator, str(low.get("bloburi", "")), low)
    with emulator.store.transaction():
        parent_id = str(pick(body, "ParentSnapshotId") or NONE)
        parent = get(emulator, parent_id)
        if parent is None and parent_id != NONE:
            raise Refused(400, "UserError", f"the parent snapshot {parent_id[:40]} is not known")
        known = parent["files"] if parent else {}
        kept = {}
        for path, digest in wanted.items():
            if path in fresh:
                kept[path] = {"hash": digest, "blob": fresh[path]}
            elif path in known and known[path]["hash"] == digest:
                kept[path] = known[path]
            else:
                raise Refused(400, "UserError", f"{path[:200]} was neither sent nor is in the parent")
        record = {
            "id": snapshot_id,
            "parentId": parent_id,
            "root": tree,
            "files": kept,
            "tags": pick(body, "Tags"),
            "properties": pick(body, "Properties") or {},
            "createdUtc": emulator.time(),
        }
        before = get(emulator, snapshot_id)
        if before is not None and before["files"] != kept:
            raise Refused(409, "UserError", f"Snapshot {snapshot_id} already exists")
        emulator.store.put("snapshot", snapshot_id, record)
        emulator.store.put("snapshot-latest", "latest", {"id": snapshot_id})
    return record


def latest(emulator: Emulator) -> dict[str, Any]:
    """Id and tree of the newest snapshot; of an empty one if there is none."""
    pointer = emulator.store.get("snapshot-latest", "latest")
    record = get(emulator, pointer["id"]) if pointer else None
    return {"id": record["id"], "root": record["root"]} if record else {"id": NONE, "root": EMPTY_TREE}


def zipped(emulator: Emulator, snapshot_id: str) -> str:
    """The path of the blob, in the snapshots' container, that holds all its files as a zip. Raises Refused."""
    path = f"{snapshot_id}/{snapshot_id}.zip"
    if blobs.get(emulator, CONTAINER, path) is None:
        found = files(emulator, snapshot_id)
        scratch = emulator.store.files / f".{snapshot_id}.zip"
        with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as target:
            for name, file in sorted(found.items()):
                target.write(file, name)
        blobs.put(emulator, CONTAINER, path, scratch)
        scratch.unlink(missing_ok=True)
    return path


def path_of(name: str) -> str:
    """A snapshot file's path. Raises Refused unless it stays inside."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or ".." in path.parts or str(path) == "." or "\0" in name:
        raise Refused(400, "UserError", f"the snapshot's path {name[:200]!r} can't be used")
    return str(path)


def _walk(node: dict[str, Any], path: str, found: dict[str, str], depth: int = 0) -> None:
    if depth > MAX_DEPTH or len(found) > MAX_FILES:
        raise Refused(400, "UserError", "the snapshot's tree is too large")
    if str(pick(node, "type")).lower() in {"file", "0"}:
        found[path_of(path)] = str(pick(node, "hash"))
        return
    children = pick(node, "children") or {}
    if not isinstance(children, dict):
        raise Refused(400, "UserError", "the snapshot's tree can't be read")
    for name, child in children.items():
        if "/" in name or not isinstance(child, dict):
            raise Refused(400, "UserError", "the snapshot's tree can't be read")
        _walk(child, f"{path}/{name}" if path else name, found, depth + 1)


def _uploaded(emulator: Emulator, address: str, node: dict[str, Any]) -> str:
    container, path = sas.located(address)
    blob = blobs.get(emulator, container, path) if container == CONTAINER else None
    size = node.get("filesize")
    if blob is None or (size is not None and size != blob.size):
        raise Refused(400, "UserError", f"the snapshot's file {str(node.get('fullname'))[:200]} was not uploaded")
    return path


def _file(emulator: Emulator, path: str) -> Path:
    blob = blobs.get(emulator, CONTAINER, path)
    if blob is None:
        raise Refused(404, "UserError", "a file of the snapshot is gone")
    return blob.file
