"""One staging's fetching, whatever the source: what is to come, who else fetches it, and when it counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from .cache import Cache, Claims, key_of
from .entry import Entry
from .index import Index

BATCH = 256
SECONDS = 2.0
OFTEN = 1.0
ELSEWHERE = 0.1


class Fetched(NamedTuple):
    """A file that was fetched: its content's digest (hex), and where the content waits to be kept, if it shall."""

    entry: Entry
    key: str
    digest: str
    path: str | None


class Source(Protocol):
    """Where an input comes from."""

    location: str

    def entries(self) -> Iterator[Entry]:
        """All its files. Raises Failure."""

    def start(self) -> int:
        """How many bytes of each name lead to the input; known after the first entry, or the end of them."""

    def scope(self) -> bytes | None:
        """The beginning of all names that `entries` would list, or None if that is not known."""

    def fetch(self, task: Task) -> None:
        """Fetch all of one `task.wanted()` and give it to `task.take`. Raises Failure."""


class Task:
    """What is to be fetched into `work`, and kept in the cache if `store`: `count` files."""

    def __init__(
        self, cache: Cache, index: Index, work: Path, location: str, parallel: int, say: Callable[[object], None]
    ) -> None:
        self.cache, self.index, self.work, self.location, self.parallel = cache, index, work, location, parallel
        self.store, self.say = True, say
        self.claims = Claims(cache.locks)
        self.waiting: list[Fetched] = []
        self.since = self.told = time.monotonic()
        self.skipped = False
        self.count = self.files = self.bytes = self.moved = 0

    def run(self, source: Source) -> None:
        """Fetch everything that is marked; files that another staging fetches are waited for."""
        try:
            while True:
                self.skipped = False
                source.fetch(self)
                self.commit()
                if not self.skipped:
                    return
                time.sleep(ELSEWHERE)
        except BaseException:
            with suppress(Exception):  # the first failure is the one to tell
                self.commit()
            raise
        finally:
            self.claims.close()

    def wanted(self) -> Iterator[Entry]:
        """What to fetch now; each one is claimed."""
        for entry in self.index.needed():
            key = key_of(self.location, entry)
            if not self.claims.take(key):
                self.skipped = True
                continue
            known = self.index.known(entry)  # another staging's work, done since we looked
            if known and (not self.store or self.cache.has(known, entry.size)):
                self.index.settle([(entry, known)])
                self.claims.give(key)
                self._count(entry)
                continue
            yield entry

    def take(self, fetched: Fetched) -> None:
        """A file was fetched."""
        self.waiting.append(fetched)
        self._count(fetched.entry)
        if len(self.waiting) >= BATCH or time.monotonic() - self.since > SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make what was taken count: on the disk, then in its place, then known."""
        waiting, self.waiting = self.waiting, []
        if waiting:
            if any(one.path for one in waiting):
                self.cache.sync()
            for one in waiting:
                if one.path is not None:
                    self.cache.keep(one.path, one.digest, one.entry.size)
            self.index.settle((one.entry, one.digest) for one in waiting)
            for one in waiting:
                self.claims.give(one.key)
        self.since = time.monotonic()

    def tell(self) -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self.told > OFTEN:
            self.told = time.monotonic()
            self.say({"progress": {"bytes": self.bytes, "files": self.files, "moved": self.moved}})

    def _count(self, entry: Entry) -> None:
        self.files += 1
        self.bytes += entry.size
        self.tell()
