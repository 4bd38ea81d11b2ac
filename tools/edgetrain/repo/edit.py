"""Writes one value into a manifest where it stands, and leaves every other byte as people wrote it."""

from __future__ import annotations

import json
from typing import Any

import yaml

from edgetrain.core.document import Document, Pointer
from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import Mark, Severity, shown
from edgetrain.repo.reader import read

_BOM = "\ufeff"
_QUOTED = '"{}"'


def put(data: bytes, path: str, pointer: Pointer, value: str, after: str) -> bytes:
    """The manifest with the text `value` at `pointer`: in the old value's place and kind of quotes, or, where there
    is none, behind its neighbour `after`.

    Raises RepositoryError `NotEditable` if more than that one value would change, as with an anchor that is used
    elsewhere.
    """
    document = _sound(data, path)
    text = data.decode("utf-8")
    start = len(text) - len(text.removeprefix(_BOM))
    body = text[start:]
    if pointer in document.marks:
        edited = _replaced(body, document, pointer, value)
    else:
        edited = _inserted(body, document, pointer, value, after)
    result = (text[:start] + edited).encode("utf-8")
    # Read again: whatever was misjudged above shows here.
    if edited is body or _sound(result, path).data != _with(document.data, pointer, value):
        raise _not_editable(path, pointer, value)
    return result


def _with(data: Any, pointer: Pointer, value: str) -> Any:
    """The data with another value there; what an alias shares keeps its own."""
    if not pointer:
        return value
    key, rest = pointer[0], pointer[1:]
    if isinstance(data, list):
        return [_with(item, rest, value) if index == key else item for index, item in enumerate(data)]
    return {**data, key: _with(data.get(key), rest, value)}


def _sound(data: bytes, path: str) -> Document:
    document, problems = read(data, path)
    if document is None or any(found.severity is Severity.PROBLEM for found in problems):
        raise RepositoryError(
            f"{shown(path)} can't be read as a manifest", reason="NotEditable", fix="mend it first"
        )
    return document


def _not_editable(path: str, pointer: Pointer, value: str) -> RepositoryError:
    where = ".".join(str(key) for key in pointer)
    return RepositoryError(
        f"{shown(path)}: {shown(where)} can't be changed alone",
        reason="NotEditable",
        fix=f"write it by hand, without anchors and aliases: {where}: {json.dumps(value)}",
    )


def _replaced(text: str, document: Document, pointer: Pointer, value: str) -> str:
    found = _span(text, document.marks[pointer])
    if found is None:
        return text
    start, end, quote = found
    return text[:start] + (quote or '"') + value + (quote or '"') + text[end:]


def _inserted(text: str, document: Document, pointer: Pointer, value: str, after: str) -> str:
    """Behind the neighbour, as its mapping is written: `{a: b, c: d}`, or a line a key."""
    parent, key = pointer[:-1], pointer[-1]
    neighbour = (*parent, after)
    found = _span(text, document.marks[neighbour]) if neighbour in document.marks else None
    if found is None:
        return text
    _, end, _ = found
    entry = f'{key}: "{value}"'
    opening = document.marks[parent]
    if text.splitlines()[opening.line - 1][opening.column - 1 :].startswith("{"):
        return f"{text[:end]}, {entry}{text[end:]}"
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    carriage = "\r" if text[:line_end].endswith("\r") else ""
    indent = " " * (document.key_mark(*neighbour).column - 1)
    line_end -= len(carriage)
    return f"{text[:line_end]}{carriage}\n{indent}{entry}{text[line_end:]}"


def _span(text: str, mark: Mark) -> tuple[int, int, str] | None:
    """Where the single value (or alias) at the mark begins and ends in the text, and its kind of quotes; None if
    there is none, or it has an anchor."""
    event: Any
    for event in yaml.parse(text, Loader=getattr(yaml, "CLoader", yaml.Loader)):
        at = event.start_mark
        if (at.line + 1, at.column + 1) != (mark.line, mark.column):
            continue
        begin, end = at.index, event.end_mark.index
        if isinstance(event, yaml.AliasEvent):
            return begin, end, ""
        if isinstance(event, yaml.ScalarEvent):
            plain = event.anchor is None and event.style in (None, "'", '"', "")
            return (begin, end, event.style or "") if plain else None
    return None
