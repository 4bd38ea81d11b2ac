"""From a run's specification to the folder that the supervisor works from."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import uv

from edgetrain.core.errors import NotFound, Rejected, Unavailable
from edgetrain.core.ports import EgressLevel, InputMount, RunLimits, RunSpec
from edgetrain.onsite.sandbox import (
    ISOLATION,
    LAUNCHER,
    Sandbox,
    arguments,
    hidden,
    library_path,
    python,
    writable,
)
from edgetrain.providers.contract import (
    MAX_FILES,
    OPEN_FILES,
    ROOT,
    Places,
    check_words,
    command_of,
    input_path,
    inside,
    variables,
)

BUILD_SECONDS = 3600
FIX = (
    "on the runner: `sudo apt install bubblewrap` (0.8 or later, with user namespaces allowed); or, to train "
    "without a sandbox, write `allowUnsandboxed: true` in edgetrain.yaml: runs are then recorded as advisory"
)
# Since this kernel a user namespace counts its own processes only, not all of the user's.
COUNTED_PER_NAMESPACE = (5, 14)


def this_python() -> str:
    """The minor version of the interpreter that runs scripts, such as `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def this_platform() -> str:
    """Such as `linux/amd64`, in the words of container images."""
    machine = platform.machine().lower()
    return f"{sys.platform}/{({'x86_64': 'amd64', 'aarch64': 'arm64'}).get(machine, machine)}"


def check(spec: RunSpec) -> None:
    """Raises Rejected for what this provider does not serve, NotFound for an input that is not there."""
    check_words(spec)
    if spec.image is not None:
        raise _not_served("a base image", "a target of type ssh runs containers; remove environment.image")
    if spec.limits.gpus:
        raise _not_served("GPUs", "choose a target that has them, or remove resources.gpus")
    if spec.python != this_python():
        fix = f"set environment.python to {this_python()}, or run edgetrain with Python {spec.python}"
        raise _not_served(f"Python {spec.python}", fix)
    for mount in spec.inputs:
        _check_input(mount)


def _not_served(what: str, fix: str) -> Rejected:
    return Rejected(f"a local target does not serve {what}", reason="NotServed", fix=fix)


def _check_input(mount: InputMount) -> None:
    source = Path(mount.source.location)
    if mount.source.kind != "folder":
        raise _not_served(f"data of kind {mount.source.kind}", "choose a datastore of type folder")
    if not source.is_absolute():
        raise Rejected(
            f"input {mount.name[:64]!r} can't be given to a script",
            reason="InvalidInput",
            fix="report this: it is a fault of edgetrain",
        )
    if not (source.is_file() if mount.single_file else source.is_dir()):
        kind = "file" if mount.single_file else "folder"
        raise NotFound(f"input {mount.name}: there is no such {kind}", fix="check the input's type and path")


def environment_of(requirements: bytes, state: Path) -> dict[str, str]:
    """What the supervisor needs to build the environment of this lock, once for all runs that have it."""
    base = python()
    key = b"\0".join([this_python().encode(), this_platform().encode(), os.fsencode(base), requirements])
    folder = state / "environments" / hashlib.sha256(key).hexdigest()
    try:
        return {"folder": str(folder), "uv": uv.find_uv_bin(), "python": base}
    except FileNotFoundError as error:
        raise Unavailable(
            "uv is not installed",
            reason="PackageMissing",
            fix="install edgetrain anew with what it requires (in a checkout of it: make setup)",
        ) from error


def _sandboxed(spec: RunSpec, run: Path, environment: Path) -> Places:
    inputs = {}
    read = {
        str(run / "code"): f"{ROOT}/code",
        str(environment): f"{ROOT}/environment",
        str(LAUNCHER): f"{ROOT}/launch.py",
    }
    for mount in spec.inputs:
        place = input_path(mount.name, Path(mount.source.location).name if mount.single_file else "")
        read[mount.source.location] = inputs[mount.name] = place
    return inside(inputs, read, {str(run / "outputs"): f"{ROOT}/outputs"})


def _plain(spec: RunSpec, run: Path, environment: Path) -> Places:
    inputs = {mount.name: mount.source.location for mount in spec.inputs}
    code, outputs, home, tmp = (str(run / name) for name in ("code", "outputs", "home", "tmp"))
    return Places(code, outputs, home, tmp, str(environment), inputs)


def environ(spec: RunSpec, places: Places) -> dict[str, str]:
    """The whole environment of the script."""
    library = library_path()
    return {**variables(spec, places), **({"LD_LIBRARY_PATH": library} if library else {})}


def _rlimits(limits: RunLimits, memory: int | None, sandboxed: bool) -> dict[str, int]:
    found = {"CORE": 0, "NOFILE": OPEN_FILES, "FSIZE": max(limits.outputs, limits.tmp, limits.shm)}
    if memory:
        # Not the address space: numeric libraries reserve far more of it than they use.
        found["DATA"] = memory
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    if sandboxed and release >= COUNTED_PER_NAMESPACE:
        found["NPROC"] = limits.pids
    return found


def instructions(
    spec: RunSpec, run: Path, state: Path, sandbox: Sandbox | None, memory: int | None, grace: float
) -> dict[str, Any]:
    """The contents of `spec.json`: see `supervisor/main.py`. `run` is the folder's final place."""
    environment = environment_of(spec.requirements, state)
    limits, folder = spec.limits, Path(environment["folder"])
    places = (_sandboxed if sandbox else _plain)(spec, run, folder)
    launcher = f"{ROOT}/launch.py" if sandbox else str(LAUNCHER)
    argv = [python(), "-I", "-S", launcher]
    bounded = {str(run / "outputs"): limits.outputs}
    if sandbox:
        argv[:0] = arguments(
            sandbox.program,
            sandbox.flags,
            read=places.read,
            write=places.write,
            chdir=places.code,
            tmp=limits.tmp,
            shm=limits.shm,
        )
    else:
        bounded |= {places.tmp: limits.tmp, places.home: limits.tmp}
    return {
        "id": spec.id,
        "level": (EgressLevel.ENFORCED if sandbox else EgressLevel.ADVISORY).value,
        "argv": argv,
        "launch": {
            "command": command_of(spec, places),
            "limits": _rlimits(limits, memory, sandbox is not None),
            "writable": writable(places.write),
            "hidden": hidden(run),
            "guard": sandbox is None,
        },
        "env": environ(spec, places),
        "cwd": "/" if sandbox else places.code,
        "require": ISOLATION if sandbox else [],
        "environment": environment,
        "bounded": bounded,
        "inputs": {mount.name: mount.source.location for mount in spec.inputs},
        "limits": {
            "timeout": limits.timeout,
            "grace": grace,
            "build": BUILD_SECONDS,
            "memory": memory,
            "log": limits.log,
            "pids": limits.pids,
            "files": MAX_FILES,
        },
    }
