"""A cache of content digests in SQLite, for what can be told unchanged without reading it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

# Each batch waits for the disk once. It is sorted, for what lies side by side is written at once.
_BATCH = 50_000
# After so many questions all is read at once, if that is not too much.
_MANY, _MOST = 200, 150_000

Fact = int | str


class DigestCache:
    """Digests by name and facts; it holds no names (only their hashes) and may be deleted.

    `facts` are the columns, name to SQLite type, that must all be equal for a digest to hold. `scope` keeps the
    names of one root or container from those of another. Without a usable file it remembers nothing and never
    fails.
    """

    def __init__(self, path: Path, scope: bytes, facts: Mapping[str, str]) -> None:
        self._scope = scope + b"\0"
        self._waiting: list[tuple[bytes | Fact, ...]] = []
        self._asked = 0
        self._known: dict[bytes, tuple[Fact | str, ...]] | None = None
        columns = ", ".join(f"{name} {kind}" for name, kind in facts.items())
        table = f"CREATE TABLE IF NOT EXISTS digest (key BLOB PRIMARY KEY, {columns}, digest TEXT) WITHOUT ROWID"
        equal = "".join(f" AND {name}=?" for name in facts)
        self._query = f"SELECT digest FROM digest WHERE key=?{equal}"  # noqa: S608 - names of our own
        self._write = f"REPLACE INTO digest VALUES ({', '.join('?' * (len(facts) + 2))})"  # noqa: S608
        self._all = f"SELECT key, {', '.join(facts)}, digest FROM digest LIMIT {_MOST + 1}"  # noqa: S608
        self._base = connect(path, table)
        # SQLite lets Python go on meanwhile: what is read next does not wait for it.
        self._writer = ThreadPoolExecutor(1)

    @property
    def blank(self) -> bool:
        """Whether it is known that nothing can be found: no name need be hashed then."""
        return self._known is not None and not self._known

    def find(self, name: bytes, facts: tuple[Fact, ...]) -> str | None:
        """The digest that was stored with these very facts."""
        if self._base is None:
            return None
        key = self._key(name)
        try:
            self._asked += 1
            if self._asked == _MANY:
                rows = self._base.execute(self._all).fetchall()
                self._known = {row[0]: row[1:] for row in rows} if len(rows) <= _MOST else None
            if self._known is not None:
                known = self._known.get(key)
                return str(known[-1]) if known is not None and known[:-1] == facts else None
            row = self._base.execute(self._query, (key, *facts)).fetchone()
        except sqlite3.Error:
            return None
        return str(row[0]) if row else None

    def store(self, name: bytes, facts: tuple[Fact, ...], digest: str) -> None:
        """Remember a digest."""
        self._waiting.append((self._key(name), *facts, digest))
        if len(self._waiting) >= _BATCH:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flush()  # also after a failure: what was read need not be read again
        self._writer.shutdown()
        if self._base is not None:
            self._base.close()

    def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        if rows and self._base is not None:
            self._writer.submit(_write, self._base, self._write, rows)

    def _key(self, name: bytes) -> bytes:
        return hashlib.sha256(self._scope + name).digest()


def _write(base: sqlite3.Connection, statement: str, rows: list[tuple[bytes | Fact, ...]]) -> None:
    rows.sort(key=itemgetter(0))
    try:
        with base:
            base.executemany(statement, rows)
    except sqlite3.Error:
        pass  # a cache that can't be written (full disk, busy) only costs time


def connect(path: Path, table: str) -> sqlite3.Connection | None:
    """The database, with the table; another begun if it is none any more. None if it can't be used."""
    for _ in range(2):
        base = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            base = sqlite3.connect(path, timeout=5, check_same_thread=False)
            base.execute(table)
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
