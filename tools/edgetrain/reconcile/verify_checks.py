"""The two answers of a check that recomputes something: it holds or does not, or nobody can tell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgetrain.core.ports import Check, CheckStatus
from edgetrain.render.doctor import Part

UNTOLD = "HistoryCutOff"
UNSHALLOW = "git fetch --unshallow, then verify again"
LACKING = "ObjectsMissing"


def held(name: str, what: str, right: bool, fix: str = "") -> Check:
    """A check that holds or does not."""
    if right:
        return Check(name, CheckStatus.PASS, what)
    mend = fix or "find the commit that changed it with `git log -- FILE`, and undo it by a new one on main"
    return Check(name, CheckStatus.FAIL, f"it does not hold that {what}", "Mismatch", mend)


def untold(name: str, what: str, reason: str, fix: str) -> Check:
    """A check that nobody can make here: no mismatch, and not well either."""
    return Check(name, CheckStatus.WARN, what, reason, fix)


def plainly(parts: Iterable[Part]) -> list[Any]:
    """Parts as plain data, for another process."""
    return [
        (part.kind, part.name, [(c.name, c.status.value, c.message, c.reason, c.fix) for c in part.checks])
        for part in parts
    ]


def parts_of(told: Iterable[Any]) -> list[Part]:
    """The parts of which `plainly` told."""
    statuses = {status.value: status for status in CheckStatus}
    return [
        Part(kind, name, tuple(Check(c, statuses[status], *rest) for c, status, *rest in checks))
        for kind, name, checks in told
    ]
