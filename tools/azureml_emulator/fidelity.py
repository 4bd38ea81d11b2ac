"""Compares a recording of the real service with the emulator's log: routes, statuses, and the shapes of answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Keys of maps whose keys are a user's own words: below them only the kind of value counts.
_FREE = {
    "tags",
    "kvtags",
    "properties",
    "children",
    "artifacts",
    "artifactcontentinformation",
    "logfiles",
    "columns",
}


@dataclass
class Shape:
    """What was seen of one route with one status: for each path of keys, the kinds of value."""

    count: int = 0
    keys: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """`what` is a sentence; `route` is `METHOD route status`."""

    route: str
    what: str


def shapes(entries: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, int], Shape]:
    """By method, route and status."""
    found: dict[tuple[str, str, int], Shape] = {}
    for entry in entries:
        name = str(entry.get("route") or f"(no route) {_general(str(entry['path']))}")
        shape = found.setdefault((str(entry["method"]), name, int(entry["status"])), Shape())
        shape.count += 1
        for path, kind in _walk(entry.get("answer"), ""):
            shape.keys.setdefault(path, set()).add(kind)
    return found


def compare(real: Iterable[Mapping[str, Any]], ours: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """Where the emulator differs from what was recorded: routes and statuses that it has never given, keys that it
    leaves out or invents, values of another kind. What only the emulator's log has asked for is not compared."""
    there, here = shapes(real), shapes(ours)
    found = []
    for key, shape in sorted(there.items()):
        method, name, status = key
        label = f"{method} {name} {status}"
        mine = here.get(key)
        if name.startswith("(no route)"):
            found.append(Difference(label, f"asked {shape.count} times, and the emulator has no such route"))
        elif mine is None:
            other = sorted(s for m, n, s in here if (m, n) == (method, name))
            what = f"the emulator answered {', '.join(map(str, other))}" if other else "the emulator was not asked"
            found.append(Difference(label, what))
        else:
            found += [Difference(label, what) for what in _differences(shape, mine)]
    return found


def _differences(real: Shape, ours: Shape) -> Iterator[str]:
    for path in sorted(real.keys.keys() | ours.keys.keys()):
        theirs, mine = real.keys.get(path), ours.keys.get(path)
        if mine is None and theirs is not None:
            yield f"{path} is left out ({', '.join(sorted(theirs))})"
        elif theirs is None:
            yield f"{path} is invented"
        elif mine is not None and not (mine - {"null"} <= theirs or theirs - {"null"} <= mine):
            yield f"{path} is {', '.join(sorted(mine))} and should be {', '.join(sorted(theirs))}"


def _walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each path of keys below, in lower case, and the kind of what stands there; a list's items are `[]`."""
    if path:
        yield path, _kind(value)
    if isinstance(value, dict):
        free = path.rpartition(".")[2] in _FREE
        for key, item in value.items():
            yield from _walk(item, f"{path}.*" if free else f"{path}.{str(key).lower()}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, f"{path}[]")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else "object"


def _general(path: str) -> str:
    """A path that names no workspace."""
    head, mark, rest = path.partition("/workspaces/")
    return f"{head.partition('/subscriptions/')[0]}/…/workspaces/…/{rest.partition('/')[2]}" if mark else path
