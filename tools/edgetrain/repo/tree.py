"""The files of a commit or of a work tree, read without ever following a link."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import shown
from edgetrain.repo.command import decode, encode
from edgetrain.repo.git import Git
from edgetrain.repo.objects import CHUNK, ObjectReader
from edgetrain.repo.opening import OpenFolder, open_folder, open_in, read_most

if TYPE_CHECKING:
    from edgetrain.repo.digest_cache import DigestCache

FILE, EXECUTABLE, SYMLINK, SUBMODULE, SPECIAL = "100644", "100755", "120000", "160000", "000000"
REGULAR = (FILE, EXECUTABLE)
MANIFEST_LIMIT = 2**20
MAX_TARGET = 4096

# A file's path, mode, inode and size, and when it was last changed and written to.
_Seen = tuple[str, int, int, int, int, int]

_SKIPPED = frozenset({".git", ".edgetrain", ".venv", "__pycache__"})
_CACHES = ".edgetrain"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. `mode` is git's: 100644, 100755, 120000 (symlink), 160000 (submodule or nested
    repository), or 000000 for what git can't hold (a device, a socket). `target` is a symlink's text."""

    path: str
    mode: str
    blob: str | None = None
    target: str | None = None

    @property
    def regular(self) -> bool:
        """Whether it has contents to read."""
        return self.mode in REGULAR


class Tree(Protocol):
    """Files by slash-separated path from the repository's root, sorted by the path's bytes.

    Reading raises RepositoryError: `NoSuchFile`, `NotAFile` (a link, a folder, a device), `FileTooLarge`.
    """

    def files(self, prefix: str = "") -> list[Entry]:
        """All files; with `prefix` only that file, or those in that folder."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file (links count), or a folder with a file in it."""

    def read(self, path: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """The file's bytes, at most `limit`."""

    def ahead(self, paths: Sequence[str]) -> None:
        """These are read next, each once; a few hundred at most. Nothing but speed depends on it."""

    def apart(self) -> None:
        """This process is a copy of another: from now on nothing that the other reads with is used."""

    def copy(self, path: str, sink: Callable[[bytes], object]) -> int:
        """Give the file's bytes to `sink` piece by piece; answer how many."""

    def content_digest(self, path: str) -> str:
        """`sha256:<hex>` of the file's bytes."""

    def size(self, path: str) -> int:
        """The file's bytes, counted."""

    def measure(self, path: str) -> tuple[int, str]:
        """`size` and `content_digest` at once."""


class _Listed(ABC):
    """What both trees share: a listing, made once."""

    def __init__(self) -> None:
        self._listing: dict[str, Entry] | None = None
        self._folders: set[str] = set()
        self._order: list[Entry] = []
        self._keys: list[bytes] = []

    @abstractmethod
    def _list(self) -> Iterator[Entry]:
        """All files, in any order."""

    def _entries(self) -> dict[str, Entry]:
        if self._listing is None:
            found = sorted(self._list(), key=lambda entry: encode(entry.path))
            self._folders = _folders_of(found)
            self._order, self._keys = found, [encode(entry.path) for entry in found]
            self._listing = {entry.path: entry for entry in found}
        return self._listing

    def files(self, prefix: str = "") -> list[Entry]:
        """All files; with `prefix` only that file, or those in that folder."""
        prefix = prefix.rstrip("/")
        entries = self._entries()
        if prefix in ("", "."):
            return list(entries.values())
        if prefix in entries:
            return [entries[prefix]]
        # A folder's files stand side by side, and thousands of folders are asked for: no walk through all.
        low, high = (bisect_left(self._keys, encode(prefix + end)) for end in ("/", "0"))
        return self._order[low:high]

    def exists(self, path: str) -> bool:
        """Whether there is such a file (links count), or a folder with a file in it."""
        path = path.rstrip("/")
        return path in self._entries() or path in self._folders

    def _regular(self, path: str) -> Entry:
        entry = self._entries().get(path)
        if entry is None:
            raise RepositoryError(
                f"there is no file {shown(path)}", reason="NoSuchFile", fix="restore it, or correct what names it"
            )
        if not entry.regular:
            raise RepositoryError(
                f"{shown(path)} is not a regular file", reason="NotAFile", fix="put the file itself in its place"
            )
        return entry


def _folders_of(entries: Sequence[Entry]) -> set[str]:
    """Every folder with a file in it, and `.` for the whole."""
    found = {"."} if entries else set()
    for entry in entries:
        folder = entry.path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


class CommitTree(_Listed):
    """The files of one commit, whatever the work tree looks like. Close it, or use `with`.

    `cache` remembers content digests by blob id in that file (one below `.edgetrain/`).
    """

    def __init__(self, git: Git, sha: str, cache: Path | None = None) -> None:
        super().__init__()
        self.git = git
        self.sha = git.resolve(sha)
        self._cache: DigestCache | None = None
        if cache:
            from edgetrain.repo.digest_cache import DigestCache  # here: SQLite takes time to import

            self._cache = DigestCache(cache)
        self._reader: ObjectReader | None = None
        self._others: ObjectReader | None = None
        self._lock = threading.Lock()
        self._ahead: dict[str, bytes] = {}

    def _objects(self) -> ObjectReader:
        with self._lock:
            if self._reader is None or self._reader.closed:
                self._reader = self.git.objects()
            return self._reader

    def _list(self) -> Iterator[Entry]:
        listing = self.git.run("ls-tree", "-r", "-z", "--full-tree", self.sha)
        for line in filter(None, listing.split(b"\0")):
            facts, _, name = line.partition(b"\t")
            mode, _, blob = facts.decode().split(" ")
            if mode == SYMLINK:
                target = decode(self._objects().read(blob, MAX_TARGET))
                yield Entry(decode(name), mode, blob, target)
            else:
                # Ancient commits hold 100664, which git itself takes for 100644.
                known = mode in (*REGULAR, SUBMODULE)
                yield Entry(decode(name), mode if known else FILE, blob)

    def read(self, path: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """The file's bytes, at most `limit`."""
        blob = self._regular(path).blob or ""
        ready = self._ahead.pop(blob, None)
        return self._objects().read(blob, limit) if ready is None or len(ready) > limit else ready

    def ahead(self, paths: Sequence[str]) -> None:
        """These are read next, each once; a few hundred at most. Nothing but speed depends on it."""
        entries = self._entries()
        wanted = [entry.blob for path in paths if (entry := entries.get(path)) and entry.regular and entry.blob]
        self._ahead = self._objects().read_small(wanted)

    def apart(self) -> None:
        """This process is a copy of another: from now on nothing that the other reads with is used."""
        # Kept, though not used: to drop it would close the other's pipes.
        self._others, self._reader, self._ahead = self._reader, None, {}

    def copy(self, path: str, sink: Callable[[bytes], object]) -> int:
        """Give the file's bytes to `sink` piece by piece; answer how many."""
        return self._objects().copy(self._regular(path).blob or "", sink)

    def content_digest(self, path: str) -> str:
        """`sha256:<hex>` of the file's bytes."""
        return self.measure(path)[1]

    def size(self, path: str) -> int:
        """The file's bytes, counted."""
        return self.measure(path)[0]

    def measure(self, path: str) -> tuple[int, str]:
        """`size` and `content_digest` at once."""
        blob = self._regular(path).blob or ""
        known = self._cache.get(blob) if self._cache else None
        if known is None:
            hasher = hashlib.sha256()
            known = self._objects().copy(blob, hasher.update), "sha256:" + hasher.hexdigest()
            if self._cache:
                self._cache.put(blob, *known)
        return known

    def close(self) -> None:
        """End the reading process. Reading again starts another."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def __enter__(self) -> CommitTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class WorkTree(_Listed):
    """The files on disk: tracked ones and new ones that are not ignored, as they are now.

    Of a folder that is no repository all files count, but not caches and virtual environments.
    """

    def __init__(self, place: Git | Path) -> None:
        super().__init__()
        self.git = place if isinstance(place, Git) else None
        self.root = place.root if isinstance(place, Git) else place
        self._opening = threading.Lock()
        self._folder: OpenFolder | None = None
        self._looked: list[_Seen] | None = None
        self._new: list[str] = []

    def _list(self) -> Iterator[Entry]:
        for path, mode, *_ in self._looked or self._look()[0]:
            kind = _mode(mode)
            try:
                target = str(Path(f"{self.root}/{path}").readlink()) if kind == SYMLINK else None
            except OSError:  # no link any more
                continue
            yield Entry(path, kind, None, target)

    def untracked(self) -> list[str]:
        """The files that are there, and that git does not know."""
        entries = self._entries()
        return [path for path in self._new if path in entries]

    def trace(self) -> tuple[bytes, int]:
        """A digest of what the last change of every file, and of every folder's place, leaves behind, and the time
        of the newest change (nanoseconds). For listing before anything is read; contents are not looked at."""
        self._looked, places = self._look()
        newest = max((max(changed, written) for *_, changed, written in self._looked), default=0)
        return hashlib.sha256(ascii((self._looked, places)).encode()).digest(), newest

    def _look(self) -> tuple[list[_Seen], list[tuple[object, ...]]]:
        """Every file that is there, and all else that counts: the folders, and what git knows and is not there."""
        seen: list[_Seen] = []
        places: list[tuple[object, ...]] = []
        real = {"": True}
        at, lstat = open_folder(self.root, "", "."), os.lstat  # thousands of times

        def is_real(folder: str) -> bool:
            if folder not in real:
                try:
                    found = lstat(folder, dir_fd=at)
                except (FileNotFoundError, NotADirectoryError):
                    places.append((folder,))
                    real[folder] = False
                else:
                    places.append((folder, found.st_mode, found.st_ino))
                    real[folder] = is_real(folder.rpartition("/")[0]) and stat.S_ISDIR(found.st_mode)
            return real[folder]

        try:
            for path in self._names():
                # A folder that was replaced by a link: git would not look behind it, nor do we.
                if is_real(path.rpartition("/")[0]):
                    try:
                        found = lstat(path, dir_fd=at)
                    except (FileNotFoundError, NotADirectoryError):
                        places.append((path,))
                    else:
                        mode, inode, size = found.st_mode, found.st_ino, found.st_size
                        seen.append((path, mode, inode, size, found.st_ctime_ns, found.st_mtime_ns))
        finally:
            os.close(at)
        return seen, places

    def _names(self) -> Iterator[str]:
        if self.git is None:
            for at, folders, files in os.walk(self.root, followlinks=False):
                links = [name for name in folders if (Path(at) / name).is_symlink()]
                folders[:] = [name for name in folders if name not in _SKIPPED and name not in links]
                for name in (*files, *links):
                    yield (Path(at) / name).relative_to(self.root).as_posix()
            return
        # To look through all folders for new files takes git long: what it knows is told meanwhile.
        new = self.git.begin("ls-files", "-z", "-o", "--exclude-standard")
        try:
            known = dict.fromkeys(_paths(self.git.run("ls-files", "-z", "-c", "--deduplicate")))
            yield from known
            self._new = [path for path in _paths(new.output()) if path not in known]
            yield from self._new
        finally:
            new.stop()

    def read(self, path: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """The file's bytes, at most `limit`."""
        file = self._open(path)
        try:
            data = read_most(file, limit + 1)
        finally:
            os.close(file)
        if len(data) > limit:
            raise RepositoryError(
                f"{shown(path)} is larger than {limit} bytes",
                reason="FileTooLarge",
                fix="make it smaller, or keep it out of git",
            )
        return data

    def ahead(self, paths: Sequence[str]) -> None:
        """Files on disk are read one by one."""

    def apart(self) -> None:
        """The open folder of the other process serves as well."""

    def copy(self, path: str, sink: Callable[[bytes], object]) -> int:
        """Give the file's bytes to `sink` piece by piece; answer how many."""
        size = 0
        file = self._open(path)
        try:
            while piece := os.read(file, CHUNK):
                sink(piece)
                size += len(piece)
        finally:
            os.close(file)
        return size

    def content_digest(self, path: str) -> str:
        """`sha256:<hex>` of the file's bytes."""
        return self.measure(path)[1]

    def size(self, path: str) -> int:
        """The file's bytes, counted."""
        file = self._open(path)
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def measure(self, path: str) -> tuple[int, str]:
        """`size` and `content_digest` at once."""
        hasher = hashlib.sha256()
        size = self.copy(path, hasher.update)
        return size, "sha256:" + hasher.hexdigest()

    def _open(self, path: str) -> int:
        self._regular(path)
        folder, _, name = path.rpartition("/")
        with self._opening:
            if self._folder is None or self._folder.path != folder:
                self._folder = None  # closes it
                self._folder = OpenFolder(folder, open_folder(self.root, folder, path))
            return open_in(self._folder.handle, name, path)


def _paths(listing: bytes) -> Iterator[str]:
    """The paths that git lists, without our own caches."""
    for line in filter(None, listing.split(b"\0")):
        path = decode(line).rstrip("/")
        if path.partition("/")[0] != _CACHES:
            yield path


def _mode(mode: int) -> str:
    if stat.S_ISREG(mode):
        return EXECUTABLE if mode & stat.S_IXUSR else FILE
    if stat.S_ISLNK(mode):
        return SYMLINK
    return SUBMODULE if stat.S_ISDIR(mode) else SPECIAL
