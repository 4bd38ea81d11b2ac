"""The files of a commit, and what every tree of files answers; read without ever following a link."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import shown
from edgetrain.repo.command import Running, decode, encode
from edgetrain.repo.git import Git
from edgetrain.repo.objects import ObjectReader

if TYPE_CHECKING:
    from edgetrain.repo.digest_cache import DigestCache

FILE, EXECUTABLE, SYMLINK, SUBMODULE, SPECIAL = "100644", "100755", "120000", "160000", "000000"
REGULAR = (FILE, EXECUTABLE)
_FILES = (*REGULAR, SUBMODULE)
MANIFEST_LIMIT = 2**20
MAX_TARGET = 4096
# So many files a tree is told ahead of.
AHEAD = 256


class Entry(NamedTuple):
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

    def mark(self, path: str) -> object:
        """What is another one as soon as the file's bytes are others; None if that can't be told."""

    def read(self, path: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """The file's bytes, at most `limit`."""

    def ahead(self, paths: Sequence[str]) -> None:
        """These are read soon, each once, after those told of before; a few hundred at most. Nothing but speed
        depends on it."""

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


def in_order(tree: Tree, paths: Sequence[str]) -> Iterator[str]:
    """The paths, which are read one after the other; the tree is told of them a little before."""
    tree.ahead(paths[:AHEAD])
    for at in range(0, len(paths), AHEAD):
        if at + AHEAD < len(paths):
            tree.ahead(paths[at + AHEAD : at + 2 * AHEAD])
        yield from paths[at : at + AHEAD]


class Listed(ABC):
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


class CommitTree(Listed):
    """The files of one commit, whatever the work tree looks like. Close it, or use `with`.

    `cache` remembers content digests by blob id in that file (one below `.edgetrain/`).
    """

    def __init__(self, git: Git, sha: str, cache: Path | None = None) -> None:
        super().__init__()
        self.git = git
        self.sha = git.resolve(sha)
        self._cache_file = cache
        self._cache: DigestCache | None = None
        self._reader: ObjectReader | None = None
        self._listed: Running | None = None
        self._others: object = None
        self._lock = threading.Lock()
        self._ahead: dict[str, bytes] = {}
        self._asked = False  # whether git still has answers to what was told ahead

    def _objects(self) -> ObjectReader:
        with self._lock:
            if self._reader is None or self._reader.closed:
                self._reader = self.git.objects()
            return self._reader

    def begin(self) -> None:
        """Git lists the files from now on, while other work is done."""
        self._listed = self.git.begin("ls-tree", "-r", "-z", "--full-tree", self.sha)

    def _list(self) -> Iterator[Entry]:
        if self._listed is None:
            self.begin()
        listed, self._listed = self._listed, None
        for line in filter(None, decode(listed.output()).split("\0") if listed else ()):
            facts, _, name = line.partition("\t")
            mode, _, blob = facts.split(" ")
            if mode == SYMLINK:
                target = decode(self._objects().read(blob, MAX_TARGET))
                yield Entry(name, mode, blob, target)
            else:
                # Ancient commits hold 100664, which git itself takes for 100644.
                yield Entry(name, mode if mode in _FILES else FILE, blob)

    def mark(self, path: str) -> object:
        """The blob's id."""
        entry = self._entries().get(path)
        return entry.blob if entry and entry.regular else None

    def read(self, path: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """The file's bytes, at most `limit`."""
        blob = self._regular(path).blob or ""
        if self._asked and blob not in self._ahead:
            self._ahead |= self._objects().answers()
            self._asked = False
        ready = self._ahead.get(blob)
        return self._objects().read(blob, limit) if ready is None or len(ready) > limit else ready

    def ahead(self, paths: Sequence[str]) -> None:
        """These are read soon, each once, after those told of before; a few hundred at most. Git reads them
        meanwhile. Nothing but speed depends on it."""
        entries = self._entries()
        wanted = [entry.blob for path in paths if (entry := entries.get(path)) and entry.regular and entry.blob]
        objects = self._objects()
        self._ahead = objects.answers()
        objects.ask(wanted)
        self._asked = True

    def apart(self) -> None:
        """This process is a copy of another: from now on nothing that the other reads with is used."""
        # Kept, though not used: to drop them would close the other's pipes and files.
        self._others = (self._reader, self._cache)
        self._reader, self._cache, self._cache_file = None, None, None
        self._ahead, self._asked = {}, False

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
        cache = self._digests()
        known = cache.get(blob) if cache else None
        if known is None:
            hasher = hashlib.sha256()
            known = self._objects().copy(blob, hasher.update), "sha256:" + hasher.hexdigest()
            if cache:
                cache.put(blob, *known)
        return known

    def _digests(self) -> DigestCache | None:
        with self._lock:
            if self._cache is None and self._cache_file is not None:
                from edgetrain.repo.digest_cache import DigestCache  # here: SQLite takes time to import

                self._cache = DigestCache(self._cache_file)
            return self._cache

    def close(self) -> None:
        """End the reading process. Reading again starts another."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._listed is not None:
            self._listed.stop()
            self._listed = None
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def __enter__(self) -> CommitTree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
