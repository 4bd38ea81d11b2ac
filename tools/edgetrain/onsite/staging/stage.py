"""Stages an input: lists it, fetches what is not known or not there, digests it, and shows it as a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from .cache import Cache
from .clean import GRACE, clean, usage
from .errors import NoRoom, bad_request, changed
from .index import Index
from .task import Source, Task
from .tree import tree_digest
from .view import build, touch, view_path

PARALLEL, MOST_PARALLEL = 8, 64
Say = Callable[[object], None]


def stage(request: Mapping[str, Any], source: Source, say: Say) -> dict[str, Any]:
    """Do it; the answer. Raises Failure, OSError, sqlite3.Error. Killed anywhere, the next one goes on."""
    cache, limit, grace = Cache(str(request["cache"])), limit_of(request), grace_of(request)
    try:
        answer, grown = _once(request, cache, source, say)
    except NoRoom as error:
        pinned = pinned_of(request)
        if clean(cache, max(0, usage(cache)["bytes"] - error.short), pinned, grace).freed < error.short:
            raise
        answer, grown = _once(request, cache, source, say)
    over = False
    if limit is not None and grown:
        pinned = [*pinned_of(request), hex_of(answer["digest"])]
        left = clean(cache, limit, pinned, grace).left
        over = left is not None and left > limit
    return {**answer, "overLimit": over}


def _once(request: Mapping[str, Any], cache: Cache, source: Source, say: Say) -> tuple[dict[str, Any], bool]:
    """The answer, and whether the cache grew."""
    with cache.in_use(), cache.work() as work, closing(Index(work, cache.known, source.location)) as index:
        task = Task(cache, index, work, source.location, _parallel(request), say)
        return _staged(request, source, task)


def _staged(request: Mapping[str, Any], source: Source, task: Task) -> tuple[dict[str, Any], bool]:
    cache, index, limit = task.cache, task.index, limit_of(request)
    wanted, grown = bool(request.get("view")), False
    index.add(source.entries(), source.start, task.tell)
    index.reuse()
    files, size = index.totals()
    tree = _tree(index, request) if index.whole() else ""
    if not tree or (wanted and not touch(view_path(cache, tree))):
        # Without a view, data that does not fit is hashed as it streams by.
        task.store = wanted or limit is None or size <= limit
        task.count, missing = index.plan(cache.has if wanted else None)
        if task.count:
            if task.store:
                cache.need(missing)  # now rather than after hours
            task.run(source)
            grown = True
        tree = _tree(index, request)
        if wanted and not touch(view_path(cache, tree)):
            build(cache, index, tree, task.work)
            grown = True
        scope = source.scope()
        if scope is not None:
            index.forget_gone(scope)
    view = str(view_path(cache, tree)) if wanted else None
    answer = {"digest": f"sha256:{tree}", "files": files, "bytes": size, "moved": task.moved, "view": view}
    return answer, grown


def _tree(index: Index, request: Mapping[str, Any]) -> str:
    tree = tree_digest(index.contents())
    if request.get("expected") not in (None, f"sha256:{tree}"):
        raise changed("is not what was expected: its digest is another one")
    return tree


def limit_of(request: Mapping[str, Any]) -> int | None:
    """The cache's limit in bytes."""
    limit = request.get("limit")
    if limit is not None and (not isinstance(limit, int) or limit < 0):
        raise bad_request("the limit is not a number of bytes")
    return limit


def pinned_of(request: Mapping[str, Any]) -> list[str]:
    """The trees (hex) whose views stay."""
    return [hex_of(str(digest)) for digest in request.get("pinned") or []]


def grace_of(request: Mapping[str, Any]) -> float:
    """Seconds in which nothing that was used is cleaned up."""
    grace = request.get("grace", GRACE)
    if not isinstance(grace, (int, float)) or grace < 0:
        raise bad_request("the grace is not a number of seconds")
    return float(grace)


def hex_of(digest: str) -> str:
    """The hex digits of `sha256:...`."""
    return digest[7:] if digest.startswith("sha256:") else digest


def _parallel(request: Mapping[str, Any]) -> int:
    return max(1, min(MOST_PARALLEL, int(request.get("parallel") or PARALLEL)))
