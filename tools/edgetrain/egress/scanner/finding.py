"""One finding of the scan, and how many of them a file may have."""

from __future__ import annotations

from dataclasses import dataclass

MOST = 40
MAX_BYTES = 2 * 2**20


@dataclass(frozen=True, order=True)
class Finding:
    """Where (lines and columns count from 1), which code, and what, in a few words."""

    line: int
    column: int
    code: str
    what: str


def unreadable(why: str, line: int = 1) -> list[Finding]:
    """The only finding of a file that can't be looked through."""
    return [Finding(max(line, 1), 1, "E606", why)]


def bounded(found: list[Finding]) -> list[Finding]:
    """In order, each once, and not more than `MOST`."""
    ordered = sorted(set(found))
    if len(ordered) <= MOST:
        return ordered
    last = ordered[MOST - 1]
    return [
        *ordered[: MOST - 1],
        Finding(last.line, last.column, last.code, f"{len(ordered) - MOST + 1} more follow"),
    ]
