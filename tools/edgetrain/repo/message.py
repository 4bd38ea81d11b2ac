"""Commit messages of the machine: a subject, a body, and trailers that text from outside can't forge."""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_LIKE_TRAILER = re.compile(r"^(?=[^\s:]+\s*:|---|\(cherry picked)", re.MULTILINE)
_BODY_LIMIT = 16_384


def one_line(text: str, limit: int = 500) -> str:
    """The text on one line, without control characters, bounded."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def message(subject: str, body: str = "", trailers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A commit message in git's form; trailers with an empty value are left out.

    Lines of the body that git would take for trailers are moved in by a space. ValueError for an empty
    subject, or a trailer's key that git does not know as one.
    """
    for key, _ in trailers:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a trailer's key: {key!r}")
    if not one_line(subject):
        raise ValueError("a commit needs a subject")
    lines = body[:_BODY_LIMIT].splitlines()
    clean = "\n".join("".join(c if c.isprintable() else " " for c in line).rstrip() for line in lines).strip("\n")
    block = "\n".join(f"{key}: {one_line(value)}" for key, value in trailers if one_line(value))
    parts = (one_line(subject, 200), _LIKE_TRAILER.sub(" ", clean), block)
    return ("\n\n".join(part for part in parts if part) + "\n").encode("utf-8")
