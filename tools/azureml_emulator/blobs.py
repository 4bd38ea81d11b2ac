"""Containers of bytes on disk: what run files, snapshots and logs are kept in, and what the blob service serves."""

from __future__ import annotations

import base64
import hashlib
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Refused

BLOCK, APPEND = "BlockBlob", "AppendBlob"
MAX_PATH = 1024


@dataclass(frozen=True)
class Blob:
    """One blob. Only the first `size` bytes of `file` are its content. `md5` is base64, empty if not known;
    `modified` in seconds since the epoch."""

    path: str
    file: Path
    size: int
    md5: str
    etag: str
    modified: float
    kind: str
    content_type: str


def get(emulator: Emulator, container: str, path: str) -> Blob | None:
    """The blob, or None."""
    found = emulator.store.get("blob", f"{container}/{path}")
    return None if found is None else _blob(emulator, path, found)


def listed(emulator: Emulator, container: str, prefix: str = "") -> list[Blob]:
    """The container's blobs whose path begins so, by path."""
    start = len(container) + 1
    found = emulator.store.scan("blob", f"{container}/{prefix}")
    return sorted((_blob(emulator, key[start:], value) for key, value in found), key=lambda blob: blob.path)


def put(
    emulator: Emulator,
    container: str,
    path: str,
    data: bytes | Path,
    *,
    kind: str = BLOCK,
    content_type: str = "",
    only_new: bool = False,
    md5: str = "",
) -> Blob:
    """Write a whole blob. `md5` (base64) is compared. Raises Refused (409 with `only_new` if it is there)."""
    file = _new_file(emulator)
    if isinstance(data, Path):
        summed = hashlib.md5(usedforsecurity=False)
        with data.open("rb") as source, file.open("wb") as target:
            while piece := source.read(2**20):
                summed.update(piece)
                target.write(piece)
        counted = base64.b64encode(summed.digest()).decode()
    else:
        counted = digest(data)
        file.write_bytes(data)
    if md5 and md5 != counted:
        file.unlink()
        raise Refused(400, "Md5Mismatch", "the content is not that of Content-MD5")
    return _commit(emulator, container, path, file, counted, kind, content_type, only_new)


def append(emulator: Emulator, container: str, path: str, data: bytes, position: int | None = None) -> Blob:
    """Add to an append blob, which is made if it is not there. `position`: where the caller thinks the end is."""
    with emulator.store.transaction():
        blob = get(emulator, container, path) or put(emulator, container, path, b"", kind=APPEND)
        if blob.kind != APPEND:
            raise Refused(409, "InvalidBlobType", "the blob is not an append blob")
        if position is not None and position != blob.size:
            raise Refused(412, "AppendPositionConditionNotMet", "the blob's end is elsewhere")
        with blob.file.open("r+b") as target:
            # Bytes past the end are of an append that never finished.
            target.truncate(blob.size)
            target.seek(blob.size)
            target.write(data)
        return _write(emulator, container, path, blob.file, blob.size + len(data), "", APPEND, blob.content_type)


def digest(data: bytes) -> str:
    """The MD5 as the service writes it."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def stage(emulator: Emulator, container: str, path: str, block: str, data: bytes) -> None:
    """Keep a block until `commit` names it."""
    file = _new_file(emulator)
    file.write_bytes(data)
    emulator.store.put("block", f"{container}/{path}\n{block}", {"file": file.name, "size": len(data)})


def commit(
    emulator: Emulator,
    container: str,
    path: str,
    blocks: Sequence[str],
    *,
    content_type: str = "",
    only_new: bool = False,
) -> Blob:
    """Make the blob of its staged blocks, in this order. Raises Refused."""
    waiting = {key.split("\n", 1)[1]: value for key, value in emulator.store.scan("block", f"{container}/{path}\n")}
    if any(block not in waiting for block in blocks):
        raise Refused(400, "InvalidBlockList", "the list names a block that was not put")
    file = _new_file(emulator)
    summed = hashlib.md5(usedforsecurity=False)
    with file.open("wb") as target:
        for block in blocks:
            piece = (_folder(emulator) / waiting[block]["file"]).read_bytes()
            summed.update(piece)
            target.write(piece)
    counted = base64.b64encode(summed.digest()).decode()
    blob = _commit(emulator, container, path, file, counted, BLOCK, content_type, only_new)
    for block, value in waiting.items():
        emulator.store.delete("block", f"{container}/{path}\n{block}")
        (_folder(emulator) / value["file"]).unlink(missing_ok=True)
    return blob


def staged(emulator: Emulator, container: str, path: str) -> list[tuple[str, int]]:
    """Names and sizes of the blocks that wait."""
    found = emulator.store.scan("block", f"{container}/{path}\n")
    return [(key.split("\n", 1)[1], int(value["size"])) for key, value in found]


def delete(emulator: Emulator, container: str, path: str) -> bool:
    """Remove it; whether it was there. Whoever reads it goes on doing so."""
    with emulator.store.transaction():
        blob = get(emulator, container, path)
        if blob is not None:
            emulator.store.delete("blob", f"{container}/{path}")
            blob.file.unlink(missing_ok=True)
        return blob is not None


def _commit(
    emulator: Emulator,
    container: str,
    path: str,
    file: Path,
    md5: str,
    kind: str,
    content_type: str,
    only_new: bool,
) -> Blob:
    try:
        with emulator.store.transaction():
            before = get(emulator, container, path)
            if before is not None and only_new:
                raise Refused(409, "BlobAlreadyExists", "the blob is there already")
            made = _write(emulator, container, path, file, file.stat().st_size, md5, kind, content_type)
    except Refused:
        file.unlink()
        raise
    if before is not None:
        before.file.unlink(missing_ok=True)
    return made


def _write(
    emulator: Emulator, container: str, path: str, file: Path, size: int, md5: str, kind: str, content_type: str
) -> Blob:
    if not path or len(path) > MAX_PATH or "\n" in path or "\0" in path:
        raise Refused(400, "InvalidUri", "the blob's path can't be used")
    value = {
        "file": file.name,
        "size": size,
        "md5": md5,
        "etag": f"0x{uuid.uuid4().hex[:15].upper()}",
        "modified": emulator.now(),
        "kind": kind,
        "contentType": content_type,
    }
    emulator.store.put("blob", f"{container}/{path}", value)
    return _blob(emulator, path, value)


def _blob(emulator: Emulator, path: str, value: dict[str, Any]) -> Blob:
    return Blob(
        path=path,
        file=_folder(emulator) / str(value["file"]),
        size=int(value["size"]),
        md5=str(value["md5"]),
        etag=str(value["etag"]),
        modified=float(value["modified"]),
        kind=str(value["kind"]),
        content_type=str(value["contentType"]) or "application/octet-stream",
    )


def copy_out(blob: Blob, target: Path) -> None:
    """Write the blob's content to a file."""
    with blob.file.open("rb") as source, target.open("wb") as into:
        shutil.copyfileobj(source, into)
        into.truncate(blob.size)


def _folder(emulator: Emulator) -> Path:
    folder = emulator.store.files / "blobs"
    folder.mkdir(exist_ok=True)
    return folder


def _new_file(emulator: Emulator) -> Path:
    # Paths of blobs come from outside and never become paths on disk.
    return _folder(emulator) / uuid.uuid4().hex
