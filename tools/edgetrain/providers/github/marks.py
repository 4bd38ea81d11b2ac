"""The hidden mark by which our own comments and issues are found again: the first line of their text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgetrain.core.errors import Rejected

LONGEST = 65_536  # characters of a comment's or a description's text, as the forge takes them
_NAME = r"[a-z][a-z0-9-]{0,63}"
_MARK = re.compile(rf"<!-- edgetrain:({_NAME})(?: [0-9]{{1,4}}/[0-9]{{1,4}})? -->\r?\n?")


def marked(mark: str, parts: Sequence[str]) -> list[str]:
    """The texts to store. Raises Rejected for a text that is too long."""
    if not re.fullmatch(_NAME, mark):
        raise ValueError(f"not a mark: {mark!r}")
    count = len(parts)
    texts = [
        f"<!-- edgetrain:{mark}{f' {number}/{count}' if count > 1 else ''} -->\n{part}"
        for number, part in enumerate(parts, 1)
    ]
    for text in texts:
        check_length(text)
    return texts


def mark_of(text: str) -> str:
    """The mark that a stored text carries; empty if none."""
    found = _MARK.match(text)
    return found[1] if found else ""


def unmarked(text: str) -> str:
    """The text without its mark."""
    return _MARK.sub("", text, count=1) if mark_of(text) else text


def same(stored: object, text: str) -> bool:
    """Whether a stored text is this one; the forge may give other line ends."""
    return isinstance(stored, str) and stored.replace("\r\n", "\n").strip() == text.strip()


def check_length(text: str) -> str:
    """The text. Raises Rejected if the forge would not take it."""
    if len(text) > LONGEST:
        raise Rejected(
            f"a text of {len(text)} characters is more than a pull request or comment may hold",
            reason="TextTooLong",
            fix=f"split it into parts of at most {LONGEST} characters",
        )
    return text
