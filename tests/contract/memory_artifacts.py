"""An artifact store in memory: a second provider that shows the seam holds."""

from __future__ import annotations

import io
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edgetrain.core.digest import SHA256, digest_bytes
from edgetrain.core.errors import Conflict, NotFound, Rejected
from edgetrain.core.ports import Check
from edgetrain.providers.diagnosis import diagnose_artifacts

_NAME = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._@-]{1,200}(/(?!\.{1,2}(/|$))[A-Za-z0-9._@-]{1,200})*")


class MemoryArtifacts:
    """Lives as long as its process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._claims: dict[str, bytes] = {}
        self._locks: dict[str, threading.Lock] = {}

    def put_file(self, source: Path) -> str:
        try:
            status = source.lstat()
        except FileNotFoundError:
            raise NotFound("no such file") from None
        if not stat.S_ISREG(status.st_mode):
            raise Rejected("not a regular file")
        return self.put_bytes(source.read_bytes())

    def put_bytes(self, data: bytes) -> str:
        digest = digest_bytes(data)
        self._blobs[digest] = data
        return digest

    def open(self, digest: str) -> BinaryIO:
        if _checked(digest) not in self._blobs:
            raise NotFound(digest)
        return io.BytesIO(self._blobs[digest])

    def size(self, digest: str) -> int | None:
        data = self._blobs.get(_checked(digest))
        return None if data is None else len(data)

    def digests(self) -> Iterator[tuple[str, int]]:
        yield from [(digest, len(data)) for digest, data in self._blobs.items()]

    def delete(self, digest: str) -> None:
        self._blobs.pop(_checked(digest), None)

    def claim(self, name: str, value: bytes) -> bytes:
        return self._claims.setdefault(_named(name), value)

    def claims(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        yield from [(name, value) for name, value in self._claims.items() if name.startswith(prefix)]

    def release_claim(self, name: str) -> None:
        self._claims.pop(_named(name), None)

    @contextmanager
    def lock(self, name: str, timeout: float = 60.0) -> Iterator[None]:
        held = self._locks.setdefault(name, threading.Lock())
        if not held.acquire(timeout=timeout):
            raise Conflict("held", reason="Locked")
        try:
            yield
        finally:
            held.release()

    def diagnose(self) -> Sequence[Check]:
        return diagnose_artifacts(self)


def _checked(digest: str) -> str:
    if not SHA256.fullmatch(digest):
        raise Rejected("not a digest")
    return digest


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Rejected("not a safe name")
    return name
