"""Looks through a requirements lock for packages whose purpose is a network or a cloud."""

from __future__ import annotations

import re

from .finding import Finding, bounded
from .tables import PACKAGES

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*(==|@|>|<|~|!|;|$)")


def scan(data: bytes) -> list[Finding]:
    """The findings of one lock."""
    found = []
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        named = _NAME.match(line.rstrip("\r\\ "))
        name = re.sub(r"[-_.]+", "-", named[1]).lower() if named else ""
        if name in PACKAGES:
            found.append(Finding(number, 1, "E620", f"the lock holds {name}"))
    return bounded(found)
