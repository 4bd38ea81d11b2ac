"""A cache of content digests by (name, size, ETag); it holds no names and may be deleted."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from types import TracebackType

from edgetrain.providers.azure_blob.client import Blob

_BATCH = 500
_TABLE = """CREATE TABLE IF NOT EXISTS digest (
    key BLOB PRIMARY KEY, size INTEGER, etag TEXT, digest TEXT
) WITHOUT ROWID"""


class DigestCache:
    """Digests of one container's blobs. Without a usable folder it remembers nothing and never fails."""

    def __init__(self, folder: Path, container: str) -> None:
        self._scope = container.encode() + b"\0"
        self._waiting: list[tuple[bytes, int, str, str]] = []
        self._base = _connect(folder / "blobs.sqlite3")

    def get(self, blob: Blob) -> str | None:
        """The blob's digest, if this very version was read before."""
        if self._base is None:
            return None
        query = "SELECT digest FROM digest WHERE key=? AND size=? AND etag=?"
        try:
            row = self._base.execute(query, (self._key(blob), blob.size, blob.etag)).fetchone()
        except sqlite3.Error:
            return None
        return str(row[0]) if row else None

    def put(self, blob: Blob, digest: str) -> None:
        """Remember the digest."""
        self._waiting.append((self._key(blob), blob.size, blob.etag, digest))
        if len(self._waiting) >= _BATCH:
            self._write()

    def __enter__(self) -> DigestCache:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._write()  # also after a failure: what was read need not be read again
        if self._base is not None:
            self._base.close()

    def _write(self) -> None:
        try:
            if self._base is not None:
                with self._base:
                    self._base.executemany("REPLACE INTO digest VALUES (?, ?, ?, ?)", self._waiting)
        except sqlite3.Error:
            pass  # a cache that can't be written (full disk, busy) only costs time
        self._waiting.clear()

    def _key(self, blob: Blob) -> bytes:
        return hashlib.sha256(self._scope + blob.name.encode()).digest()


def _connect(path: Path) -> sqlite3.Connection | None:
    for _ in range(2):
        base = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            base = sqlite3.connect(path, timeout=5)
            base.execute(_TABLE)
            return base
        except (OSError, sqlite3.OperationalError):
            if base is not None:
                base.close()
            return None
        except sqlite3.DatabaseError:  # not a database any more: begin anew
            if base is not None:
                base.close()
            path.unlink(missing_ok=True)
    return None
