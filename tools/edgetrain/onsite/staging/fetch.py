"""Fetches blobs over several connections at once; a large one in pieces, so that all of them share it."""

from __future__ import annotations

import hashlib
import itertools
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from .cache import NEW, READ_ONLY, key_of
from .entry import Entry
from .errors import Stopped
from .pieces import PIECE, Pieces
from .store import Container, Session
from .task import Fetched, Task

AHEAD = 8
TICK = 0.5


class Job(NamedTuple):
    """What a thread does next: a whole blob, or one piece (-1: none is left to fetch, only to hash)."""

    entry: Entry
    key: str
    pieces: Pieces | None = None
    number: int = 0


class Crew:
    """The threads that fetch; only the caller's thread touches the task and its database."""

    def __init__(self, container: Container, task: Task) -> None:
        self.container, self.task = container, task
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[Fetched | Exception | None] = queue.SimpleQueue()
        self.large: dict[str, Pieces] = {}
        self.names = itertools.count()
        self.moved, self.before = [0] * task.parallel, task.moved
        self.threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(task.parallel)
        ]

    def run(self) -> None:
        """Fetch all that the task wants. Raises the first failure; what was whole by then is the task's."""
        for thread in self.threads:
            thread.start()
        try:
            self._lead()
        except BaseException:
            self.container.abort()
            raise
        finally:
            for _ in self.threads:
                self.jobs.put(None)
            for thread in self.threads:
                thread.join()
            with suppress(Exception):  # after a failure: keep what was ready too
                while True:
                    self._settle(self.results.get_nowait())
            for pieces in self.large.values():
                pieces.close()

    def _lead(self) -> None:
        under_way, jobs, most = 0, self._jobs(), AHEAD * len(self.threads)
        job = next(jobs, None)
        while job or under_way:
            while job and under_way < most:
                self.jobs.put(job)
                under_way += 1
                job = next(jobs, None)
            try:
                result = self.results.get(timeout=TICK)
            except queue.Empty:
                self._tally()
                continue
            under_way -= 1
            self._settle(result)

    def _jobs(self) -> Iterator[Job]:
        for entry in self.task.wanted():
            key = key_of(self.task.location, entry)
            if entry.size <= PIECE or not self.task.store:
                yield Job(entry, key)
                continue
            pieces = self.large[key] = Pieces(self.task.cache.partial, key, entry.size)
            for number in pieces.left() or [-1]:
                yield Job(entry, key, pieces, number)

    def _settle(self, result: Fetched | Exception | None) -> None:
        self._tally()
        if isinstance(result, Exception):
            raise result
        if result is not None:
            pieces = self.large.pop(result.key, None)
            self.task.take(result._replace(path=pieces.finish()) if pieces else result)

    def _tally(self) -> None:
        self.task.moved = self.before + sum(self.moved)
        self.task.tell()

    def _work(self, number: int) -> None:
        session = self.container.session()
        while True:
            job = self.jobs.get()
            if job is None or self.container.stop.is_set():
                break
            try:
                if job.pieces is None:
                    self.results.put(self._whole(session, number, job))
                else:
                    self.results.put(self._piece(session, number, job, job.pieces))
            except Stopped:
                break
            except Exception as error:
                self.results.put(error)
                break
        session.close()

    def _whole(self, session: Session, number: int, job: Job) -> Fetched:
        entry, hasher, path = job.entry, hashlib.sha256(), None
        if not self.task.store:

            def hashed(data: memoryview) -> None:
                self.moved[number] += len(data)
                hasher.update(data)

            session.read(entry, 0, entry.size, hashed)
            return Fetched(entry, job.key, hasher.hexdigest(), None)
        path = self.task.work / str(next(self.names))
        file = os.open(path, NEW, READ_ONLY)
        try:

            def written(data: memoryview) -> None:
                self.moved[number] += len(data)
                hasher.update(data)
                while data:
                    data = data[os.write(file, data) :]

            session.read(entry, 0, entry.size, written)
        finally:
            os.close(file)
        return Fetched(entry, job.key, hasher.hexdigest(), path)

    def _piece(self, session: Session, number: int, job: Job, pieces: Pieces) -> Fetched | None:
        if job.number >= 0:
            start, stop = pieces.span(job.number)
            position = start

            def written(data: memoryview) -> None:
                nonlocal position
                self.moved[number] += len(data)
                pieces.write(data, position)
                position += len(data)

            session.read(job.entry, start, stop, written)
            pieces.done(job.number)
        digest = pieces.hash_on()
        return Fetched(job.entry, job.key, digest, None) if digest else None
