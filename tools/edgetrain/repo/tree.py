"""The files of a commit or of a work tree, read without ever following a link; exports and code digests."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import shown
from edgetrain.repo.command import decode, encode
from edgetrain.repo.git import Git
from edgetrain.repo.objects import CHUNK, ObjectReader

if TYPE_CHECKING:
    from edgetrain.repo.digest_cache import DigestCache

FILE, EXECUTABLE, SYMLINK, SUBMODULE, SPECIAL = "100644", "100755", "120000", "160000", "000000"
REGULAR = (FILE, EXECUTABLE)
MANIFEST_LIMIT = 2**20
NOT_CODE = ("experiment.yaml", "runs/")
MAX_FILES = 100_000
MAX_TARGET = 4096

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

    def copy(self, path: str, sink: Callable[[bytes], object]) -> int:
        """Give the file's bytes to `sink` piece by piece; answer how many."""

    def content_digest(self, path: str) -> str:
        """`sha256:<hex>` of the file's bytes."""

    def size(self, path: str) -> int:
        """The file's bytes, counted."""


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
            self._folders = {str(parent) for e in found for parent in PurePosixPath(e.path).parents}
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
            raise RepositoryError(f"there is no file {shown(path)}", reason="NoSuchFile")
        if not entry.regular:
            raise RepositoryError(f"{shown(path)} is not a regular file", reason="NotAFile")
        return entry


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
        self._lock = threading.Lock()
        self._sizes: dict[str, dict[str, int]] = {}

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
        return self._objects().read(self._regular(path).blob or "", limit)

    def copy(self, path: str, sink: Callable[[bytes], object]) -> int:
        """Give the file's bytes to `sink` piece by piece; answer how many."""
        return self._objects().copy(self._regular(path).blob or "", sink)

    def content_digest(self, path: str) -> str:
        """`sha256:<hex>` of the file's bytes."""
        blob = self._regular(path).blob or ""
        known = self._cache.get(blob) if self._cache else None
        digest = known or self._objects().digest(blob)
        if self._cache and not known:
            self._cache.put(blob, digest)
        return digest

    def size(self, path: str) -> int:
        """The file's bytes, counted; asked of git for a whole top folder at once."""
        blob, top = self._regular(path).blob or "", path.partition("/")[0]
        if top not in self._sizes:
            listing = self.git.run("ls-tree", "-r", "-l", "-z", "--full-tree", self.sha, "--", top)
            facts = (line.partition(b"\t")[0].decode().split() for line in listing.split(b"\0") if line)
            self._sizes[top] = {oid: int(size) for _, kind, oid, size in facts if kind == "blob"}
        return self._sizes[top][blob]

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

    def _list(self) -> Iterator[Entry]:
        real: dict[str, bool] = {"": True}

        def is_real(folder: str) -> bool:
            if folder not in real:
                parent = folder.rpartition("/")[0]
                real[folder] = is_real(parent) and _is_folder(self.root / folder)
            return real[folder]

        for path in self._names():
            # A folder that was replaced by a link: git would not look behind it, nor do we.
            if not is_real(path.rpartition("/")[0]):
                continue
            try:
                mode = _mode((self.root / path).lstat().st_mode)
                target = str((self.root / path).readlink()) if mode == SYMLINK else None
            except (FileNotFoundError, NotADirectoryError):
                continue
            yield Entry(path, mode, None, target)

    def _names(self) -> Iterator[str]:
        if self.git is None:
            for at, folders, files in os.walk(self.root, followlinks=False):
                links = [name for name in folders if (Path(at) / name).is_symlink()]
                folders[:] = [name for name in folders if name not in _SKIPPED and name not in links]
                for name in (*files, *links):
                    yield (Path(at) / name).relative_to(self.root).as_posix()
            return
        listing = self.git.run("ls-files", "-z", "-c", "-o", "--exclude-standard", "--deduplicate")
        for line in filter(None, listing.split(b"\0")):
            path = decode(line).rstrip("/")
            if path.partition("/")[0] != _CACHES:
                yield path

    def read(self, path: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """The file's bytes, at most `limit`."""
        with os.fdopen(self._open(path), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise RepositoryError(f"{shown(path)} is larger than {limit} bytes", reason="FileTooLarge")
        return data

    def copy(self, path: str, sink: Callable[[bytes], object]) -> int:
        """Give the file's bytes to `sink` piece by piece; answer how many."""
        size = 0
        with os.fdopen(self._open(path), "rb") as file:
            while piece := file.read(CHUNK):
                sink(piece)
                size += len(piece)
        return size

    def content_digest(self, path: str) -> str:
        """`sha256:<hex>` of the file's bytes."""
        hasher = hashlib.sha256()
        self.copy(path, hasher.update)
        return "sha256:" + hasher.hexdigest()

    def size(self, path: str) -> int:
        """The file's bytes, counted."""
        file = self._open(path)
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def _open(self, path: str) -> int:
        self._regular(path)
        return open_file(self.root, path)


def open_file(root: Path, path: str) -> int:
    """Open a regular file below `root` for reading, following no link. Errors as in Tree."""
    *folders, name = path.split("/")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Step by step, so that no folder on the way can be a link, not even one just made.
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        # Without blocking: a pipe put in the file's place would make us wait for ever.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    except FileNotFoundError:
        raise RepositoryError(f"there is no file {shown(path)}", reason="NoSuchFile") from None
    except OSError as error:
        raise RepositoryError(f"{shown(path)} can't be read: {error.strerror}", reason="NotAFile") from None
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise RepositoryError(f"{shown(path)} is not a regular file", reason="NotAFile")
    return file


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _mode(mode: int) -> str:
    if stat.S_ISREG(mode):
        return EXECUTABLE if mode & stat.S_IXUSR else FILE
    if stat.S_ISLNK(mode):
        return SYMLINK
    return SUBMODULE if stat.S_ISDIR(mode) else SPECIAL


def safe_path(path: str) -> str:
    """The path, if it stays below its root on any system; RepositoryError `UnsafePath` otherwise."""
    parts = path.split("/")
    odd = any(part in ("", ".", "..") or part.lower() == ".git" or len(encode(part)) > 255 for part in parts)
    if odd or len(path) > 4096 or "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise RepositoryError(
            f"the file name {shown(path)!r} is not safe",
            reason="UnsafePath",
            fix="rename it: no control characters, backslashes, `..` or `.git`",
        )
    return path


def exported(tree: Tree, folder: str, exclude: Sequence[str] = NOT_CODE) -> list[tuple[str, Entry]]:
    """The folder's files with their names in it, without those in `exclude` (a file, or `folder/`).

    RepositoryError `SymlinkRefused`, `SubmoduleRefused`, `UnsafePath`, `TooManyFiles`: links are refused
    wherever they point, for the code has to mean the same on every machine.
    """
    root = "" if folder.strip("/") in ("", ".") else folder.strip("/") + "/"
    chosen = []
    for entry in tree.files(root):
        name = entry.path.removeprefix(root)
        if any(name == out or (out.endswith("/") and name.startswith(out)) for out in exclude):
            continue
        if entry.mode == SYMLINK:
            raise RepositoryError(
                f"{shown(entry.path)} is a symbolic link",
                reason="SymlinkRefused",
                fix="put the file itself in its place",
            )
        if not entry.regular:
            raise RepositoryError(
                f"{shown(entry.path)} is a submodule or no file at all",
                reason="SubmoduleRefused",
                fix="copy the files that are needed into the folder",
            )
        chosen.append((safe_path(name), entry))
    if len(chosen) > MAX_FILES:
        raise RepositoryError(f"{shown(folder)} holds more than {MAX_FILES} files", reason="TooManyFiles")
    return chosen


def export(tree: Tree, folder: str, destination: Path, exclude: Sequence[str] = NOT_CODE) -> int:
    """Write the folder's exact files into `destination` (made, or empty); answer how many bytes.

    Files get mode 644 or 755 whatever the umask. Errors as in `exported`; `NotEmpty` for a destination in use.
    """
    files = exported(tree, folder, exclude)
    destination.mkdir(parents=True, exist_ok=True)
    if any(destination.iterdir()):
        raise RepositoryError(f"the folder {shown(destination)} is not empty", reason="NotEmpty")
    total = 0
    made = {destination}
    for name, entry in files:
        target = destination / name
        for parent in reversed(target.relative_to(destination).parents):
            if destination / parent not in made:
                (destination / parent).mkdir()
                (destination / parent).chmod(0o755)
                made.add(destination / parent)
        with target.open("xb") as file:
            total += tree.copy(entry.path, file.write)
        target.chmod(0o755 if entry.mode == EXECUTABLE else 0o644)
    return total
