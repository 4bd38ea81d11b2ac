"""NumPy's files, read without NumPy: the header is a literal, the rest raw numbers."""

from __future__ import annotations

import ast
import struct
from typing import Any, NamedTuple

MAGIC = b"\x93NUMPY"
MAX_HEADER = 65536


class Table(NamedTuple):
    """Raw numbers: their bytes, kind (see `numbers.KINDS`), byte order, and columns (1 if unknown)."""

    data: Any
    kind: str
    big: bool
    columns: int


class Unreadable(Exception):
    """It is not what its name or its first bytes say."""


def read(data: Any) -> Table | bytes:
    """The numbers of a `.npy` file; the raw bytes where its elements are text or records.

    Raises Unreadable; also for arrays of Python objects, whose payload is a pickle that the caller opens.
    """
    try:
        if bytes(data[:6]) != MAGIC:
            raise Unreadable("no header")
        wide = data[6] > 1
        (length,) = struct.unpack("<I" if wide else "<H", data[8 : 12 if wide else 10])
        start = (12 if wide else 10) + length
        if length > MAX_HEADER:
            raise Unreadable("a header that is too long")
        header = ast.literal_eval(bytes(data[12 if wide else 10 : start]).decode("latin-1").strip())
        shape, kind = tuple(header["shape"]), header["descr"]
        body = data[start:]
        if not isinstance(kind, str):
            return bytes(body)
        order, name = kind[0], kind[1:]
        if name in ("f8", "f4", "f2", "i8", "u8", "i4", "u4", "i2", "u2", "i1", "u1", "b1"):
            columns = 1
            for side in shape[1:]:
                columns *= int(side)
            if header.get("fortran_order") and len(shape) > 1:
                columns = 1
            return Table(body, name, order == ">", max(1, columns))
        return bytes(body)
    except (
        ValueError,
        KeyError,
        TypeError,
        SyntaxError,
        IndexError,
        struct.error,
        RecursionError,
        MemoryError,
    ) as e:
        raise Unreadable("no sound header") from e
