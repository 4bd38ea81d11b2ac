"""Keeps the cache under its limit: what was not used for longest goes first."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .cache import Cache, remove

GRACE = 900.0
BATCH = 1000


class Cleaned(NamedTuple):
    """Bytes that went, bytes that are left. None left: something is being staged, and who ends last cleans up."""

    freed: int
    left: int | None


def clean(cache: Cache, limit: int, pinned: Collection[str], grace: float = GRACE) -> Cleaned:
    """Remove views, contents that are in no view, and old pieces, the least recently used first, until the rest
    is within `limit` bytes. `pinned` views (hex) and what was used in the last `grace` seconds stay."""
    with cache.alone() as alone:
        if not alone:
            return Cleaned(0, None)
        freed, newest = 0, time.time() - grace
        while True:
            total, loose = _look(cache)
            views = sorted((view.stat().st_mtime, view) for view in _views(cache) if view.name not in pinned)
            views = [(used, view) for used, view in views if used <= newest]
            horizon = min(newest, views[0][0]) if views else newest
            gone = _remove_loose(loose, total - limit, horizon)
            loose.close()
            freed, total = freed + gone, total - gone
            if total <= limit or not views:
                return Cleaned(freed, total)
            aside = cache.works / secrets.token_hex(8)
            views[0][1].rename(aside)  # never a view that is half there
            remove(aside)


def usage(cache: Cache) -> dict[str, Any]:
    """What the cache holds: bytes, and counts."""
    total, loose = _look(cache)
    files = sum(1 for _ in _contents(cache.blobs))
    unused = int(loose.execute("SELECT coalesce(sum(size), 0) FROM loose").fetchone()[0])
    loose.close()
    return {"bytes": total, "files": files, "views": sum(1 for _ in _views(cache)), "unusedBytes": unused}


def _look(cache: Cache) -> tuple[int, sqlite3.Connection]:
    """Bytes of everything, and a table of what is in no view, in a temporary file."""
    loose = sqlite3.connect("", isolation_level=None)
    loose.execute("CREATE TABLE loose (used REAL, size INTEGER, path BLOB)")
    total, rows = 0, []
    for folder in (cache.blobs, cache.partial):
        for path, found in _contents(folder):
            # Pieces under way have holes.
            size = min(found.st_size, found.st_blocks * 512) if folder == cache.partial else found.st_size
            total += size
            if found.st_nlink == 1:
                used = found.st_mtime if folder == cache.partial else found.st_atime
                rows.append((used, size, os.fsencode(path)))
            if len(rows) == BATCH:
                loose.executemany("INSERT INTO loose VALUES (?, ?, ?)", rows)
                rows.clear()
    loose.executemany("INSERT INTO loose VALUES (?, ?, ?)", rows)
    return total, loose


def _remove_loose(loose: sqlite3.Connection, over: int, newest: float) -> int:
    freed = 0
    for _, size, path in loose.execute("SELECT * FROM loose WHERE used <= ? ORDER BY used", (newest,)):
        if freed >= over:
            break
        Path(os.fsdecode(path)).unlink()
        freed += size
    return freed


def _contents(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                yield from _contents(Path(entry.path))
            elif stat.S_ISREG(found.st_mode):
                yield entry.path, found


def _views(cache: Cache) -> Iterator[Path]:
    return (view for view in cache.views.iterdir() if view.is_dir() and not view.is_symlink())
