"""What the renderings need to know of an apply's end, and how it is summed up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from edgetrain.core.digest import short
from edgetrain.core.plan import Plan
from edgetrain.core.record import Outcome
from edgetrain.render.words import plural

STATUSES = ("applied", "under way", "waiting", "unchanged", "refused", "failed")


class Row(Protocol):
    """What became of one change (`reconcile.report.Result`)."""

    @property
    def change(self) -> str: ...
    @property
    def operation(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def fix(self) -> str: ...
    @property
    def outcome(self) -> Outcome | None: ...
    @property
    def good(self) -> bool: ...


class Applied(Protocol):
    """The end of an apply (`reconcile.report.ApplyResult`)."""

    @property
    def plan(self) -> Plan: ...
    @property
    def results(self) -> Sequence[Row]: ...
    @property
    def rounds(self) -> int: ...
    @property
    def commit(self) -> str: ...
    @property
    def stopped(self) -> bool: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def good(self) -> bool: ...


def summed_up(applied: Applied) -> str:
    """`3 applied, 1 failed. Main is at 1a2b3c4d5e6f.`"""
    counts = Counter(str(row.status) for row in applied.results)
    told = [f"{counts[status]} {status}" for status in STATUSES if counts[status]]
    if applied.plan.problems:
        told.append(f"{plural(len(applied.plan.problems), 'refusal')} in the plan")
    head = ", ".join(told) or "nothing to do"
    where = f" Main is at {short(applied.commit)}." if applied.commit else ""
    return f"{'stopped early; ' if applied.stopped else ''}{head}.{where}"
