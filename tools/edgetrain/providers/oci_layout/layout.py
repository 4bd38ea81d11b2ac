"""One OCI image layout in a folder: its blobs and its index, with nothing in them trusted."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from filelock import FileLock, Timeout

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, Rejected
from edgetrain.providers.durable import disk, incoming, make_folder, open_regular, sweep
from edgetrain.providers.image_spec import (
    INDEX_TYPE,
    JSON_SIZE,
    CheckedStream,
    Descriptor,
    broken,
    check_digest,
    missing,
    parsed,
)

REF_NAME = "org.opencontainers.image.ref.name"
LOCK_SECONDS = 60.0
_VERSION = b'{"imageLayoutVersion":"1.0.0"}'


class Layout:
    """The layout in `folder`. `lock` is a file outside it, `spool` a folder of the same file system."""

    def __init__(self, folder: Path, lock: Path, spool: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._lock = lock
        self._spool = spool

    def size(self, digest: str) -> int | None:
        """The blob's size, or None if it is absent."""
        with disk("looking at a blob"):
            try:
                return self._path(digest).lstat().st_size
            except FileNotFoundError:
                return None

    def open(self, blob: Descriptor) -> BinaryIO:
        """The blob's bytes; the last read raises Rejected if they are not those of the digest."""
        with disk("reading a blob"):
            try:
                stream = open_regular(self._path(blob.digest))
            except FileNotFoundError:
                raise missing("the image layout", blob.digest) from None
        return io.BufferedReader(CheckedStream(cast(BinaryIO, _Disk(stream)), blob), 2**20)

    def read(self, digest: str) -> bytes:
        """A manifest's or config's bytes, checked. Raises NotFound; Rejected if over 8 MiB or spoilt."""
        with disk("reading a blob"):
            try:
                with open_regular(self._path(digest)) as stream:
                    data = stream.read(JSON_SIZE + 1)
            except FileNotFoundError:
                raise missing("the image layout", digest) from None
        if len(data) > JSON_SIZE:
            raise broken("a manifest or config is over 8 MiB")
        if digest_bytes(data) != digest:
            raise broken(f"the bytes of {digest} are not its own")
        return data

    def write(self, blob: Descriptor, source: Callable[[], BinaryIO]) -> None:
        """Ensure the blob, streaming. Raises Rejected if the bytes are not those of the digest."""
        if self.size(blob.digest) == blob.size:
            return
        with disk("storing a blob"):
            sweep(self._spool)
            with incoming(self._spool) as file:
                with source() as stream:
                    file.copy(stream)
                if (file.digest, file.size) != (blob.digest, blob.size):
                    raise Rejected(
                        f"the bytes given for {blob.digest} are not its own",
                        reason="DigestMismatch",
                        fix="check the artifact store's disk, then apply again",
                    )
                file.replace(self._path(blob.digest))

    def entries(self) -> list[dict[str, Any]]:
        """The index's manifests; none for an absent layout. Raises Rejected if it is not an index."""
        return self._index()["manifests"]  # type: ignore[no-any-return]

    @contextmanager
    def editing(self) -> Iterator[list[dict[str, Any]]]:
        """The index's manifests, to change in place; written at the end, whole, if they changed."""
        with disk("changing an image layout"):
            make_folder(self._lock.parent)
            held = FileLock(self._lock, timeout=LOCK_SECONDS)
            try:
                held.acquire()
            except Timeout:
                raise Conflict(
                    "another process holds the image layout", reason="Locked", fix="apply again when it has ended"
                ) from None
        try:
            index = self._index()
            before = json.dumps(index)
            yield index["manifests"]
            # The same images and tags give the same index, in whatever order they came.
            index["manifests"].sort(key=lambda entry: (tag_of(entry) or "", entry["digest"]))
            if json.dumps(index) != before:
                self._place("oci-layout", _VERSION)
                self._place("index.json", json.dumps(index, sort_keys=True, separators=(",", ":")).encode())
        finally:
            held.release()

    def _index(self) -> dict[str, Any]:
        with disk("reading an image layout"):
            try:
                with open_regular(self.folder / "index.json") as stream:
                    data = stream.read(JSON_SIZE + 1)
            except FileNotFoundError:
                return {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
        if len(data) > JSON_SIZE:
            raise broken("index.json is over 8 MiB")
        index = parsed(data)
        if not isinstance(index.get("manifests"), list):
            raise broken("index.json has no list of manifests")
        for entry in index["manifests"]:
            Descriptor.parse(entry)
            if not isinstance(entry.get("annotations", {}), dict):
                raise broken("annotations in index.json are not an object")
        return index

    def _place(self, name: str, data: bytes) -> None:
        with disk("changing an image layout"), incoming(self._spool) as file:
            file.write(data)
            file.replace(self.folder / name)

    def _path(self, digest: str) -> Path:
        return self._blobs / check_digest(digest).removeprefix("sha256:")


class _Disk(io.RawIOBase):
    """A blob's file, whose faults are told as a disk's."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        with disk("reading a blob"):
            return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()
        super().close()


def tag_of(entry: Mapping[str, Any]) -> str | None:
    """The tag of an index's entry."""
    tag = entry.get("annotations", {}).get(REF_NAME)
    return tag if isinstance(tag, str) else None
