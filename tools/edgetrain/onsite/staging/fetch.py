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

AHEAD = 2
GROUP = 8
SMALL = 2**18
TICK = 0.5
IDLE = 0.05


class Job(NamedTuple):
    """What a thread does next: a few small blobs with their keys, or help with a large one that has pieces."""

    blobs: list[tuple[Entry, str]]
    pieces: Pieces | None = None


class Crew:
    """The threads that fetch; only the caller's thread touches the task and its database."""

    def __init__(self, container: Container, task: Task) -> None:
        self.container, self.task = container, task
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.results: queue.SimpleQueue[tuple[list[Fetched], Exception | None]] = queue.SimpleQueue()
        self.large: dict[str, Job] = {}
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
            while not self.results.empty():  # after a failure: keep what was ready too
                left = self.results.get()
                with suppress(Exception):  # the first failure is the one to tell
                    self._settle(*left)
            for job in self.large.values():
                if job.pieces is not None:
                    job.pieces.close()

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
            self._settle(*result)

    def _jobs(self) -> Iterator[Job]:
        # A few blobs at a time cost less to hand out; but with few blobs, each thread gets its share.
        most = max(1, min(GROUP, self.task.count // (GROUP * len(self.threads))))
        group: list[tuple[Entry, str]] = []
        for entry in self.task.wanted():
            key = key_of(self.task.location, entry)
            if entry.size > PIECE and self.task.store:
                job = Job([(entry, key)], Pieces(self.task.cache.partial, key, entry.size))
                self.large[key] = job
                yield job
                continue
            group.append((entry, key))
            if len(group) == most or entry.size > SMALL:
                yield Job(group)
                group = []
        if group:
            yield Job(group)

    def _settle(self, result: list[Fetched], error: Exception | None) -> None:
        self._tally()
        for fetched in result:
            job = self.large.pop(fetched.key, None)
            self.task.take(fetched._replace(path=job.pieces.finish()) if job and job.pieces else fetched)
        if error is not None:
            raise error

    def _tally(self) -> None:
        self.task.moved = self.before + sum(self.moved)
        self.task.tell()

    def _work(self, number: int) -> None:
        session = self.container.session()
        while not self.container.stop.is_set():
            try:
                job = self._next()
                if job is None:
                    break
                if job.pieces is None:
                    self._group(session, number, job)
                else:
                    self._pieces(session, number, job, job.pieces)
            except Stopped:
                break
            except Exception as error:
                self.results.put(([], error))
                break
        session.close()

    def _next(self) -> Job | None:
        """A blob that nobody fetches yet; if there is none, a large one of which pieces are left. None: the end."""
        while True:
            try:
                return self.jobs.get_nowait()
            except queue.Empty:
                for job in list(self.large.values()):
                    if job.pieces is not None and 0 in job.pieces.claimed:
                        return job
            with suppress(queue.Empty):
                return self.jobs.get(timeout=IDLE)

    def _group(self, session: Session, number: int, job: Job) -> None:
        """One result for one job, with what was whole before a failure."""
        done: list[Fetched] = []
        try:
            for entry, key in job.blobs:
                done.append(self._whole(session, number, entry, key))
        except Exception as error:
            self.results.put((done, error))
            raise Stopped from None
        self.results.put((done, None))

    def _whole(self, session: Session, number: int, entry: Entry, key: str) -> Fetched:
        hasher, path = hashlib.sha256(), None
        if not self.task.store:

            def hashed(data: memoryview) -> None:
                self.moved[number] += len(data)
                hasher.update(data)

            session.read(entry, 0, entry.size, hashed)
            return Fetched(entry, key, hasher.hexdigest(), None)
        path = f"{self.task.work}/{next(self.names)}"
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
        return Fetched(entry, key, hasher.hexdigest(), path)

    def _pieces(self, session: Session, number: int, job: Job, pieces: Pieces) -> None:
        """Fetch pieces until none is left. The thread that hashes the last one has the result."""
        entry, key = job.blobs[0]
        digest = pieces.hash_on()
        while digest is None:
            piece = pieces.claim()
            if piece is None:
                return
            start, stop = pieces.span(piece)
            position, hashing = start, pieces.begin(piece)

            def written(data: memoryview, hashing: bool = hashing) -> None:
                nonlocal position
                self.moved[number] += len(data)
                pieces.write(data, position, hashing)
                position += len(data)

            session.read(entry, start, stop, written)
            digest = pieces.done(piece, hashing)
        self.results.put(([Fetched(entry, key, digest, None)], None))
