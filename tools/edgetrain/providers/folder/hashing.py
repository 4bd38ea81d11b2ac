"""Many small files hashed by processes of their own, one a processor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from edgetrain.providers.folder.hasher import ANSWER, COUNT, FACTS

# Up to this size it is not the hash that costs most.
SMALL = 2**16
# Fewer are hashed in less time than processes take to start.
WORTH_IT = 300
# Two batches and their answers are less than the pipes hold, so that neither side ever waits for room.
_BATCH, _BATCH_BYTES = 200, 2**14


class Seen(Protocol):
    """A file as the walk saw it."""

    @property
    def place(self) -> str:
        """Its path below the root."""

    @property
    def status(self) -> os.stat_result:
        """What `stat` said of it."""


S = TypeVar("S", bound=Seen)


class SmallFiles(Generic[S]):
    """Give files with `add`; get them back, some later, with digests, or None where this process must look."""

    def __init__(self, root: Path, workers: int) -> None:
        self._root = root
        self._workers = workers
        self._processes: list[subprocess.Popen[bytes]] = []
        self._asked: deque[tuple[subprocess.Popen[bytes], list[S]]] = deque()
        self._batch: list[S] = []
        self._bytes = bytearray()
        self._turn = 0

    def add(self, file: S) -> Iterator[tuple[S, str | None]]:
        """Take a file; what has been answered meanwhile."""
        path, status = os.fsencode(file.place), file.status
        if len(path) > 2**12:
            yield file, None
            return
        self._bytes += FACTS.pack(status.st_ino, status.st_size, status.st_mtime_ns, len(path)) + path
        self._batch.append(file)
        if len(self._batch) >= _BATCH or len(self._bytes) >= _BATCH_BYTES:
            yield from self._ask()

    def rest(self) -> Iterator[tuple[S, str | None]]:
        """What is still to be answered."""
        yield from self._ask()
        while self._asked:
            yield from self._answers()

    def _ask(self) -> Iterator[tuple[S, str | None]]:
        if not self._batch:
            return
        if not self._processes:
            self._start()
        process = self._processes[self._turn % self._workers]
        self._turn += 1
        batch, data = self._batch, COUNT.pack(len(self._batch)) + self._bytes
        self._batch, self._bytes = [], bytearray()
        try:
            if process.stdin is None:
                raise BrokenPipeError
            process.stdin.write(data)
            process.stdin.flush()
        except OSError:
            yield from ((file, None) for file in batch)
            return
        self._asked.append((process, batch))
        while len(self._asked) >= 2 * self._workers:
            yield from self._answers()

    def _answers(self) -> Iterator[tuple[S, str | None]]:
        process, batch = self._asked.popleft()
        data = process.stdout.read(ANSWER * len(batch)) if process.stdout else b""
        for at, file in enumerate(batch):
            one = data[ANSWER * at : ANSWER * (at + 1)]
            yield file, "sha256:" + one[1:].hex() if len(one) == ANSWER and one[0] == 0 else None

    def _start(self) -> None:
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        program = str(Path(__file__).with_name("hasher.py"))
        try:
            for _ in range(self._workers):
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-I", "-S", "-B", program, str(root)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        pass_fds=(root,),
                        cwd="/",
                        env={},
                    )
                )
        finally:
            os.close(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        continue
