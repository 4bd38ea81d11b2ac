"""What one staging is about, in a database on the cache's disk, so that millions of names take no memory.

Beside it the digests that are known from before, by (location, name, size, tag).
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from .entry import Entry
from .errors import Failure, bad_name

BATCH = 2000
EMPTY = hashlib.sha256().digest()
MOST = 50_000_000
LONGEST_PART = 255
LONGEST = 3000
DEEPEST = 64
PLAIN = re.compile(r"[^\\\x00-\x1f\x7f-\x9f]*")
OWN = """CREATE TABLE entry (
    name BLOB PRIMARY KEY, size INTEGER NOT NULL, tag TEXT NOT NULL, token TEXT NOT NULL,
    digest BLOB, need INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID"""
KNOWN = (
    "CREATE TABLE IF NOT EXISTS known.place (id INTEGER PRIMARY KEY, location TEXT UNIQUE)",
    """CREATE TABLE IF NOT EXISTS known.file (
    place INTEGER, name BLOB, size INTEGER, tag TEXT, digest BLOB, PRIMARY KEY (place, name)) WITHOUT ROWID""",
)
REUSE = """UPDATE entry SET digest = (SELECT file.digest FROM known.file
    WHERE file.place = ? AND file.name = entry.name AND file.size = entry.size AND file.tag = entry.tag)
    WHERE digest IS NULL"""
GONE = """DELETE FROM known.file WHERE place = ? AND name >= ? AND name < ?
    AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.name = file.name)"""


class Index:
    """`start` bytes of each name lead to the input and do not count in the tree."""

    def __init__(self, work: Path, known: Path, location: str) -> None:
        self.start = 0
        self.base = sqlite3.connect(str(work / "entries.sqlite3"), timeout=60, isolation_level=None)
        self.base.execute("PRAGMA journal_mode=OFF")
        self.base.execute("PRAGMA synchronous=OFF")
        self.base.execute("PRAGMA cache_size=-16384")
        self.base.execute("PRAGMA temp_store=FILE")
        self.base.execute(OWN)
        self._attach(known)
        self.base.execute("INSERT OR IGNORE INTO known.place (location) VALUES (?)", (location,))
        query = "SELECT id FROM known.place WHERE location = ?"
        self.place = int(self.base.execute(query, (location,)).fetchone()[0])

    def _attach(self, known: Path) -> None:
        """Open the known digests. What is no database is made anew: it only saves time."""
        try:
            self._open_known(known)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            with suppress(sqlite3.OperationalError):
                self.base.execute("DETACH known")
            for suffix in ("", "-wal", "-shm"):
                known.with_name(known.name + suffix).unlink(missing_ok=True)
            self._open_known(known)

    def _open_known(self, known: Path) -> None:
        self.base.execute("ATTACH ? AS known", (str(known),))
        self.base.execute("PRAGMA known.journal_mode=WAL")
        self.base.execute("PRAGMA known.synchronous=NORMAL")
        self.base.execute("PRAGMA known.cache_size=-16384")
        for table in KNOWN:
            self.base.execute(table)

    def close(self) -> None:
        """Close the database."""
        self.base.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction."""
        self.base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self.base.in_transaction:
                self.base.execute("ROLLBACK")
            raise
        self.base.execute("COMMIT")

    def add(self, entries: Iterable[Entry], start: Callable[[], int], tell: Callable[[], None]) -> None:
        """Take the listing; `start` is asked once there are entries, `tell` is called now and then.

        Raises Failure for an unusable name."""
        count, listed = 0, iter(entries)
        while batch := list(islice(listed, BATCH)):
            self.start = start()
            self._add(batch)
            count += len(batch)
            if count > MOST:
                raise Failure("Rejected", "TooMany", f"the input has over {MOST} files", "split the input")
            tell()

    def _add(self, batch: list[Entry]) -> None:
        for entry in batch:
            check_name(entry.name[self.start :])
        with self.writing():
            self.base.executemany("REPLACE INTO entry (name, size, tag, token) VALUES (?, ?, ?, ?)", batch)

    def totals(self) -> tuple[int, int]:
        """How many files, and their bytes."""
        files, size = self.base.execute("SELECT count(*), coalesce(sum(size), 0) FROM entry").fetchone()
        return int(files), int(size)

    def reuse(self) -> None:
        """Take over what is known of unchanged files, and of empty ones."""
        with self.writing():
            self.base.execute("UPDATE entry SET digest = ? WHERE size = 0", (EMPTY,))
            self.base.execute(REUSE, (self.place,))

    def plan(self, has: Callable[[str, int], bool] | None) -> tuple[int, int]:
        """Mark what must be fetched: files without digest, and without content where `has` is given.

        Answers how many files that is, and their bytes."""
        with self.writing():
            self.base.execute("UPDATE entry SET need = (digest IS NULL)")
        if has is not None:
            for rows in self._pages("SELECT name, size, digest FROM entry WHERE name > ? AND need = 0"):
                lost = [(name,) for name, size, digest in rows if not has(digest.hex(), size)]
                with self.writing():
                    self.base.executemany("UPDATE entry SET need = 1 WHERE name = ?", lost)
        query = "SELECT count(*), coalesce(sum(size), 0) FROM entry WHERE need"
        files, size = self.base.execute(query).fetchone()
        return int(files), int(size)

    def needed(self) -> Iterator[Entry]:
        """What is marked, in order of names; rows may be settled meanwhile."""
        for rows in self._pages("SELECT name, size, tag, token FROM entry WHERE name > ? AND need"):
            for row in rows:
                yield Entry(*row)

    def known(self, entry: Entry) -> str | None:
        """The digest (hex) of the file, if another staging found it since."""
        query = "SELECT digest FROM known.file WHERE place = ? AND name = ? AND size = ? AND tag = ?"
        row = self.base.execute(query, (self.place, entry.name, entry.size, entry.tag)).fetchone()
        return bytes(row[0]).hex() if row else None

    def settle(self, found: Iterable[tuple[Entry, str]]) -> None:
        """Remember digests (hex), here and for other times; their contents are where they should be."""
        pairs = [(entry, bytes.fromhex(digest)) for entry, digest in found]
        with self.writing():
            rows = [(digest, entry.name) for entry, digest in pairs]
            self.base.executemany("UPDATE entry SET digest = ?, need = 0 WHERE name = ?", rows)
            known = [(self.place, entry.name, entry.size, entry.tag, digest) for entry, digest in pairs]
            self.base.executemany("REPLACE INTO known.file VALUES (?, ?, ?, ?, ?)", known)

    def whole(self) -> bool:
        """Whether all digests are there."""
        return self.base.execute("SELECT 1 FROM entry WHERE digest IS NULL LIMIT 1").fetchone() is None

    def contents(self) -> Iterator[tuple[bytes, str]]:
        """Names in the tree and digests (hex), sorted by the names' bytes. Raises Failure for a file that is
        also a folder."""
        folder = b""
        for rows in self._pages("SELECT name, digest FROM entry WHERE name > ?"):
            for name, digest in rows:
                parent = name.rpartition(b"/")[0]
                if parent != folder and len(parent) > self.start:
                    self._no_files(parent, folder)
                folder = parent
                yield name[self.start :], digest.hex()

    def forget_gone(self, prefix: bytes) -> None:
        """Drop what is known of files under the prefix that are no more."""
        with self.writing():
            self.base.execute(GONE, (self.place, prefix, prefix + b"\xff"))

    def _no_files(self, folder: bytes, checked: bytes) -> None:
        while len(folder) > self.start and not (checked + b"/").startswith(folder + b"/"):
            if self.base.execute("SELECT 1 FROM entry WHERE name = ?", (folder,)).fetchone():
                raise bad_name("is both a file's and a folder's")
            folder = folder.rpartition(b"/")[0]

    def _pages(self, query: str) -> Iterator[list[Any]]:
        last: bytes = b""
        while True:
            rows = self.base.execute(f"{query} ORDER BY name LIMIT {BATCH}", (last,)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield rows


def check_name(name: bytes) -> None:
    """Raise Failure unless the name, relative to the input, can be a file's here."""
    if not name or len(name) > LONGEST:
        raise bad_name("is empty or too long")
    if not PLAIN.fullmatch(name.decode("utf-8", "replace")):
        raise bad_name("has a backslash or control characters")
    parts = name.split(b"/")
    if len(parts) > DEEPEST:
        raise bad_name("lies too many folders deep")
    for part in parts:
        if part in (b"", b".", b"..") or len(part) > LONGEST_PART:
            raise bad_name("has an empty, relative or overlong part")
