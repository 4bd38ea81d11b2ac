"""What the emulator remembers: JSON documents in SQLite, bytes in files. It can be stopped at any time."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TABLE = """
create table if not exists documents (
  kind text not null, key text not null, made integer not null, value text not null, primary key (kind, key)
) without rowid;
create index if not exists documents_made on documents (kind, made);
create table if not exists counter (name text primary key, value integer not null);
"""


class Exists(Exception):
    """A document of this kind and key is there already."""


class Store:
    """Documents by kind and key, in `folder/state.db`; `files` is a folder for bytes.

    All calls are safe for many threads. Changes outside `transaction` are transactions of their own; inside,
    they are done together or not at all, and no other thread reads or writes meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.files = folder / "files"
        self.files.mkdir(exist_ok=True)
        self._lock = threading.RLock()
        self._depth = 0
        self._db = sqlite3.connect(folder / "state.db", check_same_thread=False, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.executescript(_TABLE)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside happens at once, or not at all; may be nested."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("begin immediate")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("rollback")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("commit")

    def get(self, kind: str, key: str) -> Any | None:
        """The document, or None; the caller may change it and must `put` it to keep that."""
        with self._lock:
            row = self._db.execute("select value from documents where kind=? and key=?", (kind, key)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, kind: str, key: str, value: Any) -> None:
        """Write the document; one that is there keeps its place in the order."""
        with self.transaction():
            row = self._db.execute("select made from documents where kind=? and key=?", (kind, key)).fetchone()
            made = row[0] if row else self.next("made")
            self._db.execute(
                "insert or replace into documents values (?,?,?,?)", (kind, key, made, json.dumps(value))
            )

    def insert(self, kind: str, key: str, value: Any) -> None:
        """Write a new document. Raises Exists."""
        with self.transaction():
            if self.get(kind, key) is not None:
                raise Exists(f"{kind} {key}")
            self.put(kind, key, value)

    def delete(self, kind: str, key: str) -> bool:
        """Remove it; whether it was there."""
        with self.transaction():
            return self._db.execute("delete from documents where kind=? and key=?", (kind, key)).rowcount > 0

    def scan(self, kind: str, prefix: str = "") -> list[tuple[str, Any]]:
        """Key and document of all of a kind whose key begins so, oldest first."""
        with self._lock:
            rows = self._db.execute(
                "select key, value from documents where kind=? and substr(key, 1, ?)=? order by made",
                (kind, len(prefix), prefix),
            ).fetchall()
        return [(key, json.loads(value)) for key, value in rows]

    def next(self, name: str) -> int:
        """The next number of a counter, from 1; never given twice."""
        with self.transaction():
            self._db.execute(
                "insert into counter values (?, 1) on conflict(name) do update set value=value+1", (name,)
            )
            return int(self._db.execute("select value from counter where name=?", (name,)).fetchone()[0])

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._db.close()
