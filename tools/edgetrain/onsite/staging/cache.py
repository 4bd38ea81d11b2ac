"""The cache's folders, its locks, and how a content comes into it: on the disk for good before it counts.

Locks are flocks, gone with their holder. `locks/use` is held shared by each staging and alone by who cleans up;
`locks/files` has a byte for each file, locked while it is fetched, so that two stagings never fetch the same one.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .entry import Entry
from .errors import NoRoom, bad_request

STAMP = 946_684_800  # 2000-01-01: a content whose modification time is another one was touched by somebody
READ_ONLY = 0o444
MARGIN = 16 * 2**20
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Cache:
    """The cache in the folder `root`, an absolute path."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        if not self.root.is_absolute():
            raise bad_request("the cache is not an absolute path")
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.blobs, self.views, self.partial, self.locks, self.works = (
            self._folder(name) for name in ("blobs", "views", "partial", "locks", "work")
        )
        self.known = self.root / "known.sqlite3"

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder

    def blob(self, digest: str) -> str:
        """Where the content with this digest (hex) lies."""
        return f"{self.blobs}/{digest[:2]}/{digest}"

    def has(self, digest: str, size: int) -> bool:
        """Whether the content is there as it was stored."""
        try:
            found = os.lstat(self.blob(digest))
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_mtime == STAMP

    def keep(self, path: str, digest: str, size: int) -> None:
        """Move a file that is on the disk for good to its place, unless the content is there."""
        if self.has(digest, size):
            Path(path).unlink()
            return
        os.utime(path, (time.time(), STAMP))
        try:
            os.rename(path, self.blob(digest))  # noqa: PTH104 a thousand times: pathlib costs more than the call
        except FileNotFoundError:
            Path(self.blob(digest)).parent.mkdir(exist_ok=True)
            Path(path).rename(self.blob(digest))

    def sync(self) -> None:
        """Wait until all that was written to the cache's file system is on its disk."""
        handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _syncfs(handle) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(handle)

    def room(self) -> int:
        """Bytes that may still be written, with a margin for databases and folders."""
        free = os.statvfs(self.root)
        return max(0, free.f_bavail * free.f_frsize - MARGIN)

    def need(self, size: int) -> None:
        """Raise NoRoom unless there is room for so many bytes."""
        room = self.room()
        if size > room:
            raise NoRoom(size - room, f"the VM's cache disk has room for {room} bytes, and {size} are to come")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Nothing is cleaned up meanwhile."""
        with _flock(self.locks / "use", fcntl.LOCK_SH):
            yield

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Nothing is staged meanwhile; False at once if something is."""
        with _flock(self.locks / "use", fcntl.LOCK_EX | fcntl.LOCK_NB) as got:
            yield got is not None

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A folder for one staging; those of killed ones are swept."""
        with ExitStack() as held:
            with _flock(self.locks / "work", fcntl.LOCK_EX):  # nobody sweeps a folder that is not locked yet
                for left in list(self.works.iterdir()):
                    with _flock(left / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
                        if alone is not None:
                            remove(left)
                folder = self.works / secrets.token_hex(8)
                folder.mkdir(mode=0o700)
                held.callback(remove, folder)
                held.enter_context(_flock(folder / "lock", fcntl.LOCK_EX))
            yield folder


class Claims:
    """Which files this process fetches; another one that wants the same finds them claimed.

    Each is a lock of one byte of one file, at a place that the key gives: locks of the open file description
    (fcntl(2)), so they go with the process, and cost one call each."""

    def __init__(self, folder: Path) -> None:
        self.handle = os.open(folder / "files", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, key: str) -> bool:
        """Claim; False if another process holds it."""
        try:
            self._set(key, fcntl.F_WRLCK)
        except BlockingIOError:
            return False
        return True

    def give(self, key: str) -> None:
        """Let go of one claim."""
        self._set(key, fcntl.F_UNLCK)

    def close(self) -> None:
        """Let go of everything."""
        os.close(self.handle)

    def _set(self, key: str, kind: int) -> None:
        place = int(key[:15], 16)
        # struct flock: type, whence, start, length, pid (none).
        fcntl.fcntl(self.handle, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, place, 1, 0))


def key_of(location: str, entry: Entry) -> str:
    """Hex that stands for one file with one content."""
    facts = b"\0".join((location.encode(), entry.name, str(entry.size).encode(), entry.tag.encode()))
    return hashlib.sha256(facts).hexdigest()


def remove(folder: Path) -> None:
    """Remove a folder, whatever it holds; what is gone already is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def _syncfs(handle: int) -> int:
    """Linux's syncfs(2): one call for hundreds of small files, instead of a wait for each."""
    return int(ctypes.CDLL(None, use_errno=True).syncfs(handle))


@contextmanager
def _flock(path: Path, how: int) -> Iterator[int | None]:
    """Hold a flock; yields None if another holds it and `how` does not wait."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            yield None
            return
        yield handle
    finally:
        os.close(handle)
