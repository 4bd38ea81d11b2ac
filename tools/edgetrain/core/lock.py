"""The packages that a requirements lock pins."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*(?P<version>[^\s;,#\\]+)")
_SEPARATORS = re.compile(r"[-_.]+")
_ZEROS = re.compile(r"(?:\.0)+$")


def pins(lock: str) -> Iterator[tuple[str, str]]:
    """Each pinned package's name, in its normal form, and version as written. One of several markers may be there
    more than once; what is not pinned is left out."""
    for line in lock.replace("\\\n", " ").splitlines():
        found = _PIN.match(line.strip())
        if found:
            yield normal(found["name"]), found["version"]


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return _SEPARATORS.sub("-", name).lower()


def same_version(one: str, other: str) -> bool:
    """Whether two pins mean one release: `1.2` and `1.2.0` do, local versions (`1.2+cpu`) only with each other."""
    return _plain(one) == _plain(other)


def _plain(version: str) -> tuple[str, str]:
    public, _, local = version.lower().removeprefix("v").partition("+")
    return _ZEROS.sub("", public), local
