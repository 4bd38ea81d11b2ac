"""A quick reader of the plain part of YAML that nearly every manifest keeps to; what it doubts, it leaves alone.

It knows mappings and lists by indentation, flow collections on one line, scalars on one line and `>-`, in ASCII.
Where it answers, the strict reader answers the same and has no problem to tell (a test holds the two together);
with anything else (anchors, tags, escapes, a repeated key, a spelling that is refused, a fault) the answer is None,
and the strict reader has the word.
"""

from __future__ import annotations

import re
from typing import Any

from edgetrain.repo.scalar import resolve

# What any reader here takes of a manifest.
MAX_BYTES = 2**20
# Far below what the strict reader takes, so that no limit of its is ever met here.
_MAX_PLAIN = 2**15
_MAX_DEPTH = 24

# Printable ASCII and line feeds; no tab, no carriage return.
_TEXT = re.compile(rb"[\n\x20-\x7e]*")
_NAME = "[A-Za-z_][A-Za-z0-9_-]{0,99}|[1-9][0-9]{0,8}"
# Indentation, perhaps a list's dash, perhaps a key with its colon, and the rest.
_LINE = re.compile(rf"( *)(?:(- +)(?=[^ ]))?(?:({_NAME}):(?: +|\Z))?(.*)")
_FOLDED = ">-"
_DOUBLE = re.compile(r'"([^"\\]*)" *(?: #.*)?')
_SINGLE = re.compile(r"'([^']*)' *(?: #.*)?")
_PLAIN = re.compile(r"(?:[A-Za-z0-9_/.$+~]|-[0-9]).*")
_FLOW = re.compile(
    rf"({_NAME}): +(?=[^ ])"  # 1: a key
    r"|([\[\]{},]) *"  # 2: punctuation
    r"""|"([^"\\]*)" *"""  # 3
    r"|'([^']*)' *"  # 4
    # 5: a plain scalar; without a colon or anything that means something in a flow collection
    r"|((?:[A-Za-z0-9_/.~]|-[0-9])[A-Za-z0-9_/.@=+$()<>;-]*(?: +[A-Za-z0-9_/.@=+$()<>;-]+)*) *"
)
# What was met before: manifests of one repository repeat each other. Of a line: the column, the width of its dash,
# its key, and its value.
_LINES: dict[str, tuple[int, int, str | None, Any]] = {}
_KEYS: dict[str, bool] = {}
_VALUES: dict[str, Any] = {}
_MOST = 10_000
# Lines without a value of their own: nothing to read, and keys whose value comes on the next lines.
_NOTHING = (-1, 0, None, None)
_OPEN, _FOLD = object(), object()


class _Doubt(Exception):
    """The strict reader has to look."""


def read_plain(data: bytes) -> dict[str, Any] | None:
    """The mapping that the bytes hold, if they are plain beyond doubt."""
    if len(data) > _MAX_PLAIN or not _TEXT.fullmatch(data):
        return None
    try:
        return _block(data.decode("ascii"))
    except _Doubt:
        return None


def _block(text: str) -> dict[str, Any]:
    root: dict[str, Any] = {}
    # What is open, the innermost last: the column at which its entries stand, and itself.
    columns: list[int] = [0]
    stack: list[Any] = [root]
    container: Any = root
    waiting: str | None = None  # the key of `container` whose value comes on the next lines
    folded: list[str] | None = None  # the lines of that value, if it is a text over several
    left = 0
    for line in text.split("\n"):
        if folded is not None:
            column = len(line) - len(line.lstrip(" "))
            left = left or column  # -1 after an empty line: nothing more of it may follow
            if column < len(line) and column == left > columns[-1] and not line.endswith(" "):
                folded.append(line[column:])
                continue
            # After an empty line more of it may follow, and what looks like a comment would belong to it.
            if column < len(line):
                if not folded or column > columns[-1]:
                    raise _Doubt
                container[waiting] = " ".join(folded)
                waiting = folded = None
            elif column > columns[-1]:
                raise _Doubt
            else:
                left = -1
                continue
        found = _LINES.get(line)
        if found is None:
            found = _read_line(line)
        column, dash, key, value = found
        if column < 0:
            continue
        if waiting is not None:
            # A list may stand below its key without being indented.
            if not (column > columns[-1] or (dash and column == columns[-1])):
                raise _Doubt  # no value at all
            if len(stack) > _MAX_DEPTH:
                raise _Doubt
            inner: Any = [] if dash else {}
            container[waiting] = inner
            waiting, container = None, inner
            columns.append(column)
            stack.append(inner)
        else:
            while column < columns[-1]:
                columns.pop()
                stack.pop()
            if not dash and type(stack[-1]) is list:
                columns.pop()
                stack.pop()
            if not stack or column != columns[-1]:
                raise _Doubt  # a continued scalar, or wrong indentation
            container = stack[-1]
        if dash:
            if type(container) is not list:
                raise _Doubt
            if key is None:
                container.append(value)
                continue
            inner = {}
            container.append(inner)
            container = inner
            columns.append(column + dash)
            stack.append(inner)
            if len(stack) > _MAX_DEPTH:
                raise _Doubt
        if type(container) is not dict or key in container:
            raise _Doubt
        if value is _OPEN:
            container[key] = None
            waiting = key
        elif value is _FOLD:
            container[key] = ""
            waiting, folded, left = key, [], 0
        else:
            container[key] = value
    if folded:
        container[waiting] = " ".join(folded)
        waiting = None
    if waiting is not None or not root:
        raise _Doubt
    return root


def _read_line(line: str) -> tuple[int, int, str | None, Any]:
    """What a line says by itself, wherever it stands; only of a text over several lines it says nothing."""
    indent, dash, key, rest = _LINE.fullmatch(line).groups()  # type: ignore[union-attr]
    found: tuple[int, int, str | None, Any]
    if dash is None and key is None:
        if rest and rest[0] != "#":
            raise _Doubt
        found = _NOTHING
    elif key is not None and not _sound(key):
        raise _Doubt
    else:
        value = _value(rest) if rest and (key is None or rest != _FOLDED) else _FOLD if rest else _OPEN
        found = len(indent), len(dash or ""), key, value
    if len(_LINES) < _MOST and len(line) < 200:
        _LINES[line] = found
    return found


def _sound(key: str) -> bool:
    """Whether a bare key means its own text."""
    known = _KEYS.get(key)
    if known is None:
        value, refusal = resolve(key)
        known = type(value) in (str, int) and refusal is None
        if len(_KEYS) < _MOST:
            _KEYS[key] = known
    return known


def _value(text: str) -> Any:
    """The value that stands behind a key or a dash, up to the end of the line. Equal texts share it."""
    try:
        return _VALUES[text]
    except KeyError:
        value = _read_value(text)
    if len(_VALUES) < _MOST and len(text) < 200:
        _VALUES[text] = value
    return value


def _read_value(text: str) -> Any:
    first = text[0]
    if first in "{[":
        return _flow(text)
    if first in "\"'":
        found = (_DOUBLE if first == '"' else _SINGLE).fullmatch(text)
        if found is None:
            raise _Doubt
        return found[1]
    if not _PLAIN.fullmatch(text):
        raise _Doubt
    text = text.partition(" #")[0].rstrip(" ")
    if ": " in text or text[-1] == ":":
        raise _Doubt
    return _scalar(text)


def _scalar(text: str) -> Any:
    value, refusal = resolve(text)
    if refusal is not None:
        raise _Doubt
    return value


def _flow(text: str) -> Any:
    """A flow collection that ends on its line."""
    stack: list[Any] = []
    at, key = 0, None
    # What may come: a value, what ends a value (comma or bracket), or a key. After a comma nothing may close.
    ready, comma = True, False
    while found := _FLOW.match(text, at):
        at = found.end()
        kind = found.lastindex
        if kind == 1:
            if not stack or type(stack[-1]) is not dict or key is not None or not ready:
                raise _Doubt
            key = found[1]
            if key in stack[-1] or not _sound(key):
                raise _Doubt
            continue
        mark = found[2]
        if mark == ",":
            if ready:
                raise _Doubt
            ready = comma = True
            continue
        if mark is not None and mark in "]}":
            if not stack or comma or key is not None or (type(stack[-1]) is dict) is not (mark == "}"):
                raise _Doubt
            value = stack.pop()
            ready = False
            if not stack:
                rest = text[at:]
                if rest and not (rest[0] == "#" and text[at - 1] == " "):
                    raise _Doubt
                return value
            continue
        if not ready:
            raise _Doubt
        value = ({} if mark == "{" else []) if mark else _scalar(found[5]) if kind == 5 else found[kind or 0]
        if stack:
            top = stack[-1]
            if type(top) is list:
                top.append(value)
            elif key is None:
                raise _Doubt
            else:
                top[key] = value
                key = None
        comma = False
        if mark:
            stack.append(value)
            if len(stack) > _MAX_DEPTH:
                raise _Doubt
        else:
            ready = False
    raise _Doubt
