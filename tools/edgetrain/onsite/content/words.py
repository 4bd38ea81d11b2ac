"""Text as the check compares it: numbers and words in their order, whatever stands between them."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from functools import lru_cache
from itertools import filterfalse

TOKEN = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|\d+\.?\d*|[^\W\d_]+")
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?(?!\w)")
# The same for plain text of ASCII alone, twice as fast.
_TOKEN = re.compile(
    r"[a-z]+|[-+.\d](?<![\w.].)(?:(?<=\d)\d*\.?\d*|(?<=[-+])(?:\d+\.?\d*|\.\d+)|(?<=\.)\d+)(?:e[-+]?\d+)?|\d+\.?\d*",
    re.ASCII,
)
_NUMBER = re.compile(
    r"[-+.\d](?<![\w.].)(?:(?<=\d)\d*\.?\d*|(?<=[-+])(?:\d+\.?\d*|\.\d+)|(?<=\.)\d+)(?:e[-+]?\d+)?(?!\w)",
    re.ASCII,
)
KEY = re.compile(r"""["']([^"'\n]{1,80})["']\s*:""")
# Six signs or more; written out, for that is faster than a count.
_SIGN = rb"(?:[\t\n\r\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3})"
RUNS = re.compile(_SIGN * 6 + rb"(?:[\t\n\r\x20-\x7e]+|[\xc2-\xf4][\x80-\xbf]{1,3})*")
ACCENTS = re.compile("[\u0300-\u036f]+")
# Signs that nobody sees: joiners, marks of direction, soft hyphens.
HIDDEN = dict.fromkeys([0xAD, 0x34F, 0x61C, 0x180E, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F),
                        *range(0x2060, 0x2070), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE0080)])  # fmt: skip
_LOW_HIDDEN = re.compile("[" + "".join(chr(code) for code in HIDDEN if code < 0x10000) + "]+")
MAX_NUMBER = 40


def plain(text: str) -> str:
    """In lower case, without what only dresses letters up."""
    if not text.isascii():
        text = text.translate(HIDDEN) if max(text) > "\uffff" else _LOW_HIDDEN.sub("", text)
        text = ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return text.lower()


def tokens(text: str) -> list[str]:
    """The numbers and words of plain text."""
    return (_TOKEN if text.isascii() else TOKEN).findall(text)


def figures(text: str) -> list[str]:
    """The numbers of plain text that are no part of a word."""
    return (_NUMBER if text.isascii() else NUMBER).findall(text)


def keys(text: str) -> set[str]:
    """The words that name fields in JSON and its like."""
    return {word for key in KEY.findall(text) for word in TOKEN.findall(key)}


class Spelling(dict[str, str]):
    """A token's one spelling: `7`, `7.0` and `+7e0` are the same. Remembers that of numbers, within bounds."""

    def of(self, found: list[str]) -> list[str]:
        """Each token as it is spelled."""
        if len(self) > 300_000:
            self.clear()
        others = filterfalse(str.isalpha, set(found).difference(self))
        numbers = [token for token in others if not token[-1].isalpha() and len(token) <= MAX_NUMBER]
        with contextlib.suppress(ValueError):
            self.update(zip(numbers, map("{:.6g}".format, map(float, numbers))))  # noqa: B905 - of 3.10
        return list(map(self.get, found, found))


@lru_cache(maxsize=2**16)
def token_bits(token: str) -> float:
    """How much a token can tell by itself, in bits."""
    if token[-1].isalpha():
        return min(4.0 * len(token), 20.0) if len(token) > 1 else 2.0
    digits = token.partition("e")[0].replace(".", "").replace("-", "").strip("0")
    return min(3.32 * max(1, len(digits)), 20.0)


def decoded(data: bytes) -> str | None:
    """The text that these bytes are, or None if they are no text."""
    head = data[:65536]
    for mark, name in ((b"\xff\xfe\0\0", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if head.startswith(mark):
            return data.decode(name, "replace")
    zeros = head.count(0)
    if zeros:
        if len(head) >= 8 and zeros >= len(head) * 0.35:
            for name, step, lanes in (("utf-32-le", 4, (1, 2, 3)), ("utf-32-be", 4, (0, 1, 2)),
                                      ("utf-16-le", 2, (1,)), ("utf-16-be", 2, (0,))):  # fmt: skip
                if all(head[lane::step].count(0) >= len(head) // step * 0.9 for lane in lanes):
                    found = data.decode(name, "replace")
                    if sum(map(str.isprintable, found[:1000])) >= min(len(found), 1000) * 0.8:
                        return found
        return None
    strange = len(head) - len(head.translate(None, bytes([*range(9), *range(14, 32), 127])))
    if strange > len(head) * 0.02:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 and head.count(0x0A) * 4000 < len(head):
            high = len(head) - len(head.translate(None, bytes(range(128, 256))))
            if high > len(head) * 0.1:
                return None
        return data.decode("latin-1")


def runs(data: bytes) -> str:
    """The pieces of text within other bytes."""
    found = b"\n".join(RUNS.findall(data))
    return found.decode("utf-8", "replace")
