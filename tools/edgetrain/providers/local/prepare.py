"""From a run's specification to the folder that the supervisor works from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uv

from edgetrain.core.errors import NotFound, Rejected, Unavailable
from edgetrain.core.ports import EgressLevel, InputMount, RunLimits, RunSpec
from edgetrain.providers.local.sandbox import (
    ISOLATION,
    LAUNCHER,
    ROOT,
    TMP,
    Sandbox,
    arguments,
    hidden,
    library_path,
    python,
    writable,
)

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
MAX_FILES = 10_000
MAX_WORDS = 100_000
BUILD_SECONDS = 3600
OPEN_FILES = 4096
# Since this kernel a user namespace counts its own processes only, not all of the user's.
COUNTED_PER_NAMESPACE = (5, 14)
_MARKER = re.compile(r"\{\{(?:inputs\.([A-Za-z][A-Za-z0-9_-]*)|outputs)\}\}")
_INPUT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Places:
    """The paths that the script sees. `read` and `write` map host paths to them (the same without a sandbox)."""

    code: str
    outputs: str
    home: str
    tmp: str
    environment: str
    inputs: Mapping[str, str]
    read: Mapping[str, str] = field(default_factory=dict)
    write: Mapping[str, str] = field(default_factory=dict)


def this_python() -> str:
    """The minor version of the interpreter that runs scripts, such as `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def this_platform() -> str:
    """Such as `linux/amd64`, in the words of container images."""
    machine = platform.machine().lower()
    return f"{sys.platform}/{({'x86_64': 'amd64', 'aarch64': 'arm64'}).get(machine, machine)}"


def check(spec: RunSpec) -> None:
    """Raises Rejected for what this provider does not serve, NotFound for an input that is not there."""
    if not ID.fullmatch(spec.id):
        raise Rejected("the run's id is not fit for a file name", reason="InvalidRunId")
    if spec.image is not None:
        raise _not_served("a base image", "a target of type ssh runs containers; remove environment.image")
    if spec.limits.gpus:
        raise _not_served("GPUs", "choose a target that has them, or remove resources.gpus")
    if spec.python != this_python():
        fix = f"set environment.python to {this_python()}, or run edgetrain with Python {spec.python}"
        raise _not_served(f"Python {spec.python}", fix)
    if len(spec.command) + len(json.dumps(dict(spec.parameters))) > MAX_WORDS:
        raise Rejected("command and parameters are too long", reason="CommandTooLong", fix="put them into a file")
    for mount in spec.inputs:
        _check_input(mount)


def _not_served(what: str, fix: str) -> Rejected:
    return Rejected(f"a local target does not serve {what}", reason="NotServed", fix=fix)


def _check_input(mount: InputMount) -> None:
    source = Path(mount.source.location)
    if mount.source.kind != "folder":
        raise _not_served(f"data of kind {mount.source.kind}", "choose a datastore of type folder")
    if not _INPUT_NAME.fullmatch(mount.name) or not source.is_absolute():
        raise Rejected(f"input {mount.name[:64]!r} can't be given to a script", reason="InvalidInput")
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
        raise Unavailable("uv is not installed", reason="PackageMissing", fix="run make setup") from error


def _sandboxed(spec: RunSpec, run: Path, environment: Path) -> Places:
    inputs = {}
    read = {
        str(run / "code"): f"{ROOT}/code",
        str(environment): f"{ROOT}/environment",
        str(LAUNCHER): f"{ROOT}/launch.py",
    }
    for mount in spec.inputs:
        inside = f"{ROOT}/inputs/{mount.name}"
        if mount.single_file:
            inside += "/" + Path(mount.source.location).name
        read[mount.source.location] = inputs[mount.name] = inside
    write = {str(run / "outputs"): f"{ROOT}/outputs"}
    folders = (f"{ROOT}/code", f"{ROOT}/outputs", f"{ROOT}/home", TMP, f"{ROOT}/environment")
    return Places(*folders, inputs, read, write)


def _plain(spec: RunSpec, run: Path, environment: Path) -> Places:
    inputs = {mount.name: mount.source.location for mount in spec.inputs}
    code, outputs, home, tmp = (str(run / name) for name in ("code", "outputs", "home", "tmp"))
    return Places(code, outputs, home, tmp, str(environment), inputs)


def variables(spec: RunSpec, places: Places) -> dict[str, str]:
    """The whole environment of the script: nothing of the runner's own is in it."""
    found = {
        "PATH": f"{places.environment}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": places.home,
        "USER": "edgetrain",
        "LOGNAME": "edgetrain",
        "LANG": "C.UTF-8",
        "TMPDIR": places.tmp,
        "PYTHONHASHSEED": str((spec.seed or 0) % 2**32),
        "PYTHONUNBUFFERED": "1",
        "EDGETRAIN_OUTPUTS": places.outputs,
        "EDGETRAIN_PARAMS": json.dumps(dict(spec.parameters), sort_keys=True),
        "MLFLOW_TRACKING_URI": f"sqlite:///{places.outputs}/mlflow.db",
    }
    if spec.seed is not None:
        found["EDGETRAIN_SEED"] = str(spec.seed)
    if spec.limits.cpus:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            found[name] = str(spec.limits.cpus)
    if library := library_path():
        found["LD_LIBRARY_PATH"] = library
    for name, path in places.inputs.items():
        found["EDGETRAIN_INPUT_" + name.upper().replace("-", "_")] = path
    return found


def command_of(spec: RunSpec, places: Places) -> str:
    """The command with the shell-quoted paths where the markers stand."""

    def path(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return shlex.quote(places.outputs)
        if name not in places.inputs:
            raise Rejected(f"the command names input {name}, which the run does not have", reason="InvalidInput")
        return shlex.quote(places.inputs[name])

    return _MARKER.sub(path, spec.command)


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
        "env": variables(spec, places),
        "cwd": "/" if sandbox else places.code,
        "require": ISOLATION if sandbox else [],
        "environment": environment,
        "bounded": bounded,
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
