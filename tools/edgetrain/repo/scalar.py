"""What a bare (unquoted) YAML scalar means: only what YAML 1.1 and 1.2 readers agree on is taken."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from edgetrain.core.codes import yaml as codes
from edgetrain.core.problem import Code, shown

# RFC 8785 takes no integer beyond this one, and identities are made over it.
MAX_INTEGER = 2**53 - 1

_WORDS: dict[str, Any] = {"": None, "null": None, "true": True, "false": False}
_SPELLINGS: dict[str, Any] = {
    "True": True,
    "TRUE": True,
    "False": False,
    "FALSE": False,
    "Null": None,
    "NULL": None,
    "~": None,
}
_AMBIGUOUS = frozenset(
    spelling
    for word in ("y", "n", "yes", "no", "on", "off")
    for spelling in (word, word.capitalize(), word.upper())
)
# Only a scalar that starts so can be anything but a word.
_NUMERIC_START = frozenset("0123456789+-.")

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][+-][0-9]+)?")
_OTHER_NUMBER = re.compile(
    r"""[-+]?(?:
        0o?[0-7_]+ | 0x[0-9a-fA-F_]+ | 0b[01_]+ |            # other bases
        [0-9][0-9_]* (?::[0-5]?[0-9])+ (?:\.[0-9_]*)? |       # base 60
        (?:[0-9][0-9_]*(?:\.[0-9_]*)? | \.[0-9][0-9_]*) (?:[eE][-+]?[0-9]+)?
    )""",
    re.VERBOSE,
)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:.*)?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a bare scalar is refused; `fix` where this one has a better fix than the code's own."""

    code: Code
    what: str
    fix: str | None = None


def resolve(text: str) -> tuple[Any, Refusal | None]:
    """The value of a bare scalar; with a refusal, the value that was most likely meant."""
    if text in _WORDS:
        return _WORDS[text], None
    if text in _SPELLINGS:
        value = _SPELLINGS[text]
        right = "null" if value is None else str(value).lower()
        return value, Refusal(codes.SPELLING, f"{text} is another spelling of {right}", f"Write {right}.")
    if text in _AMBIGUOUS:
        fix = f'Write "{text}" if text is meant; else true or false.'
        return text, Refusal(codes.AMBIGUOUS_WORD, f"{text} may be read as true or false", fix)
    if text[0] in _NUMERIC_START:
        return _number(text)
    return text, None


def _number(text: str) -> tuple[Any, Refusal | None]:
    if _INTEGER.fullmatch(text):
        # The length is looked at first, for Python refuses to convert thousands of digits.
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            return 0, Refusal(codes.INTEGER_TOO_LARGE, f"{shown(text)} is beyond ±2^53")
        return int(text), None
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            return 0.0, Refusal(codes.NOT_FINITE, f"{shown(text)} is too large for a number")
        return value, None
    if _NOT_FINITE.fullmatch(text):
        return 0.0, Refusal(codes.NOT_FINITE, f"{text} is not a finite number")
    if _DATE.fullmatch(text):
        fix = f'Put it in quotes: "{shown(text)}".'
        return text, Refusal(codes.BARE_DATE, f"{shown(text)} may be read as a date", fix)
    if _OTHER_NUMBER.fullmatch(text):
        return _meant(text), Refusal(codes.AMBIGUOUS_NUMBER, f"{shown(text)} is not read alike by all readers")
    return text, None


def _meant(text: str) -> int | float | str:
    """The number that was most likely meant, so that the schema finds no second fault in it."""
    try:
        value = float(text)
    except ValueError:
        try:
            value = int(text, 0)
        except ValueError:
            return text
    if not abs(value) <= MAX_INTEGER:
        return 0
    return int(value) if value == int(value) else value
