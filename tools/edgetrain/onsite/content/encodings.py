"""Undoes the ways of writing bytes as text: hex, base64 and its like, escapes, lists of numbers, back to front."""

from __future__ import annotations

import base64
import binascii
import contextlib
import html
import math
import quopri
import re
import struct
import urllib.parse
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Literal

HEX = re.compile(r"(?:[0-9a-fA-F]{2}[\s:,-]{0,2}(?:0x|\\x)?){24,}")
# Lines may be wrapped, and short: a metric's name holds a hundred characters.
BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}(?:[\s\"',]{1,8}[A-Za-z0-9+/_-]{8,})*={0,2}")
BASE32 = re.compile(r"[A-Z2-7]{24,}(?:\s{1,2}[A-Z2-7]{8,})*={0,6}")
BASE85 = re.compile(r"[!-~\s]{60,}")
ESCAPES = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([0-7]{3}))")
INTEGERS = re.compile(r"(?:\b\d{1,3}\b[\s,;\[\]()]{1,4}){16,}\d{1,3}")
BITS = re.compile(r"(?:[01]{8}\W{0,2}){16,}")
_NOISE_IN_LINES = re.compile(r"[^A-Za-z0-9+/_\n-]")
_PADS = ("", "===", "==", "=")
_A85 = bytes(range(33, 118))
_B85 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_NOISE = re.compile(r"[^A-Za-z0-9+/_-]")
LEAST = 12
_PLAIN = bytes(range(32, 127)) + b"\n\r\t"


def of_text(text: str) -> Iterator[tuple[str, bytes]]:
    """Other readings of text: how it was written, and the bytes."""
    flat = text.encode("ascii", "replace")
    for found in within(HEX, text, flat, _HEX, 48):
        digits = re.sub(r"0x|\\x|[^0-9a-fA-F]", "", found.group())
        yield "hex", binascii.unhexlify(digits[: len(digits) // 2 * 2])
    for found in BASE64.finditer(text) if has(flat, _BASE64, 20) else ():
        letters = _NOISE.sub("", found.group()).replace("-", "+").replace("_", "/")
        yield from (("base64", data) for data in _base64(letters) if len(data) >= LEAST)
    lines = [line.strip(" \t\r\"',") for line in text.splitlines()] if "=" in text else []
    if len(lines) > 1 and any(line.endswith("=") for line in lines):
        # Each line encoded by itself.
        letters = _NOISE_IN_LINES.sub("", "\n".join(line for line in lines if len(line) >= 4))
        yield "base64", b"\n".join(part for line in letters.split("\n") for part in _line(line))
    for found in BASE32.finditer(text) if has(flat, _BASE32, 24) else ():
        letters = re.sub(r"[^A-Z2-7]", "", found.group())
        try:
            yield "base32", base64.b32decode(letters + "=" * (-len(letters) % 8))
        except binascii.Error:
            continue
    for found in BASE85.finditer(text):
        yield from (("base85", data) for data in _base85(found.group()) if len(data) >= LEAST)
    if "\\" in text and ESCAPES.search(text):
        plain = ESCAPES.sub(lambda m: chr(int(m[1] or m[2], 16) if m[1] or m[2] else int(m[3], 8)), text)
        yield "escapes", plain.encode("utf-8", "replace")
    if "%" in text and re.search(r"%[0-9a-fA-F]{2}", text):
        yield "percent signs", urllib.parse.unquote_to_bytes(text)
    if "&#" in text and (plain := html.unescape(text)) != text:
        yield "entities", plain.encode("utf-8", "replace")
    if "=" in text and re.search(r"(?:=[0-9A-F]{2}){2}", text):
        yield "quoted-printable", quopri.decodestring(text.encode("utf-8", "replace"))
    for found in within(INTEGERS, text, flat, _INTEGERS, 33):
        numbers = [int(number) for number in re.findall(r"\d+", found.group())]
        if max(numbers) < 256:
            yield "a list of byte values", bytes(numbers)
    for found in within(BITS, text, flat, _BITS, 128):
        bits = re.sub(r"[^01]", "", found.group())
        yield "bits", bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))


@lru_cache(maxsize=2**16)
def _line(letters: str) -> list[bytes]:
    """The likeliest bytes of one line: the same line is met again in other readings."""
    return _base64(letters)[:1]


@lru_cache(maxsize=2**16)
def _whole(number: int, order: Literal["big", "little"]) -> bytes:
    """The bytes of a whole number."""
    return abs(number).to_bytes(max(1, (abs(number).bit_length() + 7) // 8), order)


def _table(pattern: str) -> bytes:
    """For each sign of ASCII whether it may be part of such a reading; `?` stands for all others, and may."""
    return bytes(chr(code) == "?" or bool(code < 128 and re.match(pattern, chr(code))) for code in range(256))


_HEX, _BASE64, _BASE32 = _table(r"[0-9a-fA-F\s:,x\\-]"), _table(r"[A-Za-z0-9+/_-]"), _table(r"[A-Z2-7]")
_INTEGERS, _BITS = _table(r"[\d\s,;\[\]()]"), _table(r"[01\W]")


def has(flat: bytes, table: bytes, least: int) -> bool:
    """Whether so many signs of the table stand together."""
    return b"\1" * least in flat.translate(table)


def within(pattern: re.Pattern[str], text: str, flat: bytes, table: bytes, least: int) -> Iterator[re.Match[str]]:
    """What the pattern finds in text, looked for only where `least` signs of its table stand together."""
    flags, needle = flat.translate(table), b"\1" * least
    at = flags.find(needle)
    while at >= 0:
        end = flags.find(b"\0", at)
        end = len(flags) if end < 0 else end
        yield from pattern.finditer(text, at, end)
        at = flags.find(needle, end)


def _base64(letters: str) -> list[bytes]:
    """The bytes of base64 letters; also one to three letters on, for what stands before may not belong to it."""
    found = []
    for skip in range(4):
        part = letters[skip:] if (len(letters) - skip) % 4 != 1 else letters[skip:-1]
        try:
            found.append(binascii.a2b_base64(part + _PADS[len(part) % 4]))
        except ValueError:
            continue
        if likely(found[-1]):
            return found[-1:]
    return found


def _base85(text: str) -> Iterator[bytes]:
    packed = "".join(text.split()).encode("ascii")
    rest = -len(packed) % 5
    for letters, last in ((_B85, b"~"), (_A85, b"u")):
        if not packed.translate(None, letters):
            data = _of_fives((packed + last * rest).translate(_digits(letters)))
            if data is not None:
                yield data[: len(data) - rest]
        elif letters == _A85 and not packed.translate(None, _A85 + b"z"):
            with contextlib.suppress(ValueError):
                yield base64.a85decode(packed)


@lru_cache(maxsize=2)
def _digits(letters: bytes) -> bytes:
    return bytes(max(0, letters.find(code)) for code in range(256))


def _of_fives(digits: bytes) -> bytes | None:
    """Four bytes for each five digits of base 85, all in one large integer; None if one is too large."""
    count, total = len(digits) // 5, 0
    for place in range(5):
        lane = bytearray(8 * count)
        lane[::8] = digits[place::5]
        total = total * 85 + int.from_bytes(lane, "little")
    lanes = total.to_bytes(8 * count, "little")
    if lanes[4::8].count(0) < count:
        return None
    data = bytearray(4 * count)
    for place in range(4):
        data[place::4] = lanes[3 - place :: 8]
    return bytes(data)


def likely(data: bytes) -> bool:
    """Whether bytes are mostly plain text."""
    head = data[:256]
    return len(head.translate(None, _PLAIN)) < len(head) * 0.1


def rotated(text: str) -> str:
    """Letters turned by 13."""
    low, high = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    turn = str.maketrans(low + high, low[13:] + low[:13] + high[13:] + high[:13])
    return text.translate(turn)


def of_numbers(values: Sequence[float], bits: bool) -> Iterator[tuple[str, bytes]]:
    """Other readings of numbers: as the codes of signs, as several bytes in one whole number; and with `bits`,
    where they were not raw bytes before, as raw bytes."""
    values = list(filter(math.isfinite, values))
    if len(values) < 4:
        return
    whole = [int(value) for value in filter(float.is_integer, values) if abs(value) < 2**64]
    if len(whole) >= max(4, len(values) * 0.9):
        codes = bytes(number for number in whole if 0 <= number < 256)
        if len(codes) >= max(16, len(whole) * 0.9):
            yield "numbers as byte values", codes
        elif sum(0 <= number < 0x11000 for number in whole) >= max(16, len(whole) * 0.9):
            text = "".join(chr(number) for number in whole if 0 <= number < 0xD800 or 0xE000 <= number < 0x11000)
            yield "numbers as signs", text.encode("utf-8", "replace")
        if any(number > 0xFFFF for number in whole):
            yield "bytes packed into whole numbers", b"".join([_whole(number, "big") for number in whole])
            yield "bytes packed into whole numbers", b"".join([_whole(number, "little") for number in whole])
    tens = sum(0 <= value < 1 for value in values) if len(values) >= 16 else 0
    if len(values) >= 16 and tens >= len(values) * 0.95:
        for scale in (256, 255, 1000, 128, 100):
            data = bytes(max(0, min(255, round(value * scale))) for value in values)
            if likely(data):
                yield "numbers as scaled byte values", data
    if not bits:
        return
    try:
        for code in (">d", "<d", ">f", "<f"):
            data = struct.pack(f"{code[0]}{len(values)}{code[1]}", *values)
            if likely(data.replace(b"\0", b"")):
                yield "bytes as the bits of numbers", data
    except (OverflowError, struct.error):
        return


def backwards(values: array[float]) -> array[float]:
    """The numbers from the last to the first."""
    return values[::-1]
