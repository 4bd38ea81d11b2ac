"""Trying again: only what may succeed later, a bounded number of times, and no sooner than the service asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from edgetrain.core.errors import Transient
from edgetrain.providers.azureml.errors import Busy

T = TypeVar("T")
ATTEMPTS = 4
# A service that asks to wait longer is left to the next apply.
LONGEST_WAIT = 120.0
_USUAL = wait_random_exponential(multiplier=1, min=0.5, max=20)
_COUNTED = stop_after_attempt(ATTEMPTS)


def retried(act: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """What `act` gives in the end. Raises the last of its errors."""
    tries = Retrying(retry=retry_if_exception_type(Transient), stop=_stop, wait=_wait, sleep=sleep, reraise=True)
    return tries(act)


def _asked(state: RetryCallState) -> float | None:
    failure = state.outcome.exception() if state.outcome is not None else None
    return failure.after if isinstance(failure, Busy) else None


def _wait(state: RetryCallState) -> float:
    asked = _asked(state)
    return _USUAL(state) if asked is None else asked


def _stop(state: RetryCallState) -> bool:
    return (_asked(state) or 0.0) > LONGEST_WAIT or _COUNTED(state)
