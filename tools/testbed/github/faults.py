"""Faults that a test asks for, limits of requests, and what was asked."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PER_HOUR = 5000
HOUR = 3600
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to "
    "GitHub Support for help, please include the request ID."
)


@dataclass(frozen=True)
class Fault:
    """`match` is a regular expression, any case, sought in `METHOD /path?query`.

    The request is answered with `status`, `headers` and `body`; with `reset` the connection is cut instead. With
    `after` the request is carried out first, so that only its answer is lost. `skip` requests that match go by
    before `count` of them fail.
    """

    match: str
    status: int = 0
    reset: bool = False
    after: bool = False
    count: int = 1
    skip: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None

    def content(self) -> bytes:
        """What is sent."""
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        words = {
            502: "Server Error",
            503: "Service Unavailable",
            504: "We couldn't respond to your request in time.",
        }
        default = {"message": words.get(self.status, "Server Error")}
        return json.dumps(self.body if self.body is not None else default).encode()


class Faults:
    """Those that are still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: list[Fault] = []

    def add(
        self,
        match: str,
        *,
        status: int = 0,
        count: int = 1,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        reset: bool = False,
        after: bool = False,
        skip: int = 0,
    ) -> None:
        """Let the next requests that match fail; see `Fault`. Raises ValueError."""
        if reset == bool(status):
            raise ValueError("a fault has either a status or reset")
        re.compile(match)
        with self._lock:
            self._coming.append(Fault(match, status, reset, after, count, skip, headers or {}, body))

    def primary(self, match: str, *, status: int = 403, seconds: float = 1, count: int = 1) -> None:
        """The limit of requests is used up for so many seconds: 403 or 429."""
        reset = str(int(time.time() + seconds))
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-used": str(PER_HOUR), "x-ratelimit-reset": reset}
        self.add(match, status=status, count=count, headers=headers, body=exceeded("installation ID 1"))

    def secondary(self, match: str, *, status: int = 403, seconds: float | None = 1, count: int = 1) -> None:
        """Too much at once: 403 or 429, with `Retry-After` unless `seconds` is None."""
        headers = {} if seconds is None else {"retry-after": f"{seconds:g}"}
        url = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"
        body = {"documentation_url": url, "message": SECONDARY}
        self.add(match, status=status, count=count, headers=headers, body=body)

    def take(self, line: str) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            for number, fault in enumerate(self._coming):
                if not re.search(fault.match, line, re.IGNORECASE):
                    continue
                if fault.skip:
                    self._coming[number] = replace(fault, skip=fault.skip - 1)
                    return None
                if fault.count <= 1:
                    del self._coming[number]
                else:
                    self._coming[number] = replace(fault, count=fault.count - 1)
                return fault
        return None

    def clear(self) -> None:
        """No more faults."""
        with self._lock:
            self._coming.clear()

    @property
    def coming(self) -> list[Fault]:
        """Those that nothing has met yet."""
        with self._lock:
            return list(self._coming)


def exceeded(who: str) -> dict[str, str]:
    """The body of an answer when the limit is used up."""
    return {
        "message": f"API rate limit exceeded for {who}.",
        "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
    }


class Rates:
    """How many requests each account has left. `limit` may be changed at any time."""

    def __init__(self, limit: int = PER_HOUR) -> None:
        self.limit = limit
        self.window: float = HOUR
        self._used: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def spend(self, who: str, cost: int = 1) -> tuple[bool, dict[str, int]]:
        """Whether the request is within the limit, and the figures after it."""
        with self._lock:
            used, reset = self._used.get(who, (0, 0.0))
            if reset <= time.time():
                used, reset = 0, time.time() + self.window
            allowed = used + cost <= self.limit
            used = used + cost if allowed else used
            self._used[who] = used, reset
        left = max(0, self.limit - used)
        return allowed, {"limit": self.limit, "remaining": left, "reset": int(reset), "used": used}

    def refund(self, who: str) -> int:
        """Take one request back; what is left."""
        with self._lock:
            used, reset = self._used.get(who, (0, 0.0))
            self._used[who] = max(0, used - 1), reset
            return max(0, self.limit - self._used[who][0])


@dataclass(frozen=True)
class Request:
    """One that was answered. `who` is the login that asked, `kind` what its credential is; `body` is JSON."""

    method: str
    path: str
    query: str
    status: int
    kind: str
    who: str
    permissions: Mapping[str, str] | None
    headers: Mapping[str, str]
    body: Any
