"""The files of a work tree as they lie on disk, read without ever following a link."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import shown
from edgetrain.repo.command import decode
from edgetrain.repo.git import Git
from edgetrain.repo.objects import CHUNK
from edgetrain.repo.opening import OpenFolder, open_folder, open_in, read_most
from edgetrain.repo.tree import EXECUTABLE, FILE, MANIFEST_LIMIT, SPECIAL, SUBMODULE, SYMLINK, Entry, Listed

# A file's path, mode, inode and size, and when it was last changed and written to.
_Seen = tuple[str, int, int, int, int, int]

_SKIPPED = frozenset({".git", ".edgetrain", ".venv", "__pycache__"})
_CACHES = ".edgetrain"


class WorkTree(Listed):
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
        self._marks: dict[str, tuple[int, ...]] = {}
        self._new: list[str] = []

    def _list(self) -> Iterator[Entry]:
        looked = self._looked or self._look()[0]
        self._marks = {seen[0]: seen[1:] for seen in looked}
        for path, mode, *_ in looked:
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

    def mark(self, path: str) -> object:
        """What the file's last change left behind when it was listed."""
        return self._marks.get(path) if path in self._entries() else None

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
