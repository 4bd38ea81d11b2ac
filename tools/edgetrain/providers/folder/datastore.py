"""The datastore in a folder: private data whose names never leave, digested where it lies.

No message here holds the name of a file inside the datastore: only the path that the manifest gives.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edgetrain.core.digest import tree_digest
from edgetrain.core.errors import NotFound, Rejected, Transient
from edgetrain.core.ports import Check, DataDigest, DataEntry, DataSource, Settings
from edgetrain.core.problem import shown
from edgetrain.providers.diagnosis import tried
from edgetrain.providers.durable import CHUNK, disk, open_regular
from edgetrain.providers.folder.cache import FileCache
from edgetrain.providers.folder.hashing import SMALL, WORTH_IT, SmallFiles

_DEPTH = 64
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WORKERS = min(8, os.cpu_count() or 1)


class _Entry(NamedTuple):
    """A file found: `name` as it counts in the tree, `place` relative to the datastore's root."""

    name: str
    place: str
    status: os.stat_result
    folder: int
    base: str


class FolderDatastore:
    """The datastore at `root`; `cache` is a folder outside git (and outside `root`) for known digests.

    `clock` answers the time in nanoseconds since 1970.
    """

    def __init__(self, *, root: Path, cache: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._root = root.resolve()
        self._cache = cache
        self._clock = clock

    def digest(self, path: str, progress: Callable[[int], None] | None = None) -> DataDigest:
        """Digest the file or folder. `progress` gets the bytes of each file read, none for a known one.

        Raises NotFound; Rejected for a path outside the root, a link, a special file or a tree deeper than
        64 folders; Transient if a file changes while it is read.
        """
        found: list[tuple[str, str]] = []
        total = 0
        reading: deque[tuple[_Entry, BinaryIO, Future[str]]] = deque()

        def settle() -> None:
            entry, _, future = reading.popleft()
            keep(entry, future.result())

        def keep(entry: _Entry, digest: str) -> None:
            cache.put(entry.place, entry.status, digest, now)
            found.append((entry.name, digest))
            if progress:
                progress(entry.status.st_size)

        def keep_all(answers: Iterable[tuple[_Entry, str | None]]) -> None:
            for entry, digest in answers:
                keep(entry, digest or self._look(entry, path))

        with (
            disk(f"reading {shown(path)} in the datastore"),
            FileCache(self._cache, self._root) as cache,
            ThreadPoolExecutor(_WORKERS) as pool,
            SmallFiles[_Entry](self._root, _WORKERS) as small,
        ):
            now = self._clock()
            few = 0
            try:
                for entry in self._entries(path):
                    total += entry.status.st_size
                    known = cache.get(entry.place, entry.status, now)
                    if known is not None:
                        found.append((entry.name, known))
                        continue
                    if entry.status.st_size <= SMALL:
                        few += 1
                        if few > WORTH_IT:
                            keep_all(small.add(entry))
                            continue
                    stream = open_regular(entry.base, entry.folder)
                    reading.append((entry, stream, pool.submit(_hash, stream, entry.status, path)))
                    if len(reading) >= 4 * _WORKERS:
                        settle()
                while reading:
                    settle()
                keep_all(small.rest())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # a stop waits for no file not yet begun
                for _, stream, future in reading:
                    if future.cancelled():
                        stream.close()
                raise
        return DataDigest(tree_digest(found), len(found), total)

    def _look(self, entry: _Entry, path: str) -> str:
        """The digest of a file that another process could not tell. Raises what is wrong with it."""
        folder = self._open_parent(_parts(entry.place), path)
        try:
            return _hash(open_regular(entry.base, folder), entry.status, path)
        finally:
            os.close(folder)

    def source(self, path: str) -> DataSource:
        """The absolute path, and a stream for targets that are not on this machine.

        Raises NotFound; Rejected as `digest` does for the path itself.
        """
        with disk(f"looking for {shown(path)} in the datastore"):
            parts = _parts(path)
            folder = self._open_parent(parts, path)
            kind = "folder"
            try:
                if parts:
                    kind = _kind(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False), path)
            except FileNotFoundError:
                raise _missing(path) from None
            finally:
                os.close(folder)
        location = str(self._root.joinpath(*parts))
        return DataSource("folder", location, renew=partial(self.source, path), stream=_Stream(self, path, kind))

    def diagnose(self, paths: Sequence[str]) -> Sequence[Check]:
        """Whether the folder is there, and the first file of each of `paths` readable."""
        return [
            tried("data-folder", "the datastore's folder is there", lambda: os.close(self._open_parent([], "."))),
            *(tried("data-path", f"{shown(path)} is readable", partial(self._try, path)) for path in paths),
        ]

    def _try(self, path: str) -> None:
        if (stream := self.source(path).stream) and (entry := next(stream.entries(), None)):
            next(stream.read(entry), b"")

    def _entries(self, path: str) -> Iterator[_Entry]:
        parts = _parts(path)
        folder = self._open_parent(parts, path)
        try:
            if not parts:
                yield from _walk(folder, "", "", path, 0)
                return
            base, place = parts[-1], "/".join(parts)
            try:
                status = os.stat(base, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                raise _missing(path) from None
            if _kind(status, path) == "file":
                yield _Entry(base, place, status, folder, base)
                return
            inner = os.open(base, _OPEN_FOLDER, dir_fd=folder)
            try:
                yield from _walk(inner, "", place + "/", path, 0)
            finally:
                os.close(inner)
        finally:
            os.close(folder)

    def _open_parent(self, parts: list[str], path: str) -> int:
        """A handle of the folder that holds the last part, reached without following a link."""
        try:
            handle = os.open(self._root, _OPEN_FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                "the datastore's folder is not there",
                reason="DatastoreMissing",
                fix="check the datastore's path in edgetrain.yaml and that the disk is mounted",
            ) from None
        for part in parts[:-1]:
            try:
                if _kind(os.stat(part, dir_fd=handle, follow_symlinks=False), path) == "file":
                    raise _missing(path)
                inner = os.open(part, _OPEN_FOLDER, dir_fd=handle)
            except FileNotFoundError:
                raise _missing(path) from None
            finally:
                os.close(handle)
            handle = inner
        return handle


class _Stream:
    """Reads what a path leads to, for targets that have no such folder."""

    def __init__(self, store: FolderDatastore, path: str, kind: str) -> None:
        self._store = store
        self._path = path
        self._kind = kind

    def entries(self) -> Iterator[DataEntry]:
        """All files, unsorted. Raises NotFound; Rejected for a link, a special file or a tree too deep."""
        with disk(f"listing {shown(self._path)} in the datastore"):
            for entry in self._store._entries(self._path):
                yield DataEntry(entry.name, entry.status.st_size, _tag(entry.status))

    def read(self, entry: DataEntry, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset`. Raises Rejected with reason DataChanged if the file is another or gone."""
        with disk(f"reading {shown(self._path)} in the datastore"), self._open(entry) as stream:
            if _tag(os.fstat(stream.fileno())) != entry.tag:
                raise _changed(self._path)
            stream.seek(offset)
            while chunk := stream.read(CHUNK):
                yield chunk
            if _tag(os.fstat(stream.fileno())) != entry.tag:
                raise _changed(self._path)

    def _open(self, entry: DataEntry) -> BinaryIO:
        parts = _parts(self._path) + (_parts(entry.name) if self._kind == "folder" else [])
        try:
            folder = self._store._open_parent(parts, self._path)
        except NotFound:
            raise _changed(self._path) from None
        try:
            return open_regular(parts[-1], folder)
        except FileNotFoundError:
            raise _changed(self._path) from None
        finally:
            os.close(folder)


def _tag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ctime_ns:x}"


def _changed(path: str) -> Rejected:
    return Rejected(
        f"a file in {shown(path)} was changed or deleted since it was listed",
        reason="DataChanged",
        fix="wait until the data is complete, then apply again",
    )


def _walk(folder: int, prefix: str, place: str, path: str, depth: int) -> Iterator[_Entry]:
    if depth > _DEPTH:
        raise Rejected(
            f"{shown(path)} is more than {_DEPTH} folders deep", reason="TooDeep", fix="flatten the folder"
        )
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if _kind(status, path) == "file":
                yield _Entry(prefix + entry.name, place + entry.name, status, folder, entry.name)
                continue
            inner = os.open(entry.name, _OPEN_FOLDER, dir_fd=folder)
            try:
                yield from _walk(inner, f"{prefix}{entry.name}/", f"{place}{entry.name}/", path, depth + 1)
            finally:
                os.close(inner)


def _hash(stream: BinaryIO, status: os.stat_result, path: str) -> str:
    hasher = hashlib.sha256()
    with stream:
        # No larger than the file: clearing a whole chunk costs more than reading a small one.
        buffer = bytearray(min(CHUNK, status.st_size + 1))
        while count := stream.readinto(buffer):  # type: ignore[attr-defined]
            hasher.update(memoryview(buffer)[:count])
        after = os.fstat(stream.fileno())
    if (after.st_ino, after.st_size, after.st_mtime_ns) != (
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
    ):
        raise Transient(
            f"a file in {shown(path)} changed while it was read",
            reason="DataChanging",
            fix="wait until the data is copied, then apply again",
        )
    return "sha256:" + hasher.hexdigest()


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise Rejected(
            f"{shown(path)} is outside the datastore",
            reason="PathOutside",
            fix="give a path relative to the datastore's root, without ..",
        )
    return parts


def _kind(status: os.stat_result, path: str) -> str:
    if stat.S_ISREG(status.st_mode):
        return "file"
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    what = "symbolic link" if stat.S_ISLNK(status.st_mode) else "special file"
    raise Rejected(
        f"{shown(path)} is, or holds, a {what}",
        reason="Symlink" if stat.S_ISLNK(status.st_mode) else "SpecialFile",
        fix="put regular files and folders there (edgetrain follows no link)",
    )


def _missing(path: str) -> NotFound:
    return NotFound(
        f"the datastore has no {shown(path)}",
        reason="DataMissing",
        fix="check the input's path and that the data has arrived",
    )


def from_settings(settings: Settings) -> FolderDatastore:
    """The declared folder; what was digested is remembered at the site's state."""
    root = Path(settings.block["path"]).expanduser()
    return FolderDatastore(root=root, cache=settings.state / "digests" / settings.name)
