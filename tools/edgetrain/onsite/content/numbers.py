"""Numbers as the check compares them: 32-bit floats with fewer digits, so that text and arrays meet.

*Fine* keeps 16 bits of the mantissa (nearly 5 digits), *coarse* 7 bits (2 digits), which survives rounding.
All work on whole arrays is done by C code: arrays, and one large integer for the masks.
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterable
from functools import lru_cache

# Kinds as in NumPy's type strings, without byte order; to the struct code of one element.
KINDS = {
    "f8": "d", "f4": "f", "f2": "e", "i8": "q", "u8": "Q", "i4": "i", "u4": "I", "i2": "h", "u2": "H",
    "i1": "b", "u1": "B", "b1": "B",
}  # fmt: skip
FINE, COARSE = 4, 2


def floats(values: Iterable[float]) -> array[float]:
    """Any numbers as 32-bit floats."""
    return array("f", values)


def decode(data: bytes, kind: str, big: bool = False) -> array[float]:
    """The numbers of raw bytes; `kind` is a key of KINDS or `bf2` (bfloat16). A torn last element is dropped."""
    if kind == "bf2":
        even = len(data) // 2 * 2
        wide = bytearray(2 * even)
        wide[2::4], wide[3::4] = data[1 if big else 0 : even : 2], data[0 if big else 1 : even : 2]
        if big:
            wide[2::4], wide[3::4] = wide[3::4], wide[2::4]
        return _native(array("f", bytes(wide)), little=True)
    size = int(kind[1])
    data = data[: len(data) // size * size]
    if kind == "f2":
        return array("f", struct.unpack(f"{'>' if big else '<'}{len(data) // 2}e", data))
    found = _native(array(KINDS[kind], data), little=not big)
    return found if kind == "f4" else array("f", found)


def _native(found: array[float], little: bool) -> array[float]:
    if little != (sys.byteorder == "little"):
        found.byteswap()
    return found


@lru_cache(maxsize=16)
def _lanes(lane: bytes, count: int) -> int:
    return int.from_bytes(lane * count, "little")


def quantised(values: array[float]) -> tuple[bytes, bytes]:
    """Fine (4 bytes each) and coarse (2 bytes each) tokens."""
    raw = array("f", values)
    if sys.byteorder != "little":
        raw.byteswap()
    count = len(raw)
    number = int.from_bytes(raw.tobytes(), "little")
    fine = (number + _lanes(b"\x40\0\0\0", count)) & _lanes(b"\x80\xff\xff\xff", count)
    wide = (number + _lanes(b"\0\x80\0\0", count)).to_bytes(4 * count + 1, "little")
    coarse = bytearray(2 * count)
    coarse[0::2], coarse[1::2] = wide[2 : 4 * count : 4], wide[3 : 4 * count : 4]
    # A carry out of the last lane is cut off; one within is a NaN's.
    return fine.to_bytes(4 * count + 1, "little")[: 4 * count], bytes(coarse)


def signs(packed: bytes, size: int) -> str:
    """One sign for each token, of fifteen of its bits, so that the machine for patterns can look for them."""
    number = int.from_bytes(packed, "little")
    if size == COARSE:
        return (number & _lanes(b"\xff\x7f", len(packed) // 2)).to_bytes(len(packed), "little").decode("utf-16-le")
    mixed = (number >> 16 ^ number >> 1) & _lanes(b"\xff\x7f\0\0", len(packed) // 4)
    return mixed.to_bytes(len(packed), "little").decode("utf-32-le")


def fours(found: str) -> str:
    """Two signs for each four signs that stand together: one below U+8000, and one from there on."""
    count = len(found) - 3
    if count < 1:
        return ""
    one = int.from_bytes(found.encode("utf-32-le"), "little")
    two, three, four = one >> 32, one >> 64, one >> 96
    # Sums of fifteen bits times fifteen bits: none reaches into the next lane.
    forth = one + two * 0x61D + three * 0x2F3B + four * 0x7A55
    back = one * 0x7A55 + two * 0x2F3B + three * 0x61D + four
    mixed = (forth >> 13 ^ forth) & _lanes(b"\xff\x7f\0\0", count) | back >> 1 & _lanes(b"\0\0\xff\x3f", count)
    return (mixed | _lanes(b"\0\0\0\x80", count)).to_bytes(4 * count, "little").decode("utf-16-le")


@lru_cache(maxsize=2**18)
def digits_bits(token: bytes) -> float:
    """How much a number can tell by itself, in bits: 0 and 7 tell less than 0.4571."""
    (value,) = struct.unpack("<f", token if len(token) == FINE else b"\0\0" + token)
    if not math.isfinite(value) or value == 0:
        return 1.0
    text = f"{value:.5g}" if len(token) == FINE else f"{value:.3g}"
    mantissa = text.partition("e")[0]
    digits = mantissa.replace(".", "").replace("-", "").strip("0")
    return min(3.32 * max(1, len(digits)), 8.0 if len(token) == COARSE else 16.0)
