"""Digests files in the order of their tree: many small ones by processes of their own, large ones by threads."""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from edgetrain.core.errors import EdgetrainError, Transient
from edgetrain.core.problem import shown
from edgetrain.providers.durable import CHUNK, open_regular
from edgetrain.providers.folder.cache import NAME, RACY, FolderCache, Row, checksums
from edgetrain.providers.folder.hasher import (
    CHANGED,
    DIGEST,
    FACTS,
    FRESH,
    LARGE,
    LENGTH,
    TOLD,
    Group,
    Told,
    facts_of,
    look,
)
from edgetrain.providers.folder.walk import OPEN_FOLDER, Names, kind_of, open_parent

# Fewer files are looked at in less time than processes take to start.
WORTH_IT = 300
# Two requests are less than a pipe holds, so that neither side ever waits for room.
BATCH, BATCH_BYTES = 200, 2**14
WORKERS = min(8, os.cpu_count() or 1)
# Up to this size it is not the hash that costs most; in this process, larger files are better read by threads.
SMALL = 2**16
_LONG = 2**12
# So many parts wait at most for a large file before them.
_MOST_WAITING = 256
# After so many bytes what is told of a folder is remembered before all of it is.
OFTEN = 2**35


class _Folder:
    """A folder of which something is asked: what the cache knows of it, and what it is to know."""

    def __init__(self, cache: FolderCache, names: Names) -> None:
        self.place, self._cache = names.place, cache
        every = names.names if names.every is None else names.every
        self._whole, self._left = names.every is not None, len(every)
        self._names = checksums(every)
        self._row = cache.row(self.place)
        self.facts, self.digests = self._row.of(self._names)
        self.asked = self._settled = 0  # how many of its files
        self._new: list[Row] = []

    def take(self, states: bytes, facts: bytes, digests: bytes) -> None:
        """What became of the next files of the folder."""
        names = self._names[NAME * self._settled : NAME * (self._settled + len(states))]
        self._settled += len(states)
        if max(states) == TOLD:
            self._new.append(Row(names, facts, digests))
        else:
            self._new.append(Row(names, facts, digests).some(at for at, s in enumerate(states) if s == TOLD))
        self._left -= len(states)
        if self.told:
            self.keep()

    @property
    def told(self) -> bool:
        """Whether nothing of it is still asked for."""
        return not self._left

    def keep(self) -> None:
        """Remember what has been told of it; of the files that were not looked at, what was known."""
        row = Row(*map(b"".join, zip(*self._new, strict=True)))
        if not self._whole or self._left:
            told = len(row.facts), len(row.digests)
            if row[1:] == (self.facts[: told[0]], self.digests[: told[1]]):
                return
            row = row.over(self._row)
        if row != self._row:
            self._cache.keep(self.place, row)


class _Asked:
    """Some files of one folder that were asked for. `told` is the answer, `late` files that are still read."""

    def __init__(self, folder: _Folder, prefix: bytes, names: list[bytes]) -> None:
        self.folder, self.prefix, self.names = folder, prefix, names
        begun, folder.asked = folder.asked, folder.asked + len(names)
        self.known = folder.facts[begun * FACTS.size : folder.asked * FACTS.size]
        self.digests = folder.digests[begun * DIGEST : folder.asked * DIGEST]
        self.told: Told | None = None
        self.late: dict[int, _Late] = {}

    def group(self) -> Group:
        return self.folder.place, self.prefix, self.names, self.known, self.digests


class _Late(NamedTuple):
    """A file that this process reads: as it was before, and its digest when that is known."""

    status: os.stat_result
    stream: BinaryIO
    digest: Future[bytes]


class Looking:
    """One look at files below `root`; `path` is what the manifest gives, `now` the time in nanoseconds. `progress`
    is told the bytes that were read. `files` and `bytes` count all files."""

    def __init__(
        self, root: Path, path: str, cache: FolderCache, now: int, progress: Callable[[int], None] | None
    ) -> None:
        self._root, self._path, self._cache, self._progress = root, path, cache, progress
        self._fresh = now - RACY
        self._pool = ThreadPoolExecutor(WORKERS)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folders: dict[bytes, _Folder] = {}
        self._line: deque[_Asked] = deque()  # in the tree's order
        self._request: list[_Asked] = []
        self._room = [BATCH, BATCH_BYTES]
        self._sent: deque[tuple[subprocess.Popen[bytes], list[_Asked]]] = deque()
        self._turn = 0
        self._late: deque[_Late] = deque()
        self._since = 0  # bytes that were read since something was written to the cache for that
        self.files = self.bytes = 0

    def tree(self, found: Iterable[Names]) -> Iterator[bytes]:
        """What the digest of the tree is made over. Raises what is wrong with a file, Transient if one changes
        while it is read; and OSError."""
        for names in found:
            folder = self._folders.get(names.place)
            if folder is None:
                folder = self._folders[names.place] = _Folder(self._cache, names)
            around = len(names.place) + len(names.prefix)
            for part in _parts(names.names, BATCH_BYTES - around):
                self._ask(_Asked(folder, names.prefix, part), names.folder, around)
                yield from self._ready(_MOST_WAITING)
        self._send()
        while self._sent:
            self._receive()
            yield from self._ready(_MOST_WAITING)
        yield from self._ready(0)

    def _ask(self, asked: _Asked, folder: int, around: int) -> None:
        self._line.append(asked)
        self.files += len(asked.names)
        if self.files <= WORTH_IT or around > _LONG:
            self._settle(asked, look(folder, *asked.group()[1:], self._fresh, SMALL))
            return
        needed = len(asked.names), around + sum(map(len, asked.names))
        if any(one > left for one, left in zip(needed, self._room, strict=True)):
            self._send()
        self._request.append(asked)
        self._room = [left - one for one, left in zip(needed, self._room, strict=True)]

    def _send(self) -> None:
        request, self._request, self._room = self._request, [], [BATCH, BATCH_BYTES]
        if not request:
            return
        if not self._processes:
            self._start()
        process = self._processes[self._turn % WORKERS]
        self._turn += 1
        data = marshal.dumps([asked.group() for asked in request])
        with contextlib.suppress(OSError):  # of a process that died: there will be no answer either
            if process.stdin is not None:
                process.stdin.write(LENGTH.pack(len(data)) + data)
                process.stdin.flush()
        self._sent.append((process, request))
        while len(self._sent) >= 2 * WORKERS:
            self._receive()

    def _receive(self) -> None:
        """Read one answer, or look here for what a process that died was asked."""
        process, request = self._sent.popleft()
        answers: list[Told | None] = [None] * len(request)
        if process.stdout is not None:
            head = process.stdout.read(LENGTH.size)
            size = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else 0
            data = process.stdout.read(size)
            if size and len(data) == size:
                answers = marshal.loads(data)  # noqa: S302 (a program of our own wrote it)
        for asked, told in zip(request, answers, strict=True):
            self._settle(asked, told or self._look(asked))

    def _look(self, asked: _Asked) -> Told:
        folder = self._open(asked.folder.place)
        try:
            return look(folder, *asked.group()[1:], self._fresh, SMALL)
        finally:
            os.close(folder)

    def _open(self, place: bytes) -> int:
        return open_parent(self._root, [*os.fsdecode(place).split("/"), ""] if place else [""], self._path)

    def _settle(self, asked: _Asked, told: Told) -> None:
        """Take an answer, and begin to read what it leaves open."""
        states, facts, _, size, read, _ = asked.told = told
        self.bytes += size
        self._has_read(read)
        if max(states) <= FRESH:
            return
        if CHANGED in states:
            raise changing(self._path)
        folder = self._open(asked.folder.place)
        try:
            for at, state in enumerate(states):
                if state > FRESH:
                    asked.late[at] = late = self._begin(asked.names[at], folder)
                    seen = FACTS.unpack_from(facts, at * FACTS.size)[1] if state == LARGE else 0
                    self.bytes += late.status.st_size - seen
        finally:
            os.close(folder)

    def _begin(self, name: bytes, folder: int) -> _Late:
        """Begin to read a file. Raises what is wrong with it."""
        while len(self._late) >= 4 * WORKERS:
            self._late.popleft().digest.result()
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind_of(status, self._path)
        stream = open_regular(os.fsdecode(name), folder)
        late = _Late(status, stream, self._pool.submit(_hash, stream, status, self._path))
        self._late.append(late)
        return late

    def _ready(self, most: int) -> Iterator[bytes]:
        """What is told, as far as nothing before it is missing; with more than `most` behind it, that is waited
        for."""
        while self._line and (told := self._line[0].told) is not None:
            late = self._line[0].late
            if len(self._line) <= most and not all(one.digest.done() for one in late.values()):
                return
            asked = self._line.popleft()
            states, facts, digests, _, _, tree = self._whole(asked, told) if late else told
            asked.folder.take(states, facts, digests)
            if asked.folder.told:
                del self._folders[asked.folder.place]
            elif self._since > OFTEN:
                asked.folder.keep()
            if self._since > OFTEN:
                self._cache.flush()
                self._since = 0
            yield tree

    def _whole(self, asked: _Asked, told: Told) -> Told:
        """The answer with what was read here."""
        states, facts, digests = bytearray(told[0]), bytearray(told[1]), bytearray(told[2])
        for at, (status, _, digest) in asked.late.items():
            digests[at * DIGEST : (at + 1) * DIGEST] = digest.result()
            facts[at * FACTS.size : (at + 1) * FACTS.size] = facts_of(status)
            states[at] = FRESH if max(status.st_mtime_ns, status.st_ctime_ns) > self._fresh else TOLD
            self._has_read(status.st_size)
        each = (
            asked.prefix + name + b"\0" + digests[at * DIGEST : (at + 1) * DIGEST]
            for at, name in enumerate(asked.names)
        )
        return bytes(states), bytes(facts), bytes(digests), 0, 0, b"".join(each)

    def _has_read(self, size: int) -> None:
        self._since += size
        if size and self._progress:
            self._progress(size)

    def _start(self) -> None:
        root = os.open(self._root, OPEN_FOLDER)
        program = str(Path(__file__).with_name("hasher.py"))
        try:
            for _ in range(WORKERS):
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-I", "-S", "-B", program, str(root), str(self._fresh)],
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

    def _salvage(self) -> None:
        """After a failure, take what was asked for already and is told without waiting for a large file."""
        while self._sent:
            with contextlib.suppress(EdgetrainError, OSError):
                self._receive()
        for asked in self._line:
            if asked.told is None:
                return
            done = all(one.digest.done() and one.digest.exception() is None for one in asked.late.values())
            asked.folder.take(*(self._whole(asked, asked.told) if done else asked.told)[:3])

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, EdgetrainError):
            self._salvage()
        for process in self._processes:
            process.kill()
        self._pool.shutdown(wait=error is None, cancel_futures=True)  # a stop waits for no file not yet begun
        for late in self._late:
            if late.digest.cancelled():
                late.stream.close()
        for folder in self._folders.values():
            folder.keep()  # after a failure, what was read until then
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


def _parts(names: list[bytes], room: int) -> Iterator[list[bytes]]:
    """The names in parts, each of which fits into a request, if only it is one name."""
    at = 0
    while at < len(names):
        part = names[at : at + BATCH]
        while len(part) > 1 and sum(map(len, part)) > room:
            part = part[: len(part) // 2]
        at += len(part)
        yield part


def changing(path: str) -> Transient:
    """That a file changed while it was read."""
    return Transient(
        f"a file in {shown(path)} changed while it was read",
        reason="DataChanging",
        fix="wait until the data is copied, then apply again",
    )


def _hash(stream: BinaryIO, before: os.stat_result, path: str) -> bytes:
    hasher = hashlib.sha256()
    with stream:
        # No larger than the file: clearing a whole chunk costs more than reading a small one.
        buffer = bytearray(min(CHUNK, before.st_size + 1))
        while count := stream.readinto(buffer):  # type: ignore[attr-defined]
            hasher.update(memoryview(buffer)[:count])
        after = os.fstat(stream.fileno())
    if (after.st_ino, after.st_size, after.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise changing(path)
    return hasher.digest()
