"""Reads half of many manifests and records in a second process, where there is a second processor.

It is a copy of this process that reads, parses and checks, and hands back only what is beyond doubt: plain data
that its schema accepts, and sound records. Everything else, and everything if the copy dies, is left to this
process.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import threading
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import IO, Any

from edgetrain.core.record import MAX_RECORD_BYTES, read_record
from edgetrain.repo.plain import MAX_BYTES, read_plain
from edgetrain.repo.schema import accepts
from edgetrain.repo.tree import Tree, in_order

# Below this many manifests a second process costs more than it saves.
WORTH_IT = 400

Job = tuple[str, str]  # a manifest's path, and its kind's name
Ready = tuple[bytes, dict[str, Any]]  # the bytes, and what they hold
Value = tuple[dict[str, Any], str]  # what a record holds, and its digest


class Beside:
    """The second process at work. `collect` waits for it; every other job and record is its."""

    def __init__(self, tree: Tree, jobs: Sequence[Job], records: Sequence[str]) -> None:
        self._process = 0
        self._answer: IO[bytes] | None = None
        if len(jobs) < WORTH_IT or len(_processors()) < 2 or threading.active_count() > 1:
            return
        self._answer = TemporaryFile()  # noqa: SIM115 (closed by collect or stop)
        self._process = os.fork()
        if self._process == 0:
            _copy(tree, dict(jobs[1::2]), records[1::2], self._answer)

    @property
    def working(self) -> bool:
        """Whether there is a second process."""
        return self._process > 0

    def collect(self) -> tuple[dict[str, Ready], dict[str, Value]]:
        """The manifests and the records that the second process found sound, by path; none if it failed."""
        process, answer = self._process, self._answer
        self._process, self._answer = 0, None
        if not process or answer is None:
            return {}, {}
        with answer:
            _, status = os.waitpid(process, 0)
            if status != 0:
                return {}, {}
            answer.seek(0)
            found: tuple[dict[str, Ready], dict[str, Value]] = marshal.loads(answer.read())  # noqa: S302 (our own)
            return found

    def stop(self) -> None:
        """End the second process if nobody collected what it found."""
        process, answer = self._process, self._answer
        self._process, self._answer = 0, None
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        if answer:
            answer.close()


def _processors() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on this system
        return set(range(os.cpu_count() or 1))


def _copy(tree: Tree, jobs: dict[str, str], records: Sequence[str], answer: IO[bytes]) -> None:
    """The second process: it never returns, and nothing of the first one's is closed or flushed by it."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        manifests: dict[str, Ready] = {}
        values: dict[str, Value] = {}
        tree.apart()
        for path in in_order(tree, [*jobs, *records]):
            # What can't be read is told by the first process, which tries again.
            with contextlib.suppress(Exception):
                if path not in jobs:
                    values[path] = read_record(path, tree.read(path, MAX_RECORD_BYTES))
                    continue
                data = tree.read(path, MAX_BYTES)
                plain = read_plain(data)
                if plain is not None and accepts(plain, jobs[path]):
                    manifests[path] = (data, plain)
        answer.write(marshal.dumps((manifests, values)))
        answer.flush()
        status = 0
    finally:
        os._exit(status)
