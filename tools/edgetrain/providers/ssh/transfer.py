"""What goes between runner and machine as bytes: code to it, logs and outputs from it."""

from __future__ import annotations

import base64
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgetrain.core.errors import Rejected, Transient
from edgetrain.providers.durable import CHUNK, Incoming, disk, incoming
from edgetrain.providers.ssh.connection import ATTEMPTS, MAX_LINE, retried
from edgetrain.providers.ssh.remote import Remote

IN_MEMORY = 8 * 2**20
SMALL = 2**20


def packed(folder: Path) -> Iterator[bytes]:
    """The folder as a tar stream: folders, regular files and symbolic links."""
    with disk("packing the code"), tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(folder.rglob("*")):
                entry = archive.gettarinfo(path, path.relative_to(folder).as_posix())
                # Two names of one file are two files there.
                if entry.islnk():
                    entry.type, entry.size = tarfile.REGTYPE, path.stat().st_size
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                if entry.isreg():
                    with path.open("rb") as content:
                        archive.addfile(entry, content)
                else:
                    archive.addfile(entry)
        file.seek(0)
        while chunk := file.read(CHUNK):
            yield chunk


def small(folder: Path) -> str | None:
    """The tar stream in base64, if it is small enough to go with a request."""
    found = b""
    for part in packed(folder):
        found += part
        if len(found) > SMALL:
            return None
    return base64.b64encode(found).decode("ascii")


def log_lines(remote: Remote, run_id: str, follow: bool) -> Iterator[str]:
    """The run's log; taken up where it was when the link is lost. Raises Transient if it stays lost."""
    given = failures = 0
    while True:
        try:
            for number, line in enumerate(_log(remote, run_id, follow)):
                if number >= given:
                    given, failures = given + 1, 0
                    yield line
            return
        except Transient:
            failures += 1
            if failures == ATTEMPTS:
                raise
            remote.ask("inspect", ids=[])  # waits until the link is there again, or raises


def _log(remote: Remote, run_id: str, follow: bool) -> Iterator[str]:
    with remote.talk("logs", id=run_id, follow=follow) as (session, parts):
        rest = b""
        for part in parts:
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
            if len(rest) > MAX_LINE:
                raise Rejected(
                    "the log has a line without end",
                    reason="AnswerTooLarge",
                    fix="look at the machine, then: edgetrain retry RUN --reason ...",
                )
        remote.finish(session)


def fetch(remote: Remote, run_id: str, path: str, into: Path) -> None:
    """Copy one output to the file `into`; a lost link costs only what was under way."""
    with disk(f"storing an output of {run_id}"), incoming(into.parent) as file:
        retried(lambda: _take(remote, run_id, path, file))
        file.replace(into)


def _take(remote: Remote, run_id: str, path: str, file: Incoming) -> None:
    with remote.talk("fetch", id=run_id, path=path, offset=file.size) as (session, parts):
        head = b""
        while b"\n" not in head:
            head += _next(parts)
        line, _, rest = head.partition(b"\n")
        size = _told(line, "size", int)
        while file.size + len(rest) < size:
            file.write(rest)
            rest = _next(parts)
        over = size - file.size
        file.write(rest[:over])
        tail = rest[over:] + b"".join(parts)
        remote.finish(session)
    if _told(tail, "digest", str) != file.digest:
        raise Rejected("an output changed while it was copied", reason="OutputChanged", fix="apply again")


def _told(line: bytes, name: str, kind: type) -> Any:
    try:
        value = json.loads(line)[name]
    except (ValueError, KeyError, TypeError):
        value = None
    if type(value) is not kind:
        raise Rejected(
            "the machine's answer about an output is not sound",
            reason="UnsoundAnswer",
            fix="look at the machine, then: edgetrain retry RUN --reason ...",
        )
    return value


def _next(parts: Iterator[bytes]) -> bytes:
    part = next(parts, b"")
    if not part:
        raise Transient("the link was lost while an output was copied", reason="HostUnreachable", fix="apply again")
    return part
