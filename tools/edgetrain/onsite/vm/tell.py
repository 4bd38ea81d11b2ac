"""Gives a run's outputs out: one file's bytes from any offset, following no link."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import BinaryIO

from .fault import Fault

CHUNK = 2**20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_output(folder: Path, path: str) -> BinaryIO:
    """One output file. Raises Rejected for a path outside, a link or anything special; NotFound."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise Fault("Rejected", "the path is not one of an output", "PathOutside", "name a path of the harvest")
    try:
        handle = os.open(folder, FOLDER)
        try:
            for part in parts[:-1]:
                inner = os.open(part, FOLDER, dir_fd=handle)
                os.close(handle)
                handle = inner
            file = os.fdopen(os.open(parts[-1], FILE, dir_fd=handle), "rb")
        finally:
            os.close(handle)
    except (FileNotFoundError, NotADirectoryError):
        raise Fault("NotFound", "there is no such output", "", "name a path of the harvest") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise special("a symbolic link") from None
        raise
    entry = os.fstat(file.fileno())
    if not stat.S_ISREG(entry.st_mode) or entry.st_nlink != 1:
        file.close()
        raise special("a hard link" if stat.S_ISREG(entry.st_mode) else "no regular file")
    return file


def special(what: str) -> Fault:
    """An output that is no file of its own."""
    return Fault("Rejected", f"the output is {what}", "SpecialFile", "write a file of its own")


def give(file: BinaryIO, offset: int, out: BinaryIO) -> None:
    """Write one line of JSON with the size, the bytes from `offset` on, and one line with the digest of all."""
    size = os.fstat(file.fileno()).st_size
    out.write(json.dumps({"size": size}).encode() + b"\n")
    hasher, at = hashlib.sha256(), 0
    while at < size and (chunk := file.read(min(CHUNK, size - at))):
        hasher.update(chunk)
        out.write(chunk[max(0, offset - at) :])
        at += len(chunk)
    out.write(b"\n" + json.dumps({"digest": "sha256:" + hasher.hexdigest()}).encode() + b"\n")
