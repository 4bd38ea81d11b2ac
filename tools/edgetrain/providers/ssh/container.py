"""From a run's specification to the container that it runs in, and to those that read what it left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import EgressLevel, RunLimits, RunSpec
from edgetrain.providers.contract import (
    HOME_SIZE,
    MAX_FILES,
    OPEN_FILES,
    ROOT,
    SHM,
    SYSTEM_PATH,
    TMP,
    Places,
    check_words,
    command_of,
    input_path,
    inside,
    variables,
)
from edgetrain.providers.ssh.engine import LABEL, Engine, mounts, program, scratch
from edgetrain.providers.ssh.image import RunImage

ISOLATION = ("network", "pidNamespace", "readOnly", "hostHidden", "noPrivileges", "notRoot")
LIMITS = {"memory": "memoryLimit", "pids": "pidsLimit", "cpus": "cpuLimit", "gpus": "gpus"}
# What would be seen inside if the host showed through.
SOCKETS = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock")
PYTHON = ("python3", "-I", "-S")
LOG = f"{ROOT}/log"
# For the programs that read what a run left: the harvester bounds itself further, the content check unpacks.
READER = RunLimits(timeout=0, memory=2 * 2**30, pids=64, shm=2**20, tmp=64 * 2**20)
CHECKER = RunLimits(timeout=0, memory=4 * 2**30, pids=64, shm=2**20, tmp=64 * 2**20)


@dataclass(frozen=True)
class Site:
    """Where things are on the machine: the run's folder, its environment, the on-site programs, and each input's
    file or folder by name."""

    run: str
    environment: str
    tools: str
    views: Mapping[str, str]


def name_of(run_id: str) -> str:
    """The name of a run's container."""
    return f"edgetrain-{run_id}"


def places(spec: RunSpec, site: Site) -> Places:
    """What the script sees. Raises Rejected for an input that was not staged."""
    read = {
        f"{site.run}/code": f"{ROOT}/code",
        site.environment: f"{ROOT}/environment",
        f"{site.tools}/supervisor/launch.py": f"{ROOT}/launch.py",
    }
    inputs = {}
    for mount in spec.inputs:
        if mount.name not in site.views:
            raise Rejected(f"input {mount.name} is not on the machine", reason="InputMissing", fix="apply again")
        view = site.views[mount.name]
        inputs[mount.name] = read[view] = input_path(
            mount.name, PurePosixPath(view).name if mount.single_file else ""
        )
    return inside(inputs, read, {f"{site.run}/outputs": f"{ROOT}/outputs"})


def arguments(
    engine: Engine,
    image: RunImage,
    run_id: str,
    limits: RunLimits,
    *,
    name: str | None,
    read: Mapping[str, str],
    write: Mapping[str, str],
    words: Sequence[str],
    workdir: str = "/",
) -> list[str]:
    """The command line of a container without a network, without rights and within limits, that runs `words`."""
    uid, gid = engine.user
    home = {f"{ROOT}/home": min(limits.tmp, HOME_SIZE)}
    begin, rest = program(words)
    found = [engine.command, "run", "-i", *(["--name", name] if name else ["--rm"]), "--label", f"{LABEL}={run_id}"]
    found += ["--pull", "never", "--network", "none", "--ipc", "private", "--hostname", "edgetrain"]
    found += ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", f"{uid}:{gid}"]
    found += ["--log-driver", "none", "--no-healthcheck", "--pids-limit", str(limits.pids)]
    if limits.memory:
        found += ["--memory", f"{limits.memory}b", "--memory-swap", f"{limits.memory}b"]
    if limits.cpus:
        found += ["--cpus", str(limits.cpus)]
    found += ["--shm-size", f"{limits.shm}b", *scratch({TMP: limits.tmp, **home}), *mounts(read, write)]
    found += [*engine.own(), *engine.devices(limits.gpus), "--workdir", workdir, *begin]
    return [*found, image.id, *rest]


def environ(spec: RunSpec, where: Places, image: RunImage) -> dict[str, str]:
    """The whole environment of the script: the image's, under what the training contract says."""
    packages = [f"{where.environment}/lib", f"{where.environment}/start", image.env.get("PYTHONPATH", "")]
    return {
        **image.env,
        **variables(spec, where, image.env.get("PATH", SYSTEM_PATH)),
        "PYTHONPATH": ":".join(filter(None, packages)),
    }


def instructions(
    spec: RunSpec, *, engine: Engine, image: RunImage, site: Site, capacity: int | None, grace: float
) -> dict[str, Any]:
    """The contents of the run's `spec.json` (see `onsite/supervisor/main.py`). `capacity` is the memory, in bytes,
    of a run that sets no bound; `grace` the seconds between SIGTERM and SIGKILL.

    Also for the programs that look at the run afterwards: `harvest` (`argv`, to which the configuration is added,
    and `outputs`), `examine` (the command of the content check) and `seen` (`outputs`, `inputs`, `log`: their
    places in its container). Raises Rejected for what the machine can't hold a run to.
    """
    check_words(spec)
    image.check()
    memory = spec.limits.memory or capacity
    engine.check(spec.limits, memory)
    where = places(spec, site)
    limits = RunLimits(**{**spec.limits.__dict__, "memory": memory})
    name = name_of(spec.id)
    asked = {"memory": memory, "pids": limits.pids, "cpus": limits.cpus, "gpus": limits.gpus}
    asked = {key: value for key, value in asked.items() if value}
    scratches = [TMP, SHM, f"{ROOT}/home"]
    words = [*PYTHON, f"{ROOT}/launch.py"]
    argv = arguments(
        engine,
        image,
        spec.id,
        limits,
        name=name,
        read=where.read,
        write=where.write,
        words=words,
        workdir=where.code,
    )
    uid, gid = engine.user
    outputs = f"{site.run}/outputs"
    return {
        "id": spec.id,
        "channel": "stdio",
        "level": EgressLevel.ENFORCED.value,
        "argv": argv,
        "launch": {
            "command": command_of(spec, where),
            "env": environ(spec, where, image),
            "limits": {"CORE": 0, "NOFILE": OPEN_FILES, "FSIZE": max(limits.outputs, limits.tmp, limits.shm)},
            "writable": [*scratches, *where.write.values()],
            "mounts": list(where.read.values()),
            "hidden": [site.run, *SOCKETS],
            "asked": asked,
        },
        "env": None,
        "cwd": "/",
        "require": [*ISOLATION, *(["seccomp"] if engine.seccomp else []), *(LIMITS[key] for key in asked)],
        "python": spec.python,
        "environment": None,
        "user": {"uid": uid, "gid": gid, "write": [outputs], "read": [f"{site.run}/code", f"{site.run}/log"]},
        "look": [
            *[engine.command, "container", "inspect", "--format"],
            *["{{.State.Pid}} {{.State.Status}} {{.State.ExitCode}}", name],
        ],
        "ask": [engine.command, "kill", "--signal", "TERM", name],
        "stop": [engine.remove(spec.id)],
        "bounded": {outputs: limits.outputs},
        "limits": {
            "timeout": limits.timeout,
            "grace": grace,
            "build": 0,
            "memory": memory,
            "log": limits.log,
            "pids": limits.pids,
            "files": MAX_FILES,
        },
        "harvest": harvester(spec.id, engine, image, site),
        **examiner(spec, engine, image, site, where),
    }


def reader_argv(
    run_id: str,
    *,
    engine: Engine,
    image: RunImage,
    read: Mapping[str, str],
    words: Sequence[str],
    limits: RunLimits = READER,
) -> list[str]:
    """The command line of a container that reads `read` (host path to place inside) and nothing else, with a run's
    own restrictions, and writes nothing; it goes with the run's `stop`."""
    return arguments(engine, image, run_id, limits, name=None, read=read, write={}, words=words)


def harvester(run_id: str, engine: Engine, image: RunImage, site: Site) -> dict[str, Any]:
    """The harvester's command, without its configuration, and where it sees the outputs."""
    read = {
        f"{site.run}/outputs": f"{ROOT}/outputs",
        f"{site.tools}/supervisor/harvest.py": f"{ROOT}/harvest.py",
    }
    words = [*PYTHON, f"{ROOT}/harvest.py"]
    return {
        "argv": reader_argv(run_id, engine=engine, image=image, read=read, words=words),
        "outputs": f"{ROOT}/outputs",
    }


def examiner(spec: RunSpec, engine: Engine, image: RunImage, site: Site, where: Places) -> dict[str, Any]:
    """The content check's command, and what it sees where."""
    outside = {path: outside for outside, path in where.read.items()}
    read = {outside[path]: path for path in where.inputs.values()}
    read |= {
        f"{site.run}/outputs": f"{ROOT}/outputs",
        f"{site.run}/log": LOG,
        f"{site.tools}/content": f"{ROOT}/content",
    }
    words = [*PYTHON, f"{ROOT}/content"]
    return {
        "examine": reader_argv(spec.id, engine=engine, image=image, read=read, words=words, limits=CHECKER),
        "seen": {"outputs": f"{ROOT}/outputs", "inputs": dict(where.inputs), "log": LOG},
    }


def probe_config(memory: int = 2**28, pids: int = 64) -> str:
    """What the launcher is asked when a machine is only looked at: one line for its standard input."""
    config = {
        "writable": [TMP, SHM, f"{ROOT}/home"],
        "mounts": [f"{ROOT}/launch.py"],
        "hidden": list(SOCKETS),
        "asked": {"memory": memory, "pids": pids},
    }
    return json.dumps(config) + "\n"


def probe_argv(engine: Engine, image: RunImage, tools: str, memory: int = 2**28, pids: int = 64) -> list[str]:
    """A container as runs have it, whose launcher only reports what it observes."""
    limits = RunLimits(timeout=0, memory=memory, pids=pids, shm=2**20, tmp=2**20)
    read = {f"{tools}/supervisor/launch.py": f"{ROOT}/launch.py"}
    words = [*PYTHON, f"{ROOT}/launch.py", "-"]
    return reader_argv("probe", engine=engine, image=image, read=read, words=words, limits=limits)
