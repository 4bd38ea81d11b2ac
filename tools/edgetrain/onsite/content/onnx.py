"""ONNX models by their wire format (onnx.proto of ONNX 1.17), without protobuf; nothing is run.

Only what the check needs is told apart: tensors, names, texts, operators. Bytes in fields that the format does
not know are looked at as any others, for they are a place to hide things in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

STANDARD = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "ai.onnx.preview"}
# Message types by field number, of those that hold others or that matter.
MODEL = {7: "graph", 14: "entry", 20: "training", 25: "function"}
NESTED: dict[str, dict[int, str]] = {
    "model": MODEL,
    "training": {1: "graph", 2: "graph", 3: "entry", 4: "entry"},
    "graph": {
        1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "quantization",
        15: "sparse", 16: "entry",
    },
    "function": {7: "node", 11: "attribute", 12: "value", 14: "entry"},
    "node": {5: "attribute", 9: "entry"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external", 16: "entry"},
    "external": {}, "entry": {}, "value": {}, "quantization": {},
}  # fmt: skip
# TensorProto.DataType to the kinds of `numbers`.
RAW = {
    1: "f4",
    2: "u1",
    3: "i1",
    4: "u2",
    5: "i2",
    6: "i4",
    7: "i8",
    9: "b1",
    10: "f2",
    11: "f8",
    12: "u4",
    13: "u8",
    16: "bf2",
}
MAX_DEPTH = 40


class Unsound(Exception):
    """Not this format."""


class Content:
    """What a model holds. `numbers` are (bytes, kind, columns), `lists` plain numbers, `texts` all strings."""

    def __init__(self) -> None:
        self.numbers: list[tuple[Any, str, int]] = []
        self.lists: list[list[float]] = []
        self.texts: list[bytes] = []
        self.external = False
        self.operators: set[tuple[str, str]] = set()
        self.functions: set[str] = set()

    @property
    def custom(self) -> bool:
        """Whether an operator is neither ONNX's own nor a function of the model itself."""
        return any(domain not in STANDARD and domain not in self.functions for domain, _ in self.operators)

    @property
    def keeps_rows(self) -> bool:
        """Whether it is a support vector machine, or searches neighbours among stored rows."""
        names = {name for _, name in self.operators}
        neighbours = "TopK" in names and bool(names & {"Scan", "CDist"})
        return bool(names & {"SVMClassifier", "SVMRegressor", "CDist"}) or neighbours


def varint(data: Any, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Unsound("number")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def fields(data: Any) -> Iterator[tuple[int, int, Any]]:
    """Field number, wire type and value (a number, or a view of the bytes)."""
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise Unsound("field")
        if kind == 0:
            value, at = varint(data, at)
            yield number, kind, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise Unsound("wire type")
        if at + size > end:
            raise Unsound("length")
        yield number, kind, data[at : at + size]
        at += size


def packed(value: Any) -> list[int]:
    """The numbers of a packed field."""
    found, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        found.append(number - 2**64 if number >= 2**63 else number)
    return found


def read(data: Any, check: Any) -> Content:
    """Walk a model. Raises Unsound."""
    found = Content()
    seen = set()
    for number, kind, value in fields(data):
        seen.add((number, kind))
        _field(found, "model", number, kind, value, 0, check)
    if (7, 2) not in seen or (1, 0) not in seen:
        raise Unsound("no graph")
    return found


def _message(found: Content, name: str, data: Any, depth: int, check: Any) -> None:
    check()
    if depth > MAX_DEPTH:
        raise Unsound("depth")
    if name == "tensor":
        _tensor(found, data, depth, check)
        return
    operator, domain = "", ""
    loose: list[float] = []
    for number, kind, value in fields(data):
        if name == "node" and kind == 2 and number in (4, 7):
            text = bytes(value).decode("utf-8", "replace")
            operator, domain = (text, domain) if number == 4 else (operator, text)
        if name == "function" and kind == 2 and number == 10:
            found.functions.add(bytes(value).decode("utf-8", "replace"))
        if name == "attribute" and number in (2, 7) and kind in (2, 5):
            count = len(value) // 4
            loose.extend(struct.unpack(f"<{count}f", value[: 4 * count]))
        elif name == "attribute" and number == 8:
            loose.extend(map(float, packed(value) if kind == 2 else [value]))
        else:
            _field(found, name, number, kind, value, depth, check)
    if name == "node":
        found.operators.add((domain, operator))
    if len(loose) > 1:
        found.lists.append(loose)


def _field(found: Content, name: str, number: int, kind: int, value: Any, depth: int, check: Any) -> None:
    inner = NESTED[name].get(number)
    if kind == 2 and inner is not None:
        if inner == "external":
            found.external = True
        _message(found, inner, value, depth + 1, check)
    elif kind == 2 and len(value):
        found.texts.append(bytes(value))


def _tensor(found: Content, data: Any, depth: int, check: Any) -> None:
    dims: list[int] = []
    kind_of, raw = 0, None
    loose: list[float] = []
    for number, kind, value in fields(data):
        if number == 1:
            dims += packed(value) if kind == 2 else [value]
        elif number == 2 and kind == 0:
            kind_of = value
        elif number == 14 and kind == 0:
            found.external |= value == 1
        elif number in (4, 10) and kind in (1, 2, 5):
            code, size = ("f", 4) if number == 4 else ("d", 8)
            count = len(value) // size
            loose += struct.unpack(f"<{count}{code}", value[: count * size])
        elif number in (5, 7, 11):
            loose += map(float, packed(value) if kind == 2 else [value])
        elif number == 9 and kind == 2:
            raw = value
        else:
            _field(found, "tensor", number, kind, value, depth, check)
    columns = 1
    for side in dims[1:]:
        columns = min(columns * max(1, side), 2**31)
    if raw is not None and len(raw):
        found.numbers.append((raw, RAW.get(kind_of, "u1"), columns))
    if len(loose) > 1:
        found.lists.append(loose)
