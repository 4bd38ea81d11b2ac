"""The container engine of a machine: what the probe found, and the few words that docker and podman say apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.core.errors import Rejected, Unavailable
from edgetrain.core.ports import RunLimits
from edgetrain.providers.contract import NOBODY

LABEL = "edgetrain.run"
# Ends and removes all containers of a run, the readers of its outputs too; done as well where there are none.
_REMOVE = (
    'found=$("$0" ps -a -q --no-trunc --filter "label=$1") || exit 1; '
    'test -z "$found" || "$0" rm -f -v {options} $found'
)
# Which of a rootless user's control groups holds which limit.
_CONTROLLERS = {"memory": "memory", "pids": "pids", "cpus": "cpu"}


@dataclass(frozen=True)
class Engine:
    """`command` is what is called, `kind` what answers: `docker` or `podman`. `uid` and `gid` are the account's on
    the machine; `gpus` are names that `--gpus` (docker: indices) or `--device` (podman: CDI) take."""

    command: str
    kind: str
    version: str
    uid: int
    gid: int
    rootless: bool = False
    remapped: bool = False
    cgroup: int = 2
    controllers: tuple[str, ...] = ()
    seccomp: bool = True
    selinux: bool = False
    gpus: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Engine:
        """From the answer of `onsite/engine`'s probe. Raises Unavailable if the engine is absent or not working."""
        if not found.get("works"):
            name = found["command"]
            raise Unavailable(
                f"{name} does not work on the machine: {found.get('message', 'it is not installed')}",
                reason="EngineMissing",
                fix=f"install {name} there, start it, and let the target's user use it (see docs/compute.md)",
            )
        return cls(
            command=found["command"],
            kind=found["kind"],
            version=found["version"],
            uid=found["uid"],
            gid=found["gid"],
            rootless=found["rootless"],
            remapped=found["remapped"],
            cgroup=found["cgroup"],
            controllers=tuple(found["controllers"]),
            seccomp=found["seccomp"],
            selinux=found["selinux"],
            gpus=tuple(found["gpus"]),
        )

    @property
    def user(self) -> tuple[int, int]:
        """Who a run is inside its container, and outside: the account itself, or nobody if that is root."""
        return (self.uid, self.gid) if self.uid else (NOBODY, NOBODY)

    def check(self, limits: RunLimits, memory: int | None) -> None:
        """Raises Rejected if this engine can't hold a run to what is asked."""
        if self.kind == "docker" and (self.rootless or self.remapped):
            raise Rejected(
                "docker maps users on the machine, so that a run without root could not write its outputs",
                reason="EngineNotServed",
                fix="use docker without userns-remap and rootless mode, or podman, which may be rootless",
            )
        asked = {"memory": memory, "pids": limits.pids, "cpus": limits.cpus}
        groups = {_CONTROLLERS[name] for name, value in asked.items() if value}
        missing = sorted(groups - set(self.controllers)) if self.rootless else []
        if self.rootless and self.cgroup == 1:
            missing = sorted(groups)
        if missing:
            raise Rejected(
                f"rootless {self.kind} can't limit {', '.join(missing)} on the machine",
                reason="LimitNotServed",
                fix="use cgroup version 2 with these controllers delegated to the user, or a rootful engine",
            )
        if limits.gpus > len(self.gpus):
            raise Rejected(
                f"the run asks for {limits.gpus} GPU(s) and the machine gives containers {len(self.gpus)}",
                reason="GpuMissing",
                fix="choose a target that has them (labels, capacity.gpus), lower resources.gpus, or install the "
                "driver and nvidia-container-toolkit on the machine (podman: `nvidia-ctk cdi generate`)",
            )

    def own(self) -> list[str]:
        """Options that only this engine has."""
        found = []
        if self.kind == "podman":
            # What podman would add by itself: writable folders, the host's proxies, anonymous volumes.
            found += [
                "--read-only-tmpfs=false",
                "--http-proxy=false",
                "--image-volume",
                "ignore",
                "--systemd=false",
            ]
            if self.rootless:
                found += ["--userns", "keep-id"]
        if self.selinux:
            # Relabelling would change the site's data for everyone; all other restrictions stay.
            found += ["--security-opt", "label=disable"]
        return found

    def devices(self, count: int) -> list[str]:
        """Options that give the first `count` GPUs."""
        chosen = self.gpus[:count]
        if self.kind == "podman":
            return [word for name in chosen for word in ("--device", name)]
        # Docker reads the value as a line of CSV, so that the comma needs its quotes.
        return ["--gpus", f'"device={",".join(chosen)}"'] if chosen else []

    def remove(self, run_id: str) -> list[str]:
        """A command that ends and removes all containers of a run."""
        options = "-t 0" if self.kind == "podman" else ""
        return ["/bin/sh", "-c", _REMOVE.format(options=options), self.command, f"{LABEL}={run_id}"]


def mounts(read: Mapping[str, str], write: Mapping[str, str]) -> list[str]:
    """Options that mount host paths (keys) at places inside. Raises Rejected for a path that doesn't fit."""
    found = []
    for places, mode in ((read, ",readonly"), (write, "")):
        for outside, inside in places.items():
            if any(letter in outside + inside for letter in ',"\n'):
                raise Rejected(
                    "a path on the machine has a comma or a quote",
                    reason="InvalidPath",
                    fix="choose paths without commas and quotes, in compute/ and for the datastore",
                )
            found += ["--mount", f"type=bind,source={outside},target={inside}{mode}"]
    return found


def scratch(places: Mapping[str, int]) -> list[str]:
    """Options that put bounded, throw-away folders at places inside. Programs may run from them: compilers for GPUs
    load what they have just made, and an interpreter that runs scripts gains nothing by it."""
    options = "rw,nosuid,nodev,exec,mode=1777,size="
    return [word for place, size in places.items() for word in ("--tmpfs", f"{place}:{options}{size}")]


def program(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options before the image, and the words after it, that start this program whatever the image starts."""
    return ["--entrypoint", words[0]], list(words[1:])
