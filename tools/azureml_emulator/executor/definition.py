"""What a submitted run definition asks for, in the words of the executor."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

DEFAULT_SECONDS = 30 * 86400.0
# A conda specification: name, perhaps after its channel, and a version of which `=` alone means a prefix.
_CONDA = re.compile(r"(?:[\w-]+::)?([A-Za-z0-9][\w.-]*)\s*(?:(==|>=|<=|!=|=|<|>)\s*([\w.*,<>=!]+))?$")
_OPTION = re.compile(r"\s*-")


class Unusable(Exception):
    """The definition asks for what can't be done, or makes no sense; the text is for who submitted it."""


@dataclass(frozen=True)
class Image:
    """A base image, and how to sign in where it comes from (empty: without)."""

    name: str
    address: str
    username: str
    password: str


@dataclass(frozen=True)
class Job:
    """One run's work. `managed`: the packages of `requirements` are brought, for `python` (a minor version, or
    empty); otherwise `interpreter` is used as it is. `dropped` are lines of the environment that were left out."""

    snapshot: str
    script: str
    command: str
    arguments: tuple[str, ...]
    variables: dict[str, str]
    managed: bool
    interpreter: str
    requirements: tuple[str, ...]
    python: str
    dropped: tuple[str, ...]
    image: Image | None
    engine_arguments: tuple[str, ...]
    seconds: float


def pick(value: Any, *path: str) -> Any:
    """What lies at the path, keys in any case; None if it is not there."""
    for wanted in path:
        if not isinstance(value, dict):
            return None
        value = next((item for key, item in value.items() if str(key).lower() == wanted.lower()), None)
    return value


def parse(body: Any) -> Job:
    """The job of a submission's body. Raises Unusable."""
    settings = pick(body, "configuration")
    if not isinstance(settings, dict):
        raise Unusable("the run definition has no Configuration")
    script, command = str(pick(settings, "script") or ""), pick(settings, "command") or ""
    if isinstance(command, list):
        command = " ".join(map(str, command))
    if not script and not command:
        raise Unusable("the run definition names neither a script nor a command")
    if int(pick(settings, "nodeCount") or 1) > 1:
        raise Unusable("a run on more than one node can't be done on one machine")
    environment = pick(settings, "environment") or {}
    python = pick(environment, "python") or {}
    requirements, minor, dropped = _packages(pick(python, "condaDependencies", "dependencies") or [])
    variables = {
        **_strings(pick(environment, "environmentVariables")),
        **_strings(pick(settings, "environmentVariables")),
    }
    in_container = bool(pick(settings, "docker", "useDocker") or pick(environment, "docker", "enabled"))
    more = [*(pick(settings, "docker", "arguments") or []), *(pick(environment, "docker", "arguments") or [])]
    size = pick(settings, "docker", "shmSize") or pick(environment, "docker", "shmSize")
    return Job(
        snapshot=str(pick(body, "snapshotId") or ""),
        script=script,
        command=str(command),
        arguments=tuple(map(str, pick(settings, "arguments") or [])),
        variables=variables,
        managed=not pick(python, "userManagedDependencies"),
        interpreter=str(pick(python, "interpreterPath") or "python"),
        requirements=requirements,
        python=minor,
        dropped=dropped,
        image=_image(pick(environment, "docker")) if in_container else None,
        engine_arguments=(*(["--shm-size", str(size)] if size else []), *map(str, more)),
        seconds=float(pick(settings, "maxRunDurationSeconds") or DEFAULT_SECONDS),
    )


def _image(docker: Any) -> Image | None:
    name = str(pick(docker, "baseImage") or "")
    if not name:
        return None
    address, username, password = (
        str(pick(docker, "baseImageRegistry", key) or "") for key in ("address", "username", "password")
    )
    if address and not name.startswith(f"{address}/"):
        name = f"{address}/{name}"
    return Image(name, address, username, password)


def _strings(value: Any) -> dict[str, str]:
    return (
        {str(key): str(item) for key, item in value.items() if item is not None} if isinstance(value, dict) else {}
    )


def _packages(entries: Iterable[Any]) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """Requirements as pip writes them, the Python's minor version, and what was left out.

    There is no conda: its packages are taken from the package index under the same name. Options that name another
    index are left out: the emulator's machine knows where its packages come from."""
    wanted: list[str] = []
    dropped: list[str] = []
    minor = ""
    for entry in entries:
        if isinstance(entry, dict):
            for line in pick(entry, "pip") or []:
                (dropped if _OPTION.match(str(line)) else wanted).append(str(line).strip())
            continue
        match = _CONDA.match(str(entry).strip())
        if match is None:
            raise Unusable(f"the conda dependency {str(entry)[:80]!r} is not understood")
        name, sign, version = match[1], match[2] or "", match[3] or ""
        if name == "python":
            minor = ".".join(version.split(".")[:2])
        elif name not in ("pip", "setuptools", "wheel"):
            prefix = sign == "=" and "*" not in version
            wanted.append(f"{name}{'==' if sign == '=' else sign}{version}{'.*' if prefix else ''}")
    return tuple(wanted), minor, tuple(dropped)
