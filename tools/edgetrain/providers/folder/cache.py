"""A cache of content digests by what `stat` tells of a file: a row for each folder."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from zlib import crc32

from edgetrain.providers.digest_cache import connect
from edgetrain.providers.folder.hasher import DIGEST, FACTS, UNKNOWN

# A file changed less than two seconds before the look is neither remembered nor trusted: it can change again
# without a new time stamp.
RACY = 2 * 10**9
_TABLE = "CREATE TABLE IF NOT EXISTS folder (key BLOB PRIMARY KEY, row BLOB)"
NAME = 4
_ENTRY = NAME + FACTS.size + DIGEST
# After so many questions all is read at once, if that is not too much.
_MANY, _SMALL = 200, 2**26
_SIZE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
# Each time it waits for the disk once. A larger row is not remembered: SQLite takes none of a gigabyte.
_BATCH, _MOST = 2**23, 2**29


class Row(NamedTuple):
    """What is known of a folder's files, side by side: checksums of their names, their facts, and digests."""

    names: bytes = b""
    facts: bytes = b""
    digests: bytes = b""

    def of(self, names: bytes) -> tuple[bytes, bytes]:
        """The facts and digests of just these names; nothing at all if none is known."""
        if self.names == names:
            return self.facts, self.digests
        at = {name: place for place, name in enumerate(array("I", self.names))}
        found = [at.get(name) for name in array("I", names)]
        if all(place is None for place in found):
            return b"", b""
        facts = [UNKNOWN if p is None else self.facts[p * FACTS.size : (p + 1) * FACTS.size] for p in found]
        digests = [bytes(DIGEST) if p is None else self.digests[p * DIGEST : (p + 1) * DIGEST] for p in found]
        return b"".join(facts), b"".join(digests)

    def some(self, places: Iterable[int]) -> Row:
        """The files at these places."""
        sizes = (NAME, FACTS.size, DIGEST)
        each = [[part[p * size : (p + 1) * size] for part, size in zip(self, sizes, strict=True)] for p in places]
        return Row(*map(b"".join, zip(*each, strict=True))) if each else Row()

    def over(self, other: Row) -> Row:
        """This, and what else the other one knows."""
        mine = set(array("I", self.names))
        rest = other.some([place for place, name in enumerate(array("I", other.names)) if name not in mine])
        return Row(*(own + others for own, others in zip(self, rest, strict=True)))


def checksums(names: Sequence[bytes]) -> bytes:
    """By what the cache knows names: it holds none. Only with equal facts does one stand for a file."""
    return array("I", [crc32(name) for name in names]).tobytes()


class FolderCache:
    """Digests of the files under one root. It may be deleted; without a usable file it remembers nothing, and never
    fails."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._scope = os.fsencode(root) + b"\0"
        self._waiting: dict[bytes, bytes] = {}
        self._size = 0
        self._asked = 0
        self._every: dict[object, object] | None = None
        self._base = connect(folder / "digests.sqlite3", _TABLE)
        # SQLite lets Python go on meanwhile: what is read next does not wait for it.
        self._writer = ThreadPoolExecutor(1)

    def row(self, place: bytes) -> Row:
        """What is known of the folder."""
        key = self._key(place)
        if self._base is None:
            return Row()
        try:
            self._asked += 1
            if self._asked == _MANY and self._base.execute(_SIZE).fetchone()[0] <= _SMALL:
                self._every = dict(self._base.execute("SELECT key, row FROM folder"))
            if self._every is not None:
                whole = self._every.get(key)
            else:
                whole, *_ = self._base.execute("SELECT row FROM folder WHERE key=?", (key,)).fetchone() or (None,)
        except sqlite3.Error:
            self._every = {}  # each answer of a database that is held takes seconds
            return Row()
        if not isinstance(whole, bytes):
            return Row()
        data = memoryview(whole)[hashlib.sha256().digest_size :]
        count, rest = divmod(len(data), _ENTRY)
        if rest or not count or whole[: -len(data)] != _seal(key, data):
            return Row()
        return Row(
            bytes(data[: NAME * count]),
            bytes(data[NAME * count : -DIGEST * count]),
            bytes(data[-DIGEST * count :]),
        )

    def keep(self, place: bytes, row: Row) -> None:
        """Remember this of the folder, and nothing else."""
        key, data = self._key(place), b"".join(row)
        if len(data) > _MOST:
            return
        self._waiting[key] = _seal(key, data) + data
        self._size += len(data) + _ENTRY
        if self._size >= _BATCH:
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.flush()  # also after a failure: what was read need not be read again
        self._writer.shutdown()
        if self._base is not None:
            self._base.close()

    def flush(self) -> None:
        """Write what is to be remembered."""
        rows, self._waiting, self._size = self._waiting, {}, 0
        if rows and self._base is not None:
            self._writer.submit(_write, self._base, sorted(rows.items()))

    def _key(self, place: bytes) -> bytes:
        return hashlib.sha256(self._scope + place).digest()


def _seal(key: bytes, data: bytes | memoryview) -> bytes:
    """A damaged row, or another folder's, is none."""
    hasher = hashlib.sha256(key)
    hasher.update(data)
    return hasher.digest()


def _write(base: sqlite3.Connection, rows: list[tuple[bytes, bytes]]) -> None:
    try:
        with base:
            base.executemany("REPLACE INTO folder VALUES (?, ?)", rows)
    except sqlite3.Error:
        pass  # a cache that can't be written (full disk, busy) only costs time
