"""What is known of blobs' content digests, kept between commands: a cache, safe to delete."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

from edgetrain.core.digest import SHA256


class DigestCache:
    """Git blob id to `sha256:...`, in one SQLite file. A file that can't be used is as good as empty."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = _open(path)

    def get(self, blob: str) -> str | None:
        """The digest, if known."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            row = self._database.execute("SELECT digest FROM blobs WHERE blob = ?", (blob,)).fetchone()
            if row and SHA256.fullmatch(str(row[0])):
                return str(row[0])
        return None

    def put(self, blob: str, digest: str) -> None:
        """Remember the digest."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._database.execute("INSERT OR REPLACE INTO blobs VALUES (?, ?)", (blob, digest))

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
        database.execute("CREATE TABLE IF NOT EXISTS blobs (blob TEXT PRIMARY KEY, digest TEXT NOT NULL)")
    except sqlite3.Error:
        database.close()
        raise
    return database
