"""Whether a password is strong enough: the pattern's own rule, for those who can't use a key."""

from __future__ import annotations

import math
import re

from edgetrain.core.errors import Denied
from edgetrain.core.secret import Secret

LEAST_LENGTH = 14
LEAST_BITS = 60.0
# What one guess at a word, a date or a run of neighbours is worth to one who guesses by patterns.
PATTERN_BITS = 10.0
ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "azertyuiop",
)
WORDS = (
    "password",
    "passwort",
    "passwd",
    "secret",
    "geheim",
    "admin",
    "root",
    "user",
    "login",
    "welcome",
    "letmein",
    "changeme",
    "default",
    "test",
    "summer",
    "winter",
    "spring",
    "autumn",
    "january",
    "february",
    "march",
    "april",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "friday",
    "sunday",
    "dragon",
    "monkey",
    "master",
    "football",
    "baseball",
    "princess",
    "sunshine",
    "shadow",
    "iloveyou",
    "trustno",
    "correct",
    "horse",
    "battery",
    "staple",
    "azure",
    "stack",
    "microsoft",
    "ubuntu",
    "linux",
    "docker",
    "server",
    "hospital",
    "edgetrain",
    "training",
    "machine",
    "learning",
    "model",
    "company",
    "london",
    "berlin",
    "paris",
)
CLASSES = (("[a-z]", 26), ("[A-Z]", 26), ("[0-9]", 10), (r"[^A-Za-z0-9]", 33))
LEET = str.maketrans("013457$@!", "oieastsai")


def check(password: Secret, *known: str) -> None:
    """Raises Denied that says what is wrong. `known` are names that one who guesses would try: user, host."""
    value = password.reveal()
    fault = _fault(value, [name.casefold() for name in known if len(name) > 2])
    if fault:
        raise Denied(
            f"the password is too weak: {fault}",
            reason="WeakPassword",
            fix="use a private key (see docs/compute.md), or a random password of 20 characters from a generator",
        )


def _fault(value: str, known: list[str]) -> str:
    if len(value) < LEAST_LENGTH:
        return f"it has fewer than {LEAST_LENGTH} characters"
    found = bits(value, known)
    if found < LEAST_BITS:
        return (
            f"it is worth about {found:.0f} bits and {LEAST_BITS:.0f} are needed; words, names, dates, rows of "
            "the keyboard and repetitions count little"
        )
    return ""


def bits(value: str, known: list[str]) -> float:
    """A careful estimate, in bits: patterns count once, and all else by the classes of characters there are."""
    alphabet = sum(size for pattern, size in CLASSES if re.search(pattern, value))
    plain = value.casefold()
    rest, patterns = _without(plain, [*known, *WORDS])
    rest, rows = _without_rows(rest)
    rest, doubles = _without_repetition(rest)
    rest = rest.replace("\0", "")
    distinct = len(set(rest))
    # A few characters over and over are worth what they are, not what the alphabet has.
    each = math.log2(max(2, min(alphabet, 2 * distinct))) if rest else 0.0
    return len(rest) * each + PATTERN_BITS * (patterns + rows + doubles)


def _without(text: str, words: list[str]) -> tuple[str, int]:
    seen = set()
    for word in sorted(words, key=len, reverse=True):
        for form in (text, text.translate(LEET)):
            while (at := form.find(word)) >= 0:
                text = text[:at] + "\0" * len(word) + text[at + len(word) :]
                form = form[:at] + "\0" * len(word) + form[at + len(word) :]  # noqa: PLW2901
                seen.add(word)
    years = len(set(re.findall(r"(?:19|20)\d\d", text)))
    return re.sub(r"(?:19|20)\d\d", "\0", text), len(seen) + years


def _without_rows(text: str) -> tuple[str, int]:
    count = 0
    for row in (*ROWS, *(row[::-1] for row in ROWS)):
        for length in range(len(row), 3, -1):
            for at in range(len(row) - length + 1):
                part = row[at : at + length]
                if part in text:
                    text, count = text.replace(part, "\0"), count + 1
    return text, count


def _without_repetition(text: str) -> tuple[str, int]:
    """Parts that come again at once: `aaaa`, `abcabc`."""
    return re.subn(r"([^\0]{1,8}?)\1{2,}|([^\0]{3,}?)\2+", lambda match: match[1] or match[2], text)
