"""What single files held when they were last read without a problem, so that only what changed is read again.

A reading counts while the file's mark is the same: a blob's id, or what the last change of a file on disk left
behind. All of them lie in one file of the git folder, where no commit can bring one; it counts only if its first
bytes are the digest of the rest and of the `key`, which stands for all else that a reading depends on: edgetrain's
own files and Python. So neither a damaged memory nor another one's is ever looked into. It is for a look at one's
own checkout: what applies, verifies, or judges strangers' changes reads everything itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgetrain.core.errors import RepositoryError
from edgetrain.repo.opening import open_file

WORK_TREE, COMMITS = "edgetrain-read-worktree.bin", "edgetrain-read-commits.bin"
MAX_MEMORY = 256 * 2**20
# So many new readings are had again sooner than all are written.
FEW = 32
# By path; and what is told of history, by names of its own.
MANIFESTS, RECORDS, FILES, LOCKS = _OF_FILES = ("manifests", "records", "files", "locks")
HISTORY, HANDS = "history", "hands"

# A blob's id; or a file's mode, inode, size, and both times; or what else a fact depends on.
Mark = Any


class Readings:
    """The memory of one sort of trees. A mark's times must lie before `settled` (nanoseconds) to be remembered:
    what changed later might change again without leaving a trace. With `digests` manifests keep theirs, too."""

    def __init__(self, file: Path, key: bytes, settled: int | None = None) -> None:
        self.digests = settled is not None
        self._file = file
        self._key = key
        self._settled = settled
        self._bytes: dict[str, bytes] | None = None
        self._known: dict[str, dict[str, tuple[Mark, Any]]] = {}
        self._new: dict[str, dict[str, tuple[Mark, Any]]] = {}
        self._count = 0

    def get(self, sort: str, name: str, mark: Mark) -> Any:
        """What was read when the mark was the same; None if nothing is known."""
        found = self._section(sort).get(name)
        return found[1] if found is not None and found[0] == mark else None

    def put(self, sort: str, name: str, mark: Mark, value: Callable[[], Any], weight: int = 1) -> None:
        """Remember a value, which is asked for when all is written. `weight` is how much was looked at for it."""
        if self._settled is not None and sort in _OF_FILES and max(mark[-2:]) >= self._settled:
            return
        self._new.setdefault(sort, {})[name] = (mark, value)
        self._count += weight

    def save(self, there: Callable[[str], bool]) -> None:
        """Write what is known of the files that are `there`, unless too little is new. What can't be written is
        read again: slower, and no less right."""
        if self._count <= FEW and (self._sections() or not self._new):
            return
        sections = dict(self._sections())
        for sort, new in self._new.items():
            kept = {**self._section(sort), **{name: (mark, value()) for name, (mark, value) in new.items()}}
            if sort in _OF_FILES:
                kept = {name: found for name, found in kept.items() if there(name)}
            # Deeper than this form goes, or half a character: whatever it is, it is read again.
            with contextlib.suppress(ValueError):
                sections[sort] = marshal.dumps(kept)
        body = marshal.dumps(sections)
        if len(body) < MAX_MEMORY:
            put_in_place(self._file, self._seal(body) + body)

    def _seal(self, body: bytes | memoryview) -> bytes:
        hasher = hashlib.sha256(self._key)
        hasher.update(body)
        return hasher.digest()

    def _sections(self) -> dict[str, bytes]:
        if self._bytes is None:
            self._bytes = {}
            with contextlib.suppress(OSError, RepositoryError, MemoryError):
                data = self._read()
                body = memoryview(data)[hashlib.sha256().digest_size :]
                if data.startswith(self._seal(body)):
                    self._bytes = marshal.loads(body)  # noqa: S302 (sealed by ourselves)
        return self._bytes

    def _read(self) -> bytes:
        with os.fdopen(open_file(self._file.parent, self._file.name), "rb") as file:
            return file.read() if os.fstat(file.fileno()).st_size < MAX_MEMORY + 32 else b""

    def _section(self, sort: str) -> dict[str, tuple[Mark, Any]]:
        if sort not in self._known:
            data = self._sections().get(sort)
            self._known[sort] = marshal.loads(data) if data else {}  # noqa: S302 (part of what is sealed)
        return self._known[sort]


def put_in_place(file: Path, data: bytes) -> None:
    """Write a file whole, or not at all."""
    with contextlib.suppress(OSError):
        handle, name = tempfile.mkstemp(prefix=file.name, dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as sink:
                sink.write(data)
            Path(name).replace(file)
        except OSError:
            Path(name).unlink()
