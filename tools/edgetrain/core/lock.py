"""The packages that a requirements lock pins, and those of them that an environment gets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*===?\s*(?P<version>[^\s;,#\\]+)")
_MARKER = re.compile(r"\s*;(?P<marker>.*?)(?:\s--.*|\s#.*)?")
_SEPARATORS = re.compile(r"[-_.]+")
_ZEROS = re.compile(r"(?:\.0)+$")
# The machines that images and runners are told for, in the words of markers.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# What no record tells of an environment: a marker that asks for it decides nothing.
_UNTOLD = re.compile(r"\bplatform_(?:release|version)\b")
# A record tells Python's minor version, a marker may ask for more: before the first of it, and after any.
_PATCHES = (0, 999)


def pins(lock: str, python: str | None = None, platform: str | None = None) -> Iterator[tuple[str, str]]:
    """Each pinned package's name, in its normal form, and version as written; what is not pinned is left out.

    A lock for many environments may have a package more than once, by markers (PEP 508). With `python` (`3.11`)
    and `platform` (`linux/amd64`), what such an environment surely doesn't get is left out, too.
    """
    environments = _environments(python, platform) if python and platform else ()
    for line in lock.replace("\\\n", " ").splitlines():
        text = line.strip()
        found = _PIN.match(text)
        if found is None:
            continue
        marked = _MARKER.fullmatch(text, found.end())
        if marked is None or not environments or _may_hold(marked["marker"], environments):
            yield normal(found["name"]), found["version"]


def _environments(python: str, platform: str) -> tuple[dict[str, str], ...]:
    system, _, machine = platform.partition("/")
    told = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": _MACHINES.get(machine, machine),
        "platform_python_implementation": "CPython",
        "platform_system": system.capitalize(),
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": system,
        "extra": "",
    }
    versions = [python] if python.count(".") > 1 else [f"{python}.{patch}" for patch in _PATCHES]
    return tuple(
        {**told, "python_full_version": version, "implementation_version": version} for version in versions
    )


def _may_hold(text: str, environments: tuple[dict[str, str], ...]) -> bool:
    if _UNTOLD.search(text):
        return True
    try:
        marker = Marker(text)
        return any(marker.evaluate(environment) for environment in environments)
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName):
        return True


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return _SEPARATORS.sub("-", name).lower()


def same_version(one: str, other: str) -> bool:
    """Whether two pins mean one release: `1.2` and `1.2.0` do, local versions (`1.2+cpu`) only with each other."""
    return _plain(one) == _plain(other)


def _plain(version: str) -> tuple[str, str]:
    public, _, local = version.lower().removeprefix("v").partition("+")
    return _ZEROS.sub("", public), local
