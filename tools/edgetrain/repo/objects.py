"""What git gives back as values: persons, commits, and a reader of many objects over one process."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import IO, NamedTuple

from edgetrain.core.errors import RepositoryError

OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
CHUNK = 2**16
SMALL = 2**16
_BREATH = 256

# Twelve fields, NUL between and after them; a commit can't hold a NUL in any of them.
COMMIT_FORMAT = (
    "%H%x00%T%x00%P%x00%an%x00%ae%x00%at%x00%cn%x00%ce%x00%ct%x00%s%x00%b%x00"
    "%(trailers:only=true,unfold=true,separator=%x1e,key_value_separator=%x1f)"
)
COMMIT_FIELDS = 12


class Person(NamedTuple):
    """Who, and when (RFC 3339 in UTC), as the commit claims."""

    name: str
    email: str
    time: str

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>"


@dataclass(frozen=True)
class Commit:
    """One commit. `trailers` keeps the keys as written; `trailer` looks one up in any case."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    subject: str
    body: str = field(repr=False)
    trailers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def trailer(self, key: str) -> tuple[str, ...]:
        """All values of the trailer, in order."""
        wanted = key.casefold()
        return tuple(v for name, values in self.trailers.items() if name.casefold() == wanted for v in values)


def parse_commit(fields: list[str]) -> Commit:
    """From the fields of COMMIT_FORMAT."""
    sha, tree, parents, name, email, time, c_name, c_email, c_time, subject, body, block = fields
    trailers: dict[str, tuple[str, ...]] = {}
    for line in filter(None, block.split("\x1e")):
        key, _, value = line.partition("\x1f")
        trailers[key] = (*trailers.get(key, ()), value.strip())
    return Commit(
        sha,
        tree,
        tuple(parents.split()),
        Person(name, email, _rfc3339(time)),
        Person(c_name, c_email, _rfc3339(c_time)),
        subject,
        body,
        trailers,
    )


@lru_cache(maxsize=1024)  # author and committer, and what a merge brings, often have the same
def _rfc3339(seconds: str) -> str:
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)  # a forged time that no calendar holds
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class ObjectReader:
    """`git cat-file --batch`: many objects, one process. Threads may share it. Close it, or use `with`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the process needs pipes")
        self._process = process
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout
        self._lock = threading.Lock()
        self._asked: Sequence[str] = ()  # whose answers nobody has read yet
        self._found: dict[str, bytes] = {}

    def read(self, oid: str, limit: int = 64 * 2**20) -> bytes:
        """The object's bytes. Raises RepositoryError `FileTooLarge` beyond `limit` bytes, `ObjectMissing`."""
        parts: list[bytes] = []
        self.copy(oid, parts.append, limit)
        return b"".join(parts)

    def read_small(self, oids: Sequence[str]) -> dict[str, bytes]:
        """Of these objects, those that are here and have at most SMALL bytes. Asked for in one breath: to wait for
        each answer before the next question costs more than the answer."""
        found: dict[str, bytes] = {}
        for at in range(0, len(oids), _BREATH):
            self.ask(oids[at : at + _BREATH])
            found |= self.answers()
        return found

    def ask(self, oids: Sequence[str]) -> None:
        """Let git read these objects while other work is done: a few hundred at most."""
        wanted = [oid for oid in oids if OID.fullmatch(oid)]
        with self._lock:
            self._settle()
            try:
                # Less than a pipe holds: git takes all of it before we read any answer.
                self._stdin.write("".join(f"{oid}\n" for oid in wanted).encode())
                self._stdin.flush()
            except (OSError, ValueError) as error:
                self.close()
                raise _ended(error) from None
            self._asked = wanted

    def answers(self) -> dict[str, bytes]:
        """Of the objects asked for since the last answers, those that are here and have at most SMALL bytes."""
        with self._lock:
            self._settle()
            found, self._found = self._found, {}
        return found

    def _settle(self) -> None:
        """Read what was asked for and is still in the pipe."""
        wanted, self._asked = self._asked, ()
        try:
            for oid in wanted:
                header = self._stdout.readline().split()
                if len(header) != 3:
                    continue
                data = self._skip_or_read(int(header[2]))
                if data is not None:
                    self._found[oid] = data
        except (OSError, ValueError) as error:
            self.close()
            raise _ended(error) from None
        except BaseException:
            self.close()  # what is left in the pipe belongs to nobody
            raise

    def _skip_or_read(self, size: int) -> bytes | None:
        if size <= SMALL:
            data = self._stdout.read(size + 1)
            if len(data) != size + 1:
                raise RepositoryError(
                    "git cat-file ended inside an object",
                    reason="GitFailed",
                    fix="run git fsck here, then try again",
                )
            return data[:size]
        left = size + 1
        while left and (piece := self._stdout.read(min(CHUNK, left))):
            left -= len(piece)
        if left:
            raise RepositoryError(
                "git cat-file ended inside an object", reason="GitFailed", fix="run git fsck here, then try again"
            )
        return None

    def copy(self, oid: str, sink: Callable[[bytes], object], limit: int | None = None) -> int:
        """Give the object's bytes to `sink` piece by piece; answer how many. Errors as in `read`."""
        if not OID.fullmatch(oid):
            raise RepositoryError(
                f"not an object id: {oid[:80]!r}",
                reason="ObjectMissing",
                fix="report this: it is a fault of edgetrain",
            )
        with self._lock:
            self._settle()
            try:
                self._stdin.write(oid.encode() + b"\n")
                self._stdin.flush()
                header = self._stdout.readline().split()
            except (OSError, ValueError) as error:
                raise _ended(error) from None
            if len(header) != 3:
                raise RepositoryError(
                    f"git has no object {oid}",
                    reason="ObjectMissing",
                    fix="fetch what a cut clone lacks: git fetch --unshallow; else make a full one: git clone URL",
                )
            size = left = int(header[2])
            fits = limit is None or size <= limit
            try:
                # To the end, whatever its size: the next answer starts where this one stops.
                while left:
                    piece = self._stdout.read(min(CHUNK, left))
                    if not piece:
                        raise RepositoryError(
                            "git cat-file ended inside an object",
                            reason="GitFailed",
                            fix="run git fsck here, then try again",
                        )
                    left -= len(piece)
                    if fits:
                        sink(piece)
                self._stdout.read(1)
            except BaseException:
                self.close()  # what is left in the pipe belongs to nobody
                raise
        if not fits:
            raise RepositoryError(
                f"{size} bytes, more than the {limit} allowed",
                reason="FileTooLarge",
                fix="make the file smaller, or keep it out of git",
            )
        return size

    @property
    def closed(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # bytes that the ended process no longer takes

    def __enter__(self) -> ObjectReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _ended(error: Exception) -> RepositoryError:
    return RepositoryError(
        f"git cat-file ended: {error}", reason="GitFailed", fix="run git fsck here, then try again"
    )
