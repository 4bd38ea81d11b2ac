"""What is known of blobs' content digests, kept between commands: a cache, safe to delete."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

from edgetrain.core.digest import SHA256


class DigestCache:
    """Git blob id to size and `sha256:...`, in one SQLite file. A file that can't be used is as good as empty."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = _open(path)

    def get(self, blob: str) -> tuple[int, str] | None:
        """Size and digest, if known."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            row = self._database.execute("SELECT size, digest FROM measured WHERE blob = ?", (blob,)).fetchone()
            if row and type(row[0]) is int and SHA256.fullmatch(str(row[1])):
                return row[0], str(row[1])
        return None

    def put(self, blob: str, size: int, digest: str) -> None:
        """Remember the two."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._database.execute("INSERT OR REPLACE INTO measured VALUES (?, ?, ?)", (blob, size, digest))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()


def _open(path: Path) -> sqlite3.Connection:
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _prepared(str(path))
        except (sqlite3.OperationalError, OSError):
            break
        except sqlite3.DatabaseError:  # no database any more: begin anew
            with contextlib.suppress(OSError):
                path.unlink()
    return _prepared(":memory:")


def _prepared(place: str) -> sqlite3.Connection:
    database = sqlite3.connect(place, timeout=5, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = OFF")
        columns = "blob TEXT PRIMARY KEY, size INTEGER NOT NULL, digest TEXT NOT NULL"
        database.execute(f"CREATE TABLE IF NOT EXISTS measured ({columns})")
    except sqlite3.Error:
        database.close()
        raise
    return database
