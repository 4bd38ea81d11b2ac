"""What `edgetrain doctor` finds: the answer of every port's `diagnose`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """How a check went; only `FAIL` keeps runs away."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One thing looked at: `name` in kebab-case (`host-key`, `clock-skew`), what was seen, and how to mend it.

    `reason` is CamelCase and stable; empty when it passed. Nothing in it is secret, and no name of data.
    """

    name: str
    status: CheckStatus
    message: str
    reason: str = ""
    fix: str = ""
