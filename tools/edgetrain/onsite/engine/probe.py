"""What the machine's container engine is and can do, and what a container that it makes is really kept from."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..vm.fault import Fault
from .call import call

CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi")
CDI_NAME = re.compile(r"nvidia\.com/gpu=(\d+)\b")
CDI_DEVICE = re.compile(r"""^\s*(?:- )?"?name"?:\s*["']?(\d+)["']?\s*,?\s*$""", re.MULTILINE)
MAX_CDI = 2**22
TRY_SECONDS = 60.0


def probe(command: str, work: Path) -> dict[str, Any]:
    """All about the engine that `command` (`docker`, `podman`) starts. `work` is the folder whose disk counts."""
    found: dict[str, Any] = {"command": command, "uid": os.geteuid(), "gid": os.getegid(), "works": False}
    found.update(selinux=Path("/sys/fs/selinux/enforce").exists(), platform=here(), free=free(work))
    if shutil.which(command) is None:
        return {**found, "message": "it is not installed"}
    code, version, errors = call([command, "--version"])
    kind = "podman" if "podman" in version.lower() else "docker"
    if code == 0:
        code, text, errors = call([command, "info", "--format", "{{json .}}"])
    if code != 0:
        return {**found, "message": errors or "it gave no reason"}
    try:
        info = json.loads(text)
        found.update((_podman if kind == "podman" else _docker)(info))
    except (ValueError, KeyError, TypeError):
        return {**found, "message": "it tells of itself what can't be read"}
    # A docker client answers although no engine is there.
    if kind == "docker" and info.get("ServerErrors"):
        return {**found, "message": " ".join(map(str, info["ServerErrors"]))[:400]}
    found["gpus"] = sorted(_cdi(), key=_number) if kind == "podman" else _nvidia(info)
    return {**found, "works": True, "kind": kind}


def here() -> str:
    """Such as `linux/amd64`."""
    machine = platform.machine().lower()
    return "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def free(folder: Path) -> int:
    """Bytes that this account may still write below `work`, which may not be there yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _podman(info: Mapping[str, Any]) -> dict[str, Any]:
    host = info["host"]
    return {
        "version": info["version"]["Version"],
        "rootless": bool(host["security"]["rootless"]),
        "remapped": False,
        "cgroup": 2 if host["cgroupVersion"] == "v2" else 1,
        "controllers": list(host.get("cgroupControllers") or []),
        "seccomp": bool(host["security"].get("seccompEnabled")),
    }


def _docker(info: Mapping[str, Any]) -> dict[str, Any]:
    options = [str(option) for option in info.get("SecurityOptions") or []]
    limits = {"memory": "MemoryLimit", "pids": "PidsLimit", "cpu": "CpuCfsQuota"}
    return {
        "version": info["ServerVersion"],
        "rootless": any("name=rootless" in option for option in options),
        "remapped": any("name=userns" in option for option in options),
        "cgroup": 2 if str(info.get("CgroupVersion")) == "2" else 1,
        "controllers": [name for name, key in limits.items() if info.get(key)],
        "seccomp": any("name=seccomp" in option for option in options),
    }


def _number(name: str) -> int:
    return int(name.rpartition("=")[2])


def _cdi() -> set[str]:
    """GPUs by their names in the container device interface (CDI): what `nvidia-ctk` lists, or its files hold."""
    code, text, _ = call(["nvidia-ctk", "cdi", "list"]) if shutil.which("nvidia-ctk") else (-1, "", "")
    if code == 0:
        return {f"nvidia.com/gpu={index}" for index in CDI_NAME.findall(text)}
    found = set()
    for folder in map(Path, CDI_FOLDERS):
        for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.json")]):
            with file.open(encoding="utf-8", errors="replace") as stream:
                text = stream.read(MAX_CDI)
            if "nvidia.com/gpu" in text:
                found |= {f"nvidia.com/gpu={index}" for index in CDI_DEVICE.findall(text)}
    return found


def _nvidia(info: Mapping[str, Any]) -> list[str]:
    """GPUs by their indices, if docker can give them to a container."""
    served = "nvidia" in (info.get("Runtimes") or {}) or shutil.which("nvidia-container-runtime-hook")
    if not served or not shutil.which("nvidia-smi"):
        return []
    code, text, _ = call(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"])
    return [line.strip() for line in text.splitlines() if line.strip().isdigit()] if code == 0 else []


def attempt(argv: Sequence[str], config: str) -> dict[str, Any]:
    """What the launcher sees from inside a container that `argv` makes: `isolation`, `observed`, `python`,
    `unexpected`. Raises Fault if there is none."""
    code, text, errors = call(argv, config.encode(), TRY_SECONDS)
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if code != 0 or not isinstance(found, dict):
        fix = "run such a container by hand on the machine, and see what the engine says"
        raise Fault("Unavailable", errors or "the container gave no reason", "ContainerFailed", fix)
    return found
