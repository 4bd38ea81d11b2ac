"""Files that are whole or absent, and how disk faults are told: for the providers on a local disk."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgetrain.core.errors import Denied, NotFound, ProviderError, Rejected, Transient, Unavailable

CHUNK = 2**20
_DAY = 24 * 3600
_FULL = {errno.ENOSPC, errno.EDQUOT}
_SCARCE = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_PASSING = {errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.EBUSY}
_NUMBER = re.compile(r"\[Errno (\d+)\]")


def storage_error(error: OSError, what: str) -> ProviderError:
    """The provider error of a disk fault while doing `what`; names no file, for names can be private."""
    if isinstance(error, shutil.Error):  # of copying a folder: a list of what failed, as text with names in it
        found = _NUMBER.search(str(error))
        error = OSError(int(found[1]) if found else errno.EIO, "")
    cause = os.strerror(error.errno) if error.errno else type(error).__name__
    message = f"{what}: {cause}"
    if isinstance(error, PermissionError):
        return Denied(message, reason="NoPermission", fix="give the runner's user the right to this folder")
    if isinstance(error, FileNotFoundError):
        return NotFound(message, fix="check the path in edgetrain.yaml and that the disk is mounted")
    if error.errno == errno.ELOOP:
        return Rejected(message, reason="Symlink", fix="put the file itself where the symbolic link is")
    if error.errno in _FULL:
        return Unavailable(message, reason="StorageFull", fix="free space on that disk, then apply again")
    if error.errno in _SCARCE:
        fix = "end what uses up memory or open files on this machine, then apply again"
        return Unavailable(message, reason="OutOfMemory", fix=fix)
    if error.errno in _PASSING:
        return Transient(message, fix="try again")
    return Unavailable(message, reason="StorageFault", fix="check the disk and its mount, then apply again")


@contextmanager
def disk(what: str) -> Iterator[None]:
    """Turn disk faults inside the block into provider errors that say `what` was being done."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what) from None


def make_folder(folder: Path) -> None:
    """Make the folder and its parents, each entry on the disk for good."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass
class Incoming:
    """A file being written where nobody looks; `digest` and `size` are of the bytes so far."""

    path: Path
    handle: int

    def __post_init__(self) -> None:
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the bytes so far."""
        return "sha256:" + self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append."""
        self._hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.handle, rest) :]

    def copy(self, source: BinaryIO) -> None:
        """Append all that `source` still has, a chunk at a time."""
        while chunk := source.read(CHUNK):
            self.write(chunk)

    def replace(self, final: Path) -> None:
        """Make the file visible as `final`, whole and durable, over what is there."""
        os.fsync(self.handle)
        make_folder(final.parent)
        self.path.replace(final)
        sync_folder(final.parent)

    def create(self, final: Path) -> None:
        """Make the file visible as `final`, whole and durable. FileExistsError if something is there."""
        os.fsync(self.handle)
        make_folder(final.parent)
        os.link(self.path, final)
        sync_folder(final.parent)


@contextmanager
def incoming(folder: Path) -> Iterator[Incoming]:
    """A new file in `folder` (same file system as its final place); gone at the end unless replaced."""
    make_folder(folder)
    path = folder / secrets.token_hex(16)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        yield Incoming(path, handle)
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)


def sweep(folder: Path, now: Callable[[], float] = time.time) -> None:
    """Remove what crashed writers left in `folder` more than a day ago."""
    if not folder.is_dir():
        return
    for left in folder.iterdir():
        try:
            if now() - left.lstat().st_mtime > _DAY:
                left.unlink()
        except FileNotFoundError:  # another sweep was faster
            continue


def open_regular(path: str | Path, dir_fd: int | None = None) -> BinaryIO:
    """Open a regular file for reading, following no link and never waiting on a pipe.

    Raises OSError; Rejected for anything that is no regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Rejected("not a regular file", reason="SpecialFile", fix="give a regular file")
    return os.fdopen(handle, "rb")
