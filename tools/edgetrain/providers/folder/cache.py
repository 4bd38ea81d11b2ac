"""A cache of content digests by what `stat` tells of a file; it holds no names and may be deleted."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path
from types import TracebackType

_BATCH = 500
_RACY = 2 * 10**9
_TABLE = """CREATE TABLE IF NOT EXISTS digest (
    key BLOB PRIMARY KEY, inode INTEGER, size INTEGER, mtime INTEGER, ctime INTEGER, digest TEXT
) WITHOUT ROWID"""


class DigestCache:
    """Digests of the files under one root. Without a usable folder it remembers nothing and never fails.

    A file changed less than two seconds before the look (`now`, in ns) is neither stored nor trusted: it
    can change again without a new time stamp.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._scope = os.fsencode(root) + b"\0"
        self._waiting: list[tuple[bytes, int, int, int, int, str]] = []
        self._base = _connect(folder / "digests.sqlite3")

    def get(self, name: str, status: os.stat_result, now: int) -> str | None:
        """The digest of the file `name` (relative to the root), if it is known to be unchanged."""
        if self._base is None or _racy(status, now):
            return None
        query = "SELECT digest FROM digest WHERE key=? AND inode=? AND size=? AND mtime=? AND ctime=?"
        try:
            row = self._base.execute(query, (self._key(name), *_facts(status))).fetchone()
        except sqlite3.Error:
            return None
        return str(row[0]) if row else None

    def put(self, name: str, status: os.stat_result, digest: str, now: int) -> None:
        """Remember the digest."""
        if self._base is not None and not _racy(status, now):
            self._waiting.append((self._key(name), *_facts(status), digest))
            if len(self._waiting) >= _BATCH:
                self._write()

    def __enter__(self) -> DigestCache:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._base is not None:
            self._write()  # also after a failure: what was read need not be read again
            self._base.close()

    def _write(self) -> None:
        if self._base is None:
            return
        try:
            with self._base:
                self._base.executemany("REPLACE INTO digest VALUES (?, ?, ?, ?, ?, ?)", self._waiting)
        except sqlite3.Error:
            pass  # a cache that can't be written (full disk, busy) only costs time
        self._waiting.clear()

    def _key(self, name: str) -> bytes:
        return hashlib.sha256(self._scope + os.fsencode(name)).digest()


def _facts(status: os.stat_result) -> tuple[int, int, int, int]:
    # SQLite's integers are signed; some file systems have inode numbers with the highest bit set.
    inode = status.st_ino - 2**64 if status.st_ino >= 2**63 else status.st_ino
    return inode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _racy(status: os.stat_result, now: int) -> bool:
    return max(status.st_mtime_ns, status.st_ctime_ns) > now - _RACY


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
