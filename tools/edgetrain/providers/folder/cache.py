"""A cache of content digests by what `stat` tells of a file."""

from __future__ import annotations

import os
from pathlib import Path

from edgetrain.providers.digest_cache import DigestCache

_RACY = 2 * 10**9
_FACTS = {"inode": "INTEGER", "size": "INTEGER", "mtime": "INTEGER", "ctime": "INTEGER"}


class FileCache(DigestCache):
    """Digests of the files under one root.

    A file changed less than two seconds before the look (`now`, in ns) is neither stored nor trusted: it
    can change again without a new time stamp.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        super().__init__(folder / "digests.sqlite3", os.fsencode(root), _FACTS)

    def get(self, name: str, status: os.stat_result, now: int) -> str | None:
        """The digest of the file `name` (relative to the root), if it is known to be unchanged."""
        return None if self.blank or _racy(status, now) else self.find(os.fsencode(name), _facts(status))

    def put(self, name: str, status: os.stat_result, digest: str, now: int) -> None:
        """Remember the digest."""
        if not _racy(status, now):
            self.store(os.fsencode(name), _facts(status), digest)


def _facts(status: os.stat_result) -> tuple[int, int, int, int]:
    # SQLite's integers are signed; some file systems have inode numbers with the highest bit set.
    inode = status.st_ino - 2**64 if status.st_ino >= 2**63 else status.st_ino
    return inode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _racy(status: os.stat_result, now: int) -> bool:
    return max(status.st_mtime_ns, status.st_ctime_ns) > now - _RACY
