"""A second process where there is a second processor; it reads half of many manifests and records.

It is a copy of this process that reads, parses and checks, and hands back only what is beyond doubt: plain data
that its schema accepts, and sound records. Everything else, and everything if the copy dies, is left to this
process.
"""

from __future__ import annotations

import contextlib
import gc
import marshal
import os
import signal
import threading
from collections.abc import Callable, Sequence
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, Self

from edgetrain.core.record import MAX_RECORD_BYTES, read_record
from edgetrain.repo.plain import MAX_BYTES, read_plain
from edgetrain.repo.schema import accepts
from edgetrain.repo.tree import Tree, in_order

# Below this many manifests a second process costs more than it saves.
WORTH_IT = 400

Job = tuple[str, str]  # a manifest's path, and its kind's name
Ready = tuple[bytes, dict[str, Any]]  # the bytes, and what they hold
Value = tuple[dict[str, Any], str]  # what a record holds, and its digest


class Copy:
    """A copy of this process that does some work beside it. `collect` waits for it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        """`work` gives plain data (what marshal knows); nothing that both processes read with may be used in it."""
        self._process = 0
        self._answer: IO[bytes] | None = None
        if len(_processors()) < 2 or threading.active_count() > 1:
            return
        try:
            self._answer = TemporaryFile()  # noqa: SIM115 (closed by collect or stop)
            self._process = os.fork()
        except OSError:  # no room for it: this process does it all
            self.stop()
            return
        if self._process == 0:
            _be_the_copy(work, self._answer)

    @property
    def working(self) -> bool:
        """Whether there is a second process."""
        return self._process > 0

    def collect(self) -> Any:
        """What its work gave; None if it failed."""
        process, answer = self._process, self._answer
        self._process, self._answer = 0, None
        if not process or answer is None:
            return None
        with answer:
            _, status = os.waitpid(process, 0)
            if status != 0:
                return None
            answer.seek(0)
            return marshal.loads(answer.read())  # noqa: S302 (written by ourselves)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def half(tree: Tree, jobs: Sequence[Job], records: Sequence[str]) -> tuple[dict[str, Ready], dict[str, Value]]:
    """The work of a copy: every other manifest and record, by path, as far as they are sound."""
    kinds, others = dict(jobs[1::2]), records[1::2]
    manifests: dict[str, Ready] = {}
    values: dict[str, Value] = {}
    tree.apart()
    for path in in_order(tree, [*kinds, *others]):
        # What can't be read is told by the first process, which tries again.
        with contextlib.suppress(Exception):
            if path not in kinds:
                values[path] = read_record(path, tree.read(path, MAX_RECORD_BYTES))
                continue
            data = tree.read(path, MAX_BYTES)
            plain = read_plain(data)
            if plain is not None and accepts(plain, kinds[path]):
                manifests[path] = (data, plain)
    return manifests, values


def _processors() -> set[int]:
    try:
        return os.sched_getaffinity(0)
    except AttributeError:  # not on this system
        return set(range(os.cpu_count() or 1))


def _be_the_copy(work: Callable[[], Any], answer: IO[bytes]) -> None:
    """The second process: it never returns, and nothing of the first one's is closed or flushed by it."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        gc.disable()  # it would copy what both share
        answer.write(marshal.dumps(work()))
        answer.flush()
        status = 0
    except Exception:
        status = 1  # the first process does it again, and tells what is wrong
    finally:
        os._exit(status)
