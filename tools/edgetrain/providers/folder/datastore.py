"""The datastore in a folder: private data whose names never leave, digested where it lies.

No message here holds the name of a file inside the datastore: only the path that the manifest gives.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from edgetrain.core.digest import joined_tree_digest
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import Check, DataDigest, DataEntry, DataSource, Settings
from edgetrain.core.problem import shown
from edgetrain.providers.diagnosis import tried
from edgetrain.providers.durable import CHUNK, disk, open_regular
from edgetrain.providers.folder.cache import FolderCache
from edgetrain.providers.folder.looking import Looking
from edgetrain.providers.folder.walk import files_at, kind_of, missing, open_parent, parts_of


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
        with (
            disk(f"reading {shown(path)} in the datastore"),
            FolderCache(self._cache, self._root) as cache,
            Looking(self._root, path, cache, self._clock(), progress) as looking,
        ):
            digest = joined_tree_digest(looking.tree(files_at(self._root, path)))
        return DataDigest(digest, looking.files, looking.bytes)

    def source(self, path: str) -> DataSource:
        """The absolute path, and a stream for targets that are not on this machine.

        Raises NotFound; Rejected as `digest` does for the path itself.
        """
        with disk(f"looking for {shown(path)} in the datastore"):
            parts = parts_of(path)
            folder = open_parent(self._root, parts, path)
            kind = "folder"
            try:
                if parts:
                    kind = kind_of(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False), path)
            except FileNotFoundError:
                raise missing(path) from None
            finally:
                os.close(folder)
        location = str(self._root.joinpath(*parts))
        return DataSource(
            "folder", location, renew=partial(self.source, path), stream=_Stream(self._root, path, kind)
        )

    def diagnose(self, paths: Sequence[str]) -> Sequence[Check]:
        """Whether the folder is there, and the first file of each of `paths` readable."""
        return [
            tried(
                "data-folder", "the datastore's folder is there", lambda: os.close(open_parent(self._root, [], "."))
            ),
            *(tried("data-path", f"{shown(path)} is readable", partial(self._try, path)) for path in paths),
        ]

    def _try(self, path: str) -> None:
        if (stream := self.source(path).stream) and (entry := next(stream.entries(), None)):
            next(stream.read(entry), b"")


class _Stream:
    """Reads what a path leads to, for targets that have no such folder."""

    def __init__(self, root: Path, path: str, kind: str) -> None:
        self._root = root
        self._path = path
        self._kind = kind

    def entries(self) -> Iterator[DataEntry]:
        """All files. Raises NotFound; Rejected for a link, a special file or a tree too deep."""
        with disk(f"listing {shown(self._path)} in the datastore"):
            for found in files_at(self._root, self._path):
                for name in found.names:
                    status = os.stat(name, dir_fd=found.folder, follow_symlinks=False)
                    kind_of(status, self._path)
                    yield DataEntry(os.fsdecode(found.prefix + name), status.st_size, _tag(status))

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
        parts = parts_of(self._path) + (parts_of(entry.name) if self._kind == "folder" else [])
        try:
            folder = open_parent(self._root, parts, self._path)
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


def from_settings(settings: Settings) -> FolderDatastore:
    """The declared folder; what was digested is remembered at the site's state."""
    root = Path(settings.block["path"]).expanduser()
    return FolderDatastore(root=root, cache=settings.state / "digests" / settings.name)
