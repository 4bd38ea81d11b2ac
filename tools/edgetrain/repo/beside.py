"""Reads half of many manifests in a second process, where there is a second processor.

It is a copy of this process that reads, parses and checks, and hands back only what is beyond doubt: plain data
that its schema accepts. Everything else, and everything if the copy dies, is left to this process.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile
from typing import IO, Any

from edgetrain.repo.plain import MAX_BYTES, read_plain
from edgetrain.repo.schema import accepts
from edgetrain.repo.tree import Tree

# Below this many manifests a second process costs more than it saves.
WORTH_IT = 400
# So many files a tree is told ahead of.
AHEAD = 256

Job = tuple[str, str]  # a manifest's path, and its kind's name
Ready = tuple[bytes, dict[str, Any]]  # the bytes, and what they hold


class Beside:
    """The second process at work. `collect` waits for it; every other job is its."""

    def __init__(self, tree: Tree, jobs: Sequence[Job]) -> None:
        self._process = 0
        self._answer: IO[bytes] | None = None
        if len(jobs) < WORTH_IT or len(_processors()) < 2 or threading.active_count() > 1:
            return
        self._answer = TemporaryFile()  # noqa: SIM115 (closed by collect or stop)
        self._process = os.fork()
        if self._process == 0:
            _copy(tree, jobs[1::2], self._answer)

    @property
    def working(self) -> bool:
        """Whether there is a second process."""
        return self._process > 0

    def collect(self) -> Mapping[str, Ready]:
        """What the second process found sound, by path; nothing if it failed."""
        process, answer = self._process, self._answer
        self._process, self._answer = 0, None
        if not process or answer is None:
            return {}
        with answer:
            _, status = os.waitpid(process, 0)
            if status != 0:
                return {}
            answer.seek(0)
            found: dict[str, Ready] = marshal.load(answer)  # noqa: S302 (written by ourselves)
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


def _copy(tree: Tree, jobs: Sequence[Job], answer: IO[bytes]) -> None:
    """The second process: it never returns, and nothing of the first one's is closed or flushed by it."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        found: dict[str, Ready] = {}
        tree.apart()
        for at in range(0, len(jobs), AHEAD):
            part = jobs[at : at + AHEAD]
            with contextlib.suppress(Exception):
                tree.ahead([path for path, _ in part])
            for path, kind in part:
                # What can't be read is told by the first process, which tries again.
                with contextlib.suppress(Exception):
                    data = tree.read(path, MAX_BYTES)
                    plain = read_plain(data)
                    if plain is not None and accepts(plain, kind):
                        found[path] = (data, plain)
        marshal.dump(found, answer)
        answer.flush()
        status = 0
    finally:
        os._exit(status)
