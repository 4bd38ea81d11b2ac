"""Canonical JSON (RFC 8785) and the digests made over it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
MAX_DEPTH = 100
_SAFE = 2**53 - 1
_SAFE_DIGITS = 15
_ENCODE = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), check_circular=True
).encode
_TREE_HEADER = b"edgetrain tree v1\n"


def canonical(value: Any) -> bytes:
    """RFC 8785 form. Raises ValueError for NaN, infinity, integers of ±2^53 and beyond or non-string keys."""
    quick = _quick(value)
    if quick is None and (whole := _whole(value)) is not value:
        quick = _quick(whole)
    if quick is not None:
        return quick
    import rfc8785  # here: nearly everything is written without it

    return rfc8785.dumps(value)


def _quick(value: Any) -> bytes | None:
    """The same by the standard library's encoder, which is many times faster; None where the two might differ."""
    try:
        if not _alike(value, 0):
            return None
        text = _ENCODE(value)
        # Above this, RFC 8785 orders keys otherwise (by UTF-16), and surrogates are refused.
        return text.encode() if text.isascii() or max(text) < "\ud800" else None
    except (TypeError, ValueError, RecursionError):
        return None


def _alike(value: Any, depth: int) -> bool:
    """Whether the value holds only what both encoders write alike."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(-_SAFE <= value <= _SAFE)
    if kind is float:
        return _writes_alike(value)
    if depth > MAX_DEPTH:
        return False
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    elif kind is list or kind is tuple:
        items = value
    else:
        return False
    for item in items:  # noqa: SIM110
        # Most are strings: a call for each costs more than all the rest.
        if type(item) is not str and not _alike(item, depth + 1):
            return False
    return True


def _whole(value: Any, depth: int = 0) -> Any:
    """The value with whole floats as integers, which is how they are written; the same object if it has none."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() and abs(value) <= _SAFE else value
    if kind not in (dict, list) or depth > MAX_DEPTH:
        return value
    items = value.items() if kind is dict else enumerate(value)
    changed = {key: new for key, old in items if (new := _whole(old, depth + 1)) is not old}
    if not changed:
        return value
    return {**value, **changed} if kind is dict else [changed.get(at, old) for at, old in enumerate(value)]


def parse_canonical(data: bytes) -> Any:
    """Read JSON that must be in RFC 8785 form (one trailing newline allowed); ValueError, in words, otherwise.

    What it gives is at most MAX_DEPTH levels deep, so that whoever walks it needs no care.
    """
    value = _quickly(data)
    if value is not None:
        return value
    deep = f"nested more than {MAX_DEPTH} levels deep"
    try:
        value = json.loads(data, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise ValueError(f"not JSON: byte {error.start + 1} is not UTF-8") from None
    except RecursionError:
        raise ValueError(deep) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise ValueError(deep)
    try:
        form = canonical(value)
    except ValueError:
        what = "a number that is not finite, or half a character (a lone surrogate)"
        raise ValueError(f"holds what RFC 8785 has no form for: {what}") from None
    if form != data.removesuffix(b"\n"):
        what = "not in canonical form (RFC 8785)"
        if form == data.removesuffix(b"\r\n"):
            what += ": git changed its line end (core.autocrlf); `* -text` in .gitattributes prevents it"
        raise ValueError(what)
    return value


def _quickly(data: bytes) -> Any:
    """The value of what is canonical beyond doubt: written again in the quick way it is the same. Else None."""
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        return None
    try:
        text = data.decode()
        value = _DECODE(text)  # holds what both encoders write alike, for it refuses all other numbers
        form = _ENCODE(value)
    except (ValueError, RecursionError):
        return None
    # Above this, RFC 8785 orders keys otherwise.
    return value if form == text.removesuffix("\n") and (form.isascii() or max(form) < "\ud800") else None


def _small_integer(text: str) -> int:
    if len(text) > _SAFE_DIGITS:
        raise ValueError(text)
    return int(text)


def _plain_float(text: str) -> float:
    value = float(text)
    if not _writes_alike(value):
        raise ValueError(text)
    return value


def _writes_alike(value: float) -> bool:
    """Within these bounds both encoders write the shortest digits, without an exponent; but 1.0 and 1 differ."""
    return 1e-4 <= abs(value) < 1e15 and not value.is_integer()


_DECODE = json.JSONDecoder(parse_int=_small_integer, parse_float=_plain_float).decode


def _integer(text: str) -> int | float:
    """RFC 8785 writes a large float without a fraction like an integer: 1e17 as 100000000000000000."""
    # The length is looked at first, for Python refuses to convert thousands of digits.
    return int(text) if len(text) < 18 and abs(int(text)) <= _SAFE else float(text)


def _deeper(value: Any, most: int) -> bool:
    """Whether lists and mappings lie in each other more than so often."""
    level = [value]
    for _ in range(most + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return False
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each)]
    return True


def digest_bytes(data: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Any) -> str:
    """`sha256:<hex>` of the value's canonical form."""
    return digest_bytes(canonical(value))


def tree_digest(entries: Iterable[tuple[str, str]]) -> str:
    """Digest of a tree: `(name, content digest)` pairs, in any order; names are relative, slash-separated.

    sha256 over a header and, sorted by the UTF-8 bytes of the name, `name NUL content-hash(32 bytes)`.
    An executable file's name is given with the suffix `\\x01x`; empty folders do not count.
    """
    return ordered_tree_digest(
        sorted((name.encode("utf-8", "surrogateescape"), digest) for name, digest in entries)
    )


def ordered_tree_digest(entries: Iterable[tuple[bytes, str]]) -> str:
    """`tree_digest` of names already in the order of their bytes: holds none of them in memory."""
    return joined_tree_digest(
        name + b"\0" + bytes.fromhex(digest.removeprefix("sha256:")) for name, digest in entries
    )


def joined_tree_digest(parts: Iterable[bytes]) -> str:
    """`ordered_tree_digest` of parts that hold whole entries, each a name, NUL, and the 32 bytes of its digest."""
    hasher = hashlib.sha256(_TREE_HEADER)
    for part in parts:
        hasher.update(part)
    return "sha256:" + hasher.hexdigest()


def short(digest: str, length: int = 12) -> str:
    """The first hex digits, for people and file names."""
    return digest.removeprefix("sha256:")[:length]
