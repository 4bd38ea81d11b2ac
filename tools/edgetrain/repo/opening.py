"""Opens and reads files below a root without ever following a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import shown
from edgetrain.repo.objects import CHUNK


class OpenFolder:
    """A folder that is open, so that its next file is opened in one step."""

    def __init__(self, path: str, handle: int) -> None:
        self.path = path
        self.handle = handle

    def __del__(self) -> None:
        os.close(self.handle)


def read_most(file: int, most: int) -> bytes:
    """Up to `most` bytes of the file."""
    data = os.read(file, min(most, CHUNK))
    if len(data) < min(most, CHUNK):
        # A regular file gives less only at its end, and nothing after it: that is asked for, too.
        more = os.read(file, CHUNK)
        if not more:
            return data
        data += more
    parts = [data]
    left = most - len(data)
    while left > 0 and (piece := os.read(file, min(left, CHUNK))):
        parts.append(piece)
        left -= len(piece)
    return b"".join(parts)[:most]


def open_file(root: Path, path: str) -> int:
    """Open a regular file below `root` for reading, following no link. Errors as in Tree."""
    folder, _, name = path.rpartition("/")
    at = open_folder(root, folder, path)
    try:
        return open_in(at, name, path)
    finally:
        os.close(at)


def open_folder(root: Path, folder: str, path: str) -> int:
    """Open a folder below `root`, following no link; `path` is what errors name."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Step by step, so that no folder on the way can be a link, not even one just made.
        for part in folder.split("/") if folder else ():
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
    except OSError as error:
        os.close(at)
        raise _refused(error, path) from None
    return at


def open_in(folder: int, name: str, path: str) -> int:
    try:
        # Without blocking: a pipe put in the file's place would make us wait for ever.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise _refused(error, path) from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise RepositoryError(
            f"{shown(path)} is not a regular file", reason="NotAFile", fix="put the file itself in its place"
        )
    return file


def _refused(error: OSError, path: str) -> RepositoryError:
    if isinstance(error, FileNotFoundError):
        return RepositoryError(
            f"there is no file {shown(path)}", reason="NoSuchFile", fix="restore it, or correct what names it"
        )
    return RepositoryError(
        f"{shown(path)} can't be read: {error.strerror}",
        reason="NotAFile",
        fix="give this user the right to read it",
    )
