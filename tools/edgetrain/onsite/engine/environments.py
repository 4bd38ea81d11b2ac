"""The environments that this machine keeps: taken in whole or not at all, listed, dropped.

One is a folder `<id>/`, read-only for runs, with its mark `<id>.json` (digest of the archive, size, time)
beside it, written last.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..supervisor.folder import now, write
from ..vm.fault import Fault

ID = re.compile(r"[0-9a-f]{64}")
MAX_MEMBERS = 500_000
CHUNK = 2**20


class Reader:
    """A stream that knows the digest of what was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.hash, self.size = stream, hashlib.sha256(), 0

    def read(self, most: int = -1) -> bytes:
        """Bytes."""
        data = self.stream.read(most)
        self.hash.update(data)
        self.size += len(data)
        return data


@contextlib.contextmanager
def held(folder: Path, wait: bool) -> Iterator[bool]:
    """The lock of one environment; False if another has it and `wait` is not set."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with folder.with_name(folder.name + ".lock").open("w") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def place(top: Path, name: str) -> Path:
    """Where it lies. Raises Fault for what is no id."""
    if not ID.fullmatch(name):
        raise Fault("Rejected", "not the id of an environment", "InvalidId")
    return top / name


def mark(folder: Path) -> dict[str, Any]:
    """What is known of a whole environment; empty if it is not whole."""
    try:
        with folder.with_name(folder.name + ".json").open("rb") as file:
            found = json.loads(file.read(2**16))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and folder.is_dir() else {}


def has(top: Path, name: str) -> bool:
    """Whether it is here and whole."""
    return bool(mark(place(top, name)))


def receive(top: Path, name: str, digest: str, size: int, stream: BinaryIO) -> None:
    """Take an environment in from a tar stream of this digest and size, unless it is here. Raises Fault if not
    sound: Transient if only its end is missing."""
    folder = place(top, name)
    with held(folder, wait=True):
        if mark(folder):
            while stream.read(CHUNK):
                continue
            return
        for left in top.glob(f".{name}-*"):
            clear(left)
        fresh = top / f".{name}-{secrets.token_hex(8)}"
        fresh.mkdir(mode=0o755)
        reader = Reader(stream)
        try:
            try:
                held_bytes = unpack(reader, fresh)
            except (tarfile.TarError, EOFError):
                held_bytes = 0  # the digest tells whether it was cut or changed
            while reader.read(CHUNK):
                continue
            if reader.size < size:
                raise Fault("Transient", "the environment came in incomplete", "Unreachable")
            if "sha256:" + reader.hash.hexdigest() != digest:
                raise unsound("it is not the one that was to come")
            clear(folder)
            fresh.chmod(0o755)
            fresh.rename(folder)
        finally:
            clear(fresh)
        os.sync()
        write(folder.with_name(name + ".json"), {"digest": digest, "size": held_bytes, "built": now()})


def unsound(why: str) -> Fault:
    """The environment can't be taken."""
    return Fault("Rejected", f"the environment was refused: {why}", "EnvironmentChanged", "see what is on the way")


def unpack(reader: Reader, folder: Path) -> int:
    """Fill the folder with regular files and folders only; answer their bytes."""
    count = size = 0
    with tarfile.open(fileobj=reader, mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            count, size = count + 1, size + member.size
            parts = member.name.split("/")
            if count > MAX_MEMBERS or any(part in ("", ".", "..") for part in parts):
                raise unsound("it has a name that leads outside, or too many")
            path = folder.joinpath(*parts)
            if member.isdir():
                path.mkdir()
                path.chmod(0o755)
            elif member.isreg():
                content = archive.extractfile(member)
                assert content is not None
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file, CHUNK)
                path.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)
            else:
                raise unsound("it holds a link or something special")
    return size


def stored(top: Path) -> list[dict[str, Any]]:
    """What is kept: `id`, `size`, `built` (null while it is not whole)."""
    found = [folder for folder in top.iterdir() if ID.fullmatch(folder.name)] if top.is_dir() else []
    marks = {folder.name: mark(folder) for folder in sorted(found) if folder.is_dir()}
    return [{"id": name, "size": one.get("size", 0), "built": one.get("built")} for name, one in marks.items()]


def drop(top: Path, name: str) -> None:
    """Remove it, if it is here. Raises Fault with reason Locked while it comes in."""
    folder = place(top, name)
    if not folder.is_dir():
        return
    with held(folder, wait=False) as mine:
        if not mine:
            raise Fault("Conflict", f"environment {name[:12]} is being built", "Locked", "run edgetrain gc again")
        folder.with_name(name + ".json").unlink(missing_ok=True)
        clear(folder)


def clear(folder: Path) -> None:
    """Remove a folder, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)
