"""What apply tells while it works, and what it answers when it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from edgetrain.core.plan import Plan
from edgetrain.core.record import Outcome


@dataclass(frozen=True)
class Event:
    """One thing that happened. `subject` is a change's or run's id, `kind` a CamelCase name."""

    kind: str
    subject: str
    message: str = ""


Report = Callable[[Event], None]


class Status(StrEnum):
    """What became of a change."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    FAILED = "failed"
    UNDER_WAY = "under way"
    WAITING = "waiting"


@dataclass(frozen=True)
class Result:
    """What became of one change; `outcome` if it was a run that ended."""

    change: str
    operation: str
    status: Status
    reason: str
    message: str = ""
    fix: str = ""
    outcome: Outcome | None = None

    @property
    def good(self) -> bool:
        """Whether nobody need look: applied, under way or waiting, and no failed, lost or rejected run."""
        bad = (Outcome.FAILED, Outcome.LOST, Outcome.REJECTED)
        return self.status not in (Status.REFUSED, Status.FAILED) and self.outcome not in bad


@dataclass(frozen=True)
class ApplyResult:
    """The end of an apply. `plan` is the first round's; `rounds` how often it planned."""

    plan: Plan
    results: Sequence[Result] = ()
    rounds: int = 1
    commit: str = ""
    stopped: bool = False
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def good(self) -> bool:
        """Whether the exit code is 0."""
        return not self.stopped and not self.plan.problems and all(result.good for result in self.results)
