"""A fault in a file, as a value that the file's author can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """A problem stops; a warning does not change the exit code."""

    PROBLEM = "problem"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file; line and column count from 1."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of problem. `id` is stable for ever and never used for another meaning."""

    id: str
    title: str
    why: str
    fix: str
    severity: Severity = Severity.PROBLEM


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault: where it is, which code it has, what is wrong here, how to mend it.

    `path` is relative to the repository's root, with forward slashes.
    """

    path: str
    line: int
    column: int
    code: str
    what: str
    fix: str
    severity: Severity = Severity.PROBLEM


def problem(code: Code, path: str, mark: Mark | None, what: str, fix: str | None = None) -> Problem:
    """Make a problem of `code`; `fix` is given where this case has a better one than the code's own."""
    at = mark or Mark()
    return Problem(path, at.line, at.column, code.id, what, fix or code.fix, code.severity)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for the nearest known name, or nothing."""
    import difflib  # here: it takes time, and most have nothing to guess

    spelled = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), list(spelled), n=1, cutoff=0.6)
    return f'; did you mean "{spelled[near[0]]}"?' if near else ""


def shown(text: object, limit: int = 80) -> str:
    """A value from a hostile file, bounded and without control characters, fit for a message."""
    clean = str(text)
    if len(clean) <= limit and clean.isprintable():
        return clean
    if not clean.isprintable():
        clean = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in clean)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
