"""What a machine tells about runs, taken for no more than it is."""

from __future__ import annotations

import math
import re
from typing import Any

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import EgressLevel, RunPhase, RunState
from edgetrain.core.problem import shown

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_ENDS = ("", "exit", "signal", "timeout", "cancel", "memory", "outputs-limit", "environment", "sandbox", "data")
_MESSAGE = 1000


def state_of(found: Any) -> RunState:
    """The state of a run. Raises Rejected if the answer is not sound."""
    try:
        return RunState(
            phase=RunPhase(found["phase"]),
            exit_code=_code(found.get("exit_code")),
            ended_by=_one(found.get("ended_by", "")),
            message=shown(found.get("message", ""), _MESSAGE),
            started=_time(found.get("started")),
            ended=_time(found.get("ended")),
            level=EgressLevel(found.get("level", EgressLevel.ADVISORY.value)),
            isolation={_word(name): value is True for name, value in found.get("isolation", {}).items()},
            usage={_word(name): _number(value) for name, value in found.get("usage", {}).items()},
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        raise Rejected(
            "the machine's answer about a run is not sound",
            reason="UnsoundAnswer",
            fix="look at the machine, then: edgetrain retry RUN --reason ...",
        ) from None


def _code(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**31):
        raise ValueError("exit code")
    return value


def _one(value: Any) -> str:
    if value not in _ENDS:
        raise ValueError("ended_by")
    return str(value)


def _time(value: Any) -> str | None:
    if value is not None and not _TIME.fullmatch(value):
        raise ValueError("time")
    return None if value is None else str(value)


def _word(value: Any) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,63}", value):
        raise ValueError("name")
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("number")
    return float(value)
