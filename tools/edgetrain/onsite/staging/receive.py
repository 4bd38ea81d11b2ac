"""An input that the runner sends, because this host can't reach its store. Over stdin and stdout, in this order:

    runner  {"entry": [name, size, tag, token]}   each file; the token is the runner's own, and comes back
    runner  {"listed": count}
    host    {"want": [[name, size, tag, token, offset], ...]}   one group ahead of what arrives
    runner  {"bytes": n} and n bytes, again and again; {"bytes": 0} ends the file; or {"failed": {...}}

and the host's last line is the answer, as for every request. Files come in the order of asking; what the host has
isn't wanted. The host says nothing else, so that neither side ever waits for the other to read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from .blobs import clean_path
from .cache import NEW, READ_ONLY, key_of
from .entry import Entry
from .errors import Failure, bad_request, changed
from .pieces import PIECE, Pieces
from .task import Fetched, Task

LINE = 2**16
FRAME = 2**22
# Two groups on their way to the runner fit the smallest pipe.
GROUP, GROUP_NAMES = 64, 2**13
KINDS = ("Transient", "Denied", "NotFound", "Rejected", "Unavailable")


class Want(NamedTuple):
    """A file that was asked for."""

    entry: Entry
    key: str
    pieces: Pieces | None
    offset: int


class Stream:
    """The runner's end of the channel, as a source of a staging."""

    def __init__(
        self, source: Mapping[str, Any], single: bool, stdin: BinaryIO, say: Callable[[object], None]
    ) -> None:
        self.location = str(source["location"]).rstrip("/")
        self.stdin, self.say = stdin, say
        path, self.single = clean_path(str(source.get("path") or "")), single
        self.prefix = path[: path.rfind("/") + 1] if single else path + "/" if path else ""
        self.listed = False
        self.count = 0

    def entries(self) -> Iterator[Entry]:
        """What the runner lists. Raises Failure."""
        if self.listed:
            # A second look, after room was made: the runner lists once.
            raise Failure("Transient", "StorageFull", "room was made on the VM's cache disk", "apply again")
        self.listed, count = True, 0
        while True:
            message = self._message()
            if "listed" in message:
                break
            yield self._entry(message.get("entry"))
            count += 1
        if message["listed"] != count:
            raise bad_request("the runner's listing is not whole")

    def start(self) -> int:
        """Bytes of the prefix."""
        return len(self.prefix.encode())

    def scope(self) -> bytes | None:
        """The prefix, of a folder."""
        return None if self.single else self.prefix.encode()

    def fetch(self, task: Task) -> None:
        """Ask for what the task wants, a group ahead."""
        asked: deque[Want] = deque()
        wanted = task.wanted()
        try:
            behind = self._ask(task, wanted, asked)
            while asked:
                ahead = self._ask(task, wanted, asked)
                for _ in range(behind):
                    task.take(self._arrive(task, asked[0]))
                    asked.popleft()
                behind = ahead
        finally:
            for one in asked:
                if one.pieces is not None:
                    one.pieces.close()

    def _ask(self, task: Task, wanted: Iterator[Entry], asked: deque[Want]) -> int:
        """Ask for the next group; how many files it has."""
        group: list[list[object]] = []
        length = 0
        while len(group) < GROUP and length < GROUP_NAMES:
            entry = next(wanted, None)
            if entry is None:
                break
            key, pieces, offset = key_of(task.location, entry), None, 0
            if task.store and entry.size > PIECE:
                pieces = Pieces(task.cache.partial, key, entry.size)
                offset = pieces.gap()
            asked.append(Want(entry, key, pieces, offset))
            length += len(entry.name)
            name = entry.name[self.start() :].decode("utf-8", "surrogateescape")
            group.append([name, entry.size, entry.tag, entry.token, offset])
        if group:
            self.say({"want": group})
        return len(group)

    def _arrive(self, task: Task, want: Want) -> Fetched:
        """Take one file as it comes."""
        if want.pieces is not None:
            return self._large(task, want, want.pieces)
        path, file = None, -1
        if task.store:
            path = f"{task.work}/{self.count}"
            self.count += 1
            file = os.open(path, NEW, READ_ONLY)
        hasher = hashlib.sha256()
        try:
            for data in self._bytes(task, want):
                hasher.update(data)
                rest = data if file >= 0 else None
                while rest:
                    rest = rest[os.write(file, rest) :]
        finally:
            if file >= 0:
                os.close(file)
        return Fetched(want.entry, want.key, hasher.hexdigest(), path)

    def _large(self, task: Task, want: Want, pieces: Pieces) -> Fetched:
        """A file with pieces; those that were there already are sent again only behind the first gap."""
        position, digest, hashing = want.offset, pieces.hash_on(), False
        for data in self._bytes(task, want):
            rest = data
            while rest:
                number = position // PIECE
                start, stop = pieces.span(number)
                if position == start:
                    hashing = pieces.begin(number)
                part, rest = rest[: stop - position], rest[stop - position :]
                pieces.write(part, position, hashing)
                position += len(part)
                if position == stop:
                    digest = pieces.done(number, hashing) or digest
        if digest is None:
            raise changed("is shorter than its listing says")
        return Fetched(want.entry, want.key, digest, pieces.finish())

    def _bytes(self, task: Task, want: Want) -> Iterator[memoryview]:
        left = want.entry.size - want.offset
        while True:
            count = self._message().get("bytes")
            if not isinstance(count, int) or not 0 <= count <= FRAME:
                raise bad_request("the runner sent no data")
            if count > left or (count == 0 and left):
                raise changed("has another size than its listing says")
            if not count:
                return
            data = self.stdin.read(count)
            if len(data) != count:
                raise gone()
            left -= count
            task.moved += count
            task.tell()
            yield memoryview(data)

    def _message(self) -> dict[str, Any]:
        line = self.stdin.readline(LINE)
        if not line.endswith(b"\n"):
            raise gone() if len(line) < LINE else bad_request("the runner sent an endless line")
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise bad_request("the runner sent no message")
        if "failed" in message:
            told = message["failed"]
            kind = told.get("kind") if told.get("kind") in KINDS else "Rejected"
            words = [str(told.get(key, ""))[:2000] for key in ("reason", "message", "fix")]
            raise Failure(kind, *words)
        return message

    def _entry(self, fields: Any) -> Entry:
        kinds = (str, int, str, str)
        if not isinstance(fields, list) or tuple(type(field) for field in fields) != kinds or fields[1] < 0:
            raise bad_request("the runner's listing has a bad entry")
        name, size, tag, token = fields
        try:
            return Entry(
                self.prefix.encode() + name.encode("utf-8", "surrogateescape"), size, tag.strip('"'), token
            )
        except UnicodeEncodeError:
            raise bad_request("the runner's listing has a name that is not Unicode") from None


def gone() -> Failure:
    """The runner went away."""
    return Failure(
        "Transient", "ConnectionLost", "the runner's connection broke off", "apply again: what came stays"
    )
