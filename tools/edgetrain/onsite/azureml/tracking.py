"""Tells Azure ML the run's metrics, through azureml-core and the run's own token.

The network may be away for minutes, or the service: what is told here is told again until it is there, for so long.
The run's result never depends on it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

PAUSE_SECONDS = 10.0
PATIENCE_SECONDS = 900.0
# To connect, and for each part of an answer: the client sets none, and a connection may die without a word.
TIMEOUT_SECONDS = (30.0, 120.0)
Points = Mapping[str, Sequence[tuple[float, int]]]


class Tracking:
    """The run as Azure ML knows it. Opened at once and in the background, for the token must be kept alive while
    the script runs; `say` gets a line of progress."""

    def __init__(self, say: Callable[[str], None], pause: float = PAUSE_SECONDS) -> None:
        self._say, self._pause = say, pause
        self._run: Any = None
        self._ready, self._given_up = threading.Event(), threading.Event()
        threading.Thread(target=self._open, name="tracking", daemon=True).start()

    def _open(self) -> None:
        with contextlib.suppress(ImportError):
            bound()
        while not self._given_up.is_set():
            try:
                from azureml.core import Run

                self._run = Run.get_context(allow_offline=False)
            except ImportError as error:
                self._say(f"Azure ML is not told of metrics: {error.name} is not installed")
                self._given_up.set()
            except Exception as error:  # whatever the client raises: it is tried again, and the run goes on
                self._say(f"Azure ML can't be reached ({type(error).__name__}); trying again")
                self._given_up.wait(self._pause)
            else:
                break
        self._ready.set()

    def tell(self, points: Points, patience: float = PATIENCE_SECONDS) -> bool:
        """Tell the points (value and step, by metric) that are not there yet; whether all are there then."""
        deadline = time.monotonic() + patience
        if not points:
            return True
        if not self._ready.wait(patience) or self._run is None:
            self._given_up.set()
            self._say("Azure ML was not told of the metrics: the record in git has them")
            return False
        while True:
            try:
                missing = self._missing(points)
                if not missing:
                    return True
                for name, value, step in missing:
                    self._run.log(name, value, step=step)
                self._run.flush()
            except Exception as error:  # as above
                self._say(f"metrics were not told ({type(error).__name__}); trying again")
            if time.monotonic() > deadline:
                self._say("not all metrics were told: the record in git has them")
                return False
            self._given_up.wait(self._pause / 5)

    def _missing(self, points: Points) -> list[tuple[str, float, int]]:
        held = self._run.get_metrics()
        found = []
        for name, wanted in points.items():
            value = held.get(name, [])
            there = Counter(value if isinstance(value, list) else [value])
            for number, step in wanted:
                if there[number]:
                    there[number] -= 1
                else:
                    found.append((name, number, step))
        return found


def bound() -> None:
    """Let no request of this process that sets no time-out be waited for without end."""
    from requests.adapters import HTTPAdapter

    sent = HTTPAdapter.send

    def send(
        adapter: Any, request: Any, stream: bool = False, timeout: Any = None, *more: Any, **named: Any
    ) -> Any:
        return sent(adapter, request, stream, TIMEOUT_SECONDS if timeout is None else timeout, *more, **named)

    setattr(HTTPAdapter, "send", send)  # noqa: B010 - the client offers no other way
