"""JSON Patch (RFC 6902) on JSON documents, with JSON Pointer (RFC 6901)."""

from __future__ import annotations

import copy
from typing import Any

MAX_OPERATIONS = 200


class BadPatch(Exception):
    """The patch can't be applied; the text says why. Nothing was changed."""


def patched(document: Any, patch: Any) -> Any:
    """The document after all operations; the one given stays as it is. Raises BadPatch."""
    if not isinstance(patch, list) or not all(isinstance(item, dict) for item in patch):
        raise BadPatch("a JSON Patch is a list of operations")
    if len(patch) > MAX_OPERATIONS:
        raise BadPatch(f"more than {MAX_OPERATIONS} operations")
    changed = copy.deepcopy(document)
    for item in patch:
        changed = _one(changed, item)
    return changed


def tokens(pointer: Any) -> list[str]:
    """The reference tokens of a JSON Pointer. Raises BadPatch."""
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise BadPatch(f"{pointer!r} is not a JSON Pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _one(document: Any, item: dict[str, Any]) -> Any:
    operation, path = item.get("op"), tokens(item.get("path"))
    if operation in ("add", "replace", "test") and "value" not in item:
        raise BadPatch(f"{operation} needs a value")
    value = copy.deepcopy(item.get("value"))
    if operation == "add":
        return _add(document, path, value)
    if operation == "remove":
        return _remove(document, path)
    if operation == "replace":
        _get(document, path)
        return value if not path else _add(_remove(document, path), path, value)
    if operation == "test":
        if not _same(_get(document, path), value):
            raise BadPatch(f"the value at {item['path']!r} is another")
        return document
    if operation in ("move", "copy"):
        source = tokens(item.get("from"))
        moved = copy.deepcopy(_get(document, source))
        if operation == "move":
            if path[: len(source)] == source and path != source:
                raise BadPatch("a value can't be moved into itself")
            document = _remove(document, source)
        return _add(document, path, moved)
    raise BadPatch(f"unknown operation {operation!r}")


def _same(one: Any, other: Any) -> bool:
    # In JSON true is not 1, unlike in Python.
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _index(parent: list[Any], place: str, *, end: int) -> int:
    if not place.isascii() or not place.isdigit() or (place != "0" and place.startswith("0")):
        raise BadPatch(f"{place!r} is not an index")
    # The length first: a number of thousands of digits is slow to read.
    if len(place) > len(str(end)) or int(place) > end:
        raise BadPatch(f"there is no index {place[:20]}")
    return int(place)


def _get(document: Any, path: list[str]) -> Any:
    for token in path:
        if isinstance(document, dict):
            if token not in document:
                raise BadPatch(f"there is no {token!r}")
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(document, token, end=len(document) - 1)]
        else:
            raise BadPatch(f"{token!r} is looked for in what is neither an object nor an array")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(parent, last, end=len(parent)), value)
    else:
        raise BadPatch(f"{last!r} can't be put into what is neither an object nor an array")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        return None
    parent, last = _get(document, path[:-1]), path[-1]
    _get(parent, [last])
    if isinstance(parent, list):
        del parent[_index(parent, last, end=len(parent) - 1)]
    else:
        del parent[last]
    return document
