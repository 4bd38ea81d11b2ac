"""What `edgetrain doctor` tells of a machine: what runs need there, looked at and, where it can be, tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgetrain.core.errors import EdgetrainError, ProviderError
from edgetrain.core.ports import Check, CheckStatus, DataSource, EgressLevel, TargetSettings
from edgetrain.core.quantity import human_bytes
from edgetrain.providers.diagnosis import failed
from edgetrain.providers.ssh.engine import Engine
from edgetrain.providers.ssh.inputs import PULLED, Inputs
from edgetrain.providers.ssh.starting import Machine

SKEW_WARN, SKEW_FAIL = 5.0, 300.0
LEAST_DISK, LOW_DISK = 2**30, 10 * 2**30
# By the reasons of a failed connection, the check that failed, and those that had passed before it.
STEPS = ("address", "connection", "host-key", "login", "user")
FAILED_AT = {
    "NetworksMissing": "address",
    "AddressOutside": "address",
    "NameNotResolved": "address",
    "HostUnreachable": "connection",
    "HostKeyMismatch": "host-key",
    "InvalidHostKey": "host-key",
}


def diagnose(
    settings: TargetSettings,
    machine: Machine,
    inputs: Callable[[], Inputs],
    sources: Sequence[DataSource],
    cheap: bool,
) -> Sequence[Check]:
    """All checks, in the order in which they depend on each other; what can't be looked at any more is left out."""
    found: list[Check] = []
    try:
        for check in _checks(settings, machine, inputs, sources, cheap):
            found.append(check)
    except ProviderError as error:
        found.append(failed("machine", error))
    return found


def _pass(name: str, message: str) -> Check:
    return Check(name, CheckStatus.PASS, message)


def _checks(
    settings: TargetSettings,
    machine: Machine,
    inputs: Callable[[], Inputs],
    sources: Sequence[DataSource],
    cheap: bool,
) -> Iterator[Check]:
    connection, target = machine.remote.connection, machine.remote.connection.way.target
    try:
        connection.connect()
    except EdgetrainError as error:
        at = FAILED_AT.get(error.reason, "login")
        for name in STEPS[: STEPS.index(at)]:
            yield _pass(name, "in order")
        yield Check(at, CheckStatus.FAIL, error.message, error.reason, error.fix)
        return
    yield _pass("address", f"{target.host} lies in the site's networks")
    yield _pass(
        "connection",
        f"{target.host}:{target.port} answers" + (" through the jump host" if connection.way.jump else ""),
    )
    yield _pass("host-key", "the host key is a pinned one")
    yield _pass("login", f"{target.username} is let in by {'key' if target.key else 'password'}")
    machine.forget()
    before = time.time()
    host = machine.remote.once("host")
    yield _clock(host, before, time.time())
    if not host["uid"]:
        fix = "use an account of its own that may use the engine"
        yield Check("user", CheckStatus.WARN, "the account is root", "UserIsRoot", fix)
    else:
        yield _pass("user", f"the account {target.username} is not root")
    yield _pass("python", f"Python {host['python']}")
    yield from _room(settings, host)
    try:
        engine = machine.engine(anew=True)
    except ProviderError as error:
        yield failed("engine", error)
        return
    yield _pass("engine", f"{engine.kind} {engine.version}")
    if cheap:
        return
    yield _rootless(engine)
    yield _gpus(settings, engine)
    yield from _isolation(machine)
    yield from _stores(inputs, sources)


def _clock(host: dict[str, Any], before: float, after: float) -> Check:
    """The machine's clock against ours; what the answer took counts for neither."""
    ahead = float(host["time"]) - before
    late = after - float(host["time"])
    skew = max(0.0, -ahead, -late)
    message = f"the machine's clock differs by {skew:.1f} s"
    fix = "let both keep time: `timedatectl set-ntp true`"
    if skew > SKEW_FAIL:
        return Check("clock-skew", CheckStatus.FAIL, message, "ClockSkew", fix)
    if skew > SKEW_WARN:
        return Check("clock-skew", CheckStatus.WARN, message, "ClockSkew", fix)
    return _pass("clock-skew", message)


def _room(settings: TargetSettings, host: dict[str, Any]) -> Iterator[Check]:
    free, message = int(host["free"]), f"{human_bytes(int(host['free']))} free on the work folder's disk"
    fix = "free space there, or set workFolder to a larger disk"
    if free < LEAST_DISK:
        yield Check("disk", CheckStatus.FAIL, message, "DiskFull", fix)
    elif free < LOW_DISK:
        yield Check("disk", CheckStatus.WARN, message, "DiskLow", fix)
    else:
        yield _pass("disk", message)
    for name, has in (("memory", int(host["memory"])), ("cpus", int(host["cpus"]))):
        wanted = settings.capacity.get(name)
        told = human_bytes if name == "memory" else str
        if wanted and wanted > has:
            message = f"{told(wanted)} {name} are declared and the machine has {told(has)}"
            yield Check(
                name, CheckStatus.FAIL, message, "CapacityTooHigh", f"correct capacity.{name} in the manifest"
            )
        else:
            yield _pass(name, f"{told(has)} {name}")


def _rootless(engine: Engine) -> Check:
    if engine.rootless:
        return _pass("rootless", f"{engine.kind} runs without root")
    if engine.uid == 0:
        return _pass("rootless", f"{engine.kind} runs as root, and runs in it as nobody")
    return Check(
        "rootless",
        CheckStatus.WARN,
        f"{engine.kind} runs as root, so the account is as good as root",
        "EngineRootful",
        "keep the account's key as you would root's, or use rootless podman with cgroup version 2",
    )


def _gpus(settings: TargetSettings, engine: Engine) -> Check:
    declared, has = int(settings.capacity.get("gpus", 0)), len(engine.gpus)
    message = f"{has} GPU(s) can be given to containers, {declared} declared"
    if declared > has:
        fix = "install the driver and nvidia-container-toolkit (see docs/compute.md), or correct capacity.gpus"
        return Check("gpu", CheckStatus.FAIL, message, "GpuMissing", fix)
    return _pass("gpu", message)


def _isolation(machine: Machine) -> Iterator[Check]:
    """A container as runs have it, looked at from inside."""
    try:
        tried = machine.tried(machine.own_image())
    except ProviderError as error:
        yield failed("isolation", error)
        return
    if tried.level is EgressLevel.ENFORCED:
        yield _pass("isolation", "a container was made without network, rights and sight of the machine, and held")
    else:
        message = f"a container was made, and was not kept from: {tried.missing}"
        fix = "see docs/compute.md on engines; runs that ask for enforced egress are refused here"
        yield Check("isolation", CheckStatus.FAIL, message, "SandboxMissing", fix)
    lacking = [name for name in ("memoryLimit", "pidsLimit") if tried.isolation.get(name) is not True]
    if lacking:
        fix = "use cgroup version 2 with the controllers delegated to the account, or a rootful engine"
        yield Check("limits", CheckStatus.FAIL, f"not in force: {', '.join(lacking)}", "LimitNotServed", fix)
    else:
        yield _pass("limits", "limits of memory and processes were seen in force from inside")


def _stores(inputs: Callable[[], Inputs], sources: Sequence[DataSource]) -> Iterator[Check]:
    """Whether the machine reads the blob stores, each once."""
    seen = set()
    for source in sources:
        if source.kind != PULLED or source.location in seen:
            continue
        seen.add(source.location)
        if not source.access.get("sas"):
            yield Check(
                "blob-store", CheckStatus.WARN, "data goes through the runner", "NoAccess", "give an account key"
            )
            continue
        try:
            found = inputs().probe(source)
        except ProviderError as error:
            if source.stream is not None and error.reason == "Unreachable":
                fix = "open the way from the machine to the store, or let it be: the runner streams the data"
                yield Check("blob-store", CheckStatus.WARN, error.message, error.reason, fix)
            else:
                yield failed("blob-store", error)
            continue
        told = found.get("probe", {})
        yield _pass("blob-store", f"the machine reads the blob store (version {str(told.get('version'))[:20]})")
