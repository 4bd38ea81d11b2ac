"""Some files of a tree as if it had no others, so that a check of a few need not read all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edgetrain.repo.tree import MANIFEST_LIMIT, Entry, Tree


class PartOfTree:
    """The files that are, or lie below, one of the paths. Reading is the whole tree's."""

    def __init__(self, whole: Tree, paths: Iterable[str]) -> None:
        self._whole = whole
        self._paths = frozenset(paths)

    def holds(self, path: str) -> bool:
        """Whether the path belongs to this part."""
        while path and path not in self._paths:
            path = path.rpartition("/")[0]
        return bool(path)

    def files(self, prefix: str = "") -> list[Entry]:
        """All files of this part; with `prefix` only that file, or those in that folder."""
        return [entry for entry in self._whole.files(prefix) if self.holds(entry.path)]

    def exists(self, path: str) -> bool:
        """Whether the whole tree has it: what is left out here is not missing."""
        return self._whole.exists(path)

    def mark(self, path: str) -> object:
        """What is another one as soon as the file's bytes are others; None if that can't be told."""
        return self._whole.mark(path)

    def read(self, path: str, limit: int = MANIFEST_LIMIT) -> bytes:
        """The file's bytes, at most `limit`."""
        return self._whole.read(path, limit)

    def ahead(self, paths: Sequence[str]) -> None:
        """These are read next."""
        self._whole.ahead(paths)

    def apart(self) -> None:
        """This process is a copy of another."""
        self._whole.apart()

    def copy(self, path: str, sink: Callable[[bytes], object]) -> int:
        """Give the file's bytes to `sink` piece by piece; answer how many."""
        return self._whole.copy(path, sink)

    def content_digest(self, path: str) -> str:
        """`sha256:<hex>` of the file's bytes."""
        return self._whole.content_digest(path)

    def size(self, path: str) -> int:
        """The file's bytes, counted."""
        return self._whole.size(path)

    def measure(self, path: str) -> tuple[int, str]:
        """`size` and `content_digest` at once."""
        return self._whole.measure(path)
