"""Access tokens: held for each audience, renewed in time, by one thread at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgetrain.core.errors import Transient
from edgetrain.core.secret import Secret

# Seconds before its end at which a token is renewed; a short one at half its life.
MARGIN = 300.0
# With less than this left a token is of no use.
LEAST = 30.0


@dataclass(frozen=True)
class Token:
    """One access token and the seconds it lives from when it was got."""

    value: Secret
    life: float


# Gets a new token for an audience. Raises Denied, Transient or Rejected.
Source = Callable[[str], Token]


@dataclass(frozen=True)
class _Held:
    value: Secret
    renew: float
    end: float


class Tokens:
    """The tokens of one sign-in. Calling it gives a token's text, as azureml-core's `TokenAuthentication` wants it.

    `now` gives seconds on a clock that nobody sets.
    """

    def __init__(self, source: Source, now: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._now = now
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._held: dict[str, _Held] = {}

    def __call__(self, audience: str) -> str:
        return self.get(audience).reveal()

    def get(self, audience: str) -> Secret:
        """A token with life left. One that is still good serves on while its renewal fails."""
        with self._lock:
            lock = self._locks.setdefault(audience, threading.Lock())
        with lock:
            held = self._held.get(audience)
            now = self._now()
            if held is not None and now < held.renew:
                return held.value
            try:
                new = self._source(audience)
            except Transient:
                if held is not None and now < held.end - LEAST:
                    return held.value
                raise
            got = _Held(new.value, now + max(new.life - MARGIN, new.life / 2), now + new.life)
            with self._lock:
                self._held[audience] = got
            return got.value

    def drop(self) -> None:
        """Forget all: the service refused one."""
        with self._lock:
            self._held.clear()

    def secrets(self) -> tuple[Secret, ...]:
        """What is held, to keep it out of messages."""
        with self._lock:
            return tuple(held.value for held in self._held.values())
