"""Waits for a run without holding anything: polls, and goes away when asked to."""

from __future__ import annotations

import time

from edgetrain.core.errors import Stopped
from edgetrain.core.ports import Compute, RunPhase, RunState
from edgetrain.reconcile.context import Context

POLL_SECONDS = 0.1
MOST_SECONDS = 5.0


def wait(context: Context, compute: Compute, name: str) -> RunState:
    """Poll until the run has ended or is lost, less often the longer it runs. Raises Stopped if it goes on."""
    shown, began = None, time.monotonic()
    while True:
        state = compute.inspect(name)
        if state.phase in (RunPhase.ENDED, RunPhase.LOST):
            return state
        if state.phase is not shown:
            shown = state.phase
            context.tell(state.phase.value.capitalize(), name)
        if not context.waits or context.stop.wait(_pause(time.monotonic() - began)):
            raise Stopped(f"{name} goes on; the next apply adopts it", reason="LeftRunning")


def _pause(seconds: float) -> float:
    """Seconds until the next look at a run that was watched for so long: a fiftieth, within bounds."""
    return min(max(seconds / 50, POLL_SECONDS), MOST_SECONDS)
