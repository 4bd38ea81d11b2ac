"""Faults that a test asks for: which requests fail, how, and how often."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from azureml_emulator.message import Refused

ALWAYS = 1_000_000


@dataclass(frozen=True)
class Fault:
    """`match` is a regular expression, any case, sought in `METHOD /path?query`.

    The request is answered with `status`, `headers` and `body`; `body` None words it as the service would. With
    `reset` the connection is cut instead. With `after` the request is served first, so that only the answer is
    lost. `skip` requests that match go by before `count` of them fail.
    """

    match: str
    status: int = 0
    reset: bool = False
    after: bool = False
    count: int = 1
    skip: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None


class Faults:
    """Those that are still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: list[Fault] = []
        self._attachments: dict[str, tuple[str, str]] = {}

    def add(self, fault: Fault) -> None:
        """One more. Raises Refused (400)."""
        try:
            re.compile(fault.match)
        except re.error as wrong:
            raise Refused(400, "UserError", f"match is no regular expression: {wrong}") from None
        if fault.reset == bool(fault.status) or not (fault.reset or 400 <= fault.status <= 599):
            raise Refused(400, "UserError", "a fault has either a status of 400 to 599 or reset")
        with self._lock:
            self._coming.append(fault)

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

    def fail_attachment(self, compute: str, code: str, message: str) -> None:
        """Let the next attachment under this name be accepted and then fail with this reason."""
        with self._lock:
            self._attachments[compute.lower()] = (code, message)

    def attachment(self, compute: str) -> tuple[str, str] | None:
        """The reason why this attachment fails, if it shall."""
        with self._lock:
            return self._attachments.pop(compute.lower(), None)

    def clear(self) -> None:
        """No more faults."""
        with self._lock:
            self._coming.clear()
            self._attachments.clear()

    def listed(self) -> list[dict[str, Any]]:
        """Those still to come."""
        with self._lock:
            return [asdict(fault) for fault in self._coming]
