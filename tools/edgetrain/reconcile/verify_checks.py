"""The two answers of a check that recomputes something: it holds or does not, or nobody can tell."""

from __future__ import annotations

from edgetrain.core.ports import Check, CheckStatus

UNTOLD = "HistoryCutOff"
UNSHALLOW = "git fetch --unshallow, then verify again"


def held(name: str, what: str, right: bool, fix: str = "") -> Check:
    """A check that holds or does not."""
    if right:
        return Check(name, CheckStatus.PASS, what)
    mend = fix or "find the commit that changed it with `git log -- FILE`, and undo it by a new one on main"
    return Check(name, CheckStatus.FAIL, f"it does not hold that {what}", "Mismatch", mend)


def untold(name: str, what: str, reason: str, fix: str) -> Check:
    """A check that nobody can make here: no mismatch, and not well either."""
    return Check(name, CheckStatus.WARN, what, reason, fix)
