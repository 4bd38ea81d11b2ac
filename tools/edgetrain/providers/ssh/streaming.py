"""Talks with the staging program on a VM; where it can't reach the data, sends it through, landing nothing here.

The program's side, and the protocol: `onsite/staging/receive.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from edgetrain.core.digest import SHA256
from edgetrain.core.errors import Denied, NotFound, ProviderError, Rejected, Transient, Unavailable
from edgetrain.core.ports import DataEntry, DataStream
from edgetrain.core.problem import shown

FRAME = 2**20
SMALL = 2**18
AHEAD = 8
BATCH = 2**16
_KINDS = {kind.__name__: kind for kind in (Denied, NotFound, Rejected, Transient, Unavailable)}
Told = Callable[[Mapping[str, int]], None]
T = TypeVar("T")


class Channel(Protocol):
    """The two ends of a program on the VM. Both calls raise Transient when the connection is lost."""

    def write(self, data: bytes) -> None:
        """Send all of it; returns when there is room for more."""

    def read_line(self) -> bytes:
        """The next line of its output with its end; empty when there is no more."""


@dataclass(frozen=True)
class Staged:
    """An input on the VM: its digest, files and bytes; `moved` bytes came over the network.

    `view` is the folder to mount read-only, if one was asked for; a single file lies in it. `over_limit` says that
    the cache is above its limit."""

    digest: str
    files: int
    bytes: int
    moved: int
    view: str | None
    over_limit: bool


def stage(channel: Channel, request: Mapping[str, Any], progress: Told | None = None) -> Staged:
    """Let the VM pull. `request` as in `onsite/staging/main.py`, without its verb. Raises ProviderError."""
    channel.write(_line({**request, "verb": "stage"}))
    return _staged(next(_answers(channel, progress)))


def feed(stream: DataStream, channel: Channel, request: Mapping[str, Any], progress: Told | None = None) -> Staged:
    """Send what the VM does not have, and be told the same as by `stage`. Bounded memory, whatever the sizes.

    Raises ProviderError; Rejected with reason DataChanged if the data changes meanwhile."""
    source = {name: value for name, value in request["source"].items() if name != "access"}
    answers = _answers(channel, progress)
    feeding = _Feeding(stream, channel, progress)
    try:
        channel.write(_line({**request, "source": source, "verb": "receive"}))
        feeding.announce()
        while "want" in (message := next(answers)):
            feeding.send(message["want"])
        return _staged(message)
    except _Unreadable as unreadable:
        with suppress(ProviderError):  # the program ends with the same failure, behind what it still wanted
            channel.write(_line({"failed": _told(unreadable.error)}))
            for _ in answers:
                continue
        raise unreadable.error from None
    except Transient as lost:
        # A program that failed closes its end: what it said last tells more than a broken pipe.
        for _ in answers:
            continue
        raise lost
    finally:
        feeding.pool.shutdown(wait=False, cancel_futures=True)


def ask(channel: Channel, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer to a request of any other verb. Raises ProviderError."""
    channel.write(_line(request))
    return next(_answers(channel, None))


class _Unreadable(Exception):
    """The data could not be read on this side."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__()
        self.error = error


class _Feeding:
    """One input on its way. The VM can ask only for what was listed: each entry has a proof that we alone make."""

    def __init__(self, stream: DataStream, channel: Channel, progress: Told | None) -> None:
        self.stream, self.channel, self.progress = stream, channel, progress
        self.key = secrets.token_bytes(16)
        self.pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="feed")
        self.files = self.moved = 0

    def announce(self) -> None:
        """Send the listing, as it comes."""
        lines, count = bytearray(), 0
        for entry in _readable(self.stream.entries()):
            tag = entry.tag.strip('"')
            lines += _line({"entry": [entry.name, entry.size, tag, self._proof(entry.name, entry.size, tag)]})
            count += 1
            if len(lines) > BATCH:
                self.channel.write(bytes(lines))
                lines.clear()
        self.channel.write(bytes(lines + _line({"listed": count})))

    def send(self, group: Any) -> None:
        """Send the files of one group; small ones are read a few at a time, ahead."""
        wanted = [self._wanted(one) for one in group]
        ready: list[Future[list[bytes]] | None] = [
            self.pool.submit(self._whole, entry, offset) if entry.size <= SMALL else None
            for entry, offset in wanted
        ]
        for (entry, offset), early in zip(wanted, ready, strict=True):
            parts = early.result() if early else self._parts(entry, offset)
            for part in parts:
                self.channel.write(_line({"bytes": len(part)}) + part)
                self.moved += len(part)
                if self.progress:
                    self.progress({"bytes": self.moved, "files": self.files, "moved": self.moved})
            self.channel.write(_line({"bytes": 0}))
            self.files += 1

    def _whole(self, entry: DataEntry, offset: int) -> list[bytes]:
        return list(self._parts(entry, offset))

    def _parts(self, entry: DataEntry, offset: int) -> Iterator[bytes]:
        for data in _readable(self.stream.read(entry, offset)):
            for start in range(0, len(data), FRAME):
                yield data[start : start + FRAME]

    def _wanted(self, fields: Any) -> tuple[DataEntry, int]:
        try:
            name, size, tag, proof, offset = fields
            good = hmac.compare_digest(self._proof(name, size, tag), proof) and 0 <= offset <= size
        except (TypeError, ValueError):
            good = False
        if not good:
            raise Rejected(
                "the VM asks for data that is not the input's",
                reason="UnexpectedRequest",
                fix="apply again; if it stays, look at who changes the programs on the machine",
            )
        return DataEntry(name, size, tag), offset

    def _proof(self, name: str, size: int, tag: str) -> str:
        facts = json.dumps([name, size, tag]).encode()
        return hashlib.blake2b(facts, key=self.key, digest_size=16).hexdigest()


def _readable(items: Iterator[T]) -> Iterator[T]:
    """The items; what fails in getting them is this side's fault, not the channel's."""
    try:
        yield from items
    except ProviderError as error:
        raise _Unreadable(error) from None


def _answers(channel: Channel, progress: Told | None) -> Iterator[dict[str, Any]]:
    """What the program says, but for its progress. Raises the failure that it tells; Transient at a sudden end."""
    while line := channel.read_line():
        try:
            message = json.loads(line)
        except ValueError:
            raise _strange() from None
        if not isinstance(message, dict):
            raise _strange()
        if "error" in message:
            told = message["error"]
            words = {name: shown(str(told.get(name, "")), 500) for name in ("message", "reason", "fix")}
            kind = _KINDS.get(str(told.get("kind")), ProviderError)
            raise kind(words["message"], reason=words["reason"], fix=words["fix"])
        if "progress" in message:
            if progress:
                progress(message["progress"])
            continue
        yield message
    raise Transient("the staging on the VM ended without a word", reason="StagingKilled", fix="apply again")


def _staged(answer: Mapping[str, Any]) -> Staged:
    try:
        digest, view = answer["digest"], answer["view"]
        if not SHA256.fullmatch(digest) or not isinstance(view, str | None):
            raise _strange()
        files, size, moved = (int(answer[name]) for name in ("files", "bytes", "moved"))
        return Staged(digest, files, size, moved, view, bool(answer["overLimit"]))
    except (KeyError, TypeError, ValueError):
        raise _strange() from None


def _strange() -> Rejected:
    fix = "check that nothing prints to the account's sessions on the VM, such as its .bashrc"
    return Rejected("the VM's answer is not of the staging program", reason="StrangeAnswer", fix=fix)


def _told(error: ProviderError) -> dict[str, str]:
    kind = next((name for name, kind in _KINDS.items() if isinstance(error, kind)), "Rejected")
    return {"kind": kind, "reason": error.reason, "message": error.message, "fix": error.fix}


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
