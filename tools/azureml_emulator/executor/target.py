"""From the name of a compute target to the machine that stands for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from azureml_emulator.executor.definition import pick
from azureml_emulator.executor.host import Host, Unfit
from azureml_emulator.executor.local import LocalHost
from azureml_emulator.executor.ssh import Links, Login

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator


def host_of(emulator: Emulator, links: Links, name: str) -> Host:
    """The target's machine, not contacted yet. Raises Unfit."""
    found = emulator.store.get("compute", name)
    kind = pick(found, "properties", "computeType")
    if kind == "Kubernetes":
        options = emulator.options
        return LocalHost(options.folder / "runs", options.python or sys.executable)
    if kind != "VirtualMachine":
        raise Unfit(f"the compute target {name} is not attached")
    return links.host(login_of(emulator, found))


def login_of(emulator: Emulator, compute: Any) -> Login:
    """How to sign in to an attached machine. Raises Unfit."""
    properties = pick(compute, "properties")
    secret = compute.get("_secret") or {}
    host = str(pick(properties, "properties", "address") or "")
    port = int(pick(properties, "properties", "sshPort") or 22)
    resource = str(pick(properties, "resourceId") or "").lower()
    mapped = {key.lower(): value for key, value in emulator.options.hosts.items()}.get(resource)
    if mapped:
        host, _, number = mapped.rpartition(":")
        port = int(number)
    if not host:
        raise Unfit(f"no machine stands for {resource or 'the target'}: name it with the emulator's hosts")
    return Login(
        host,
        port,
        str(pick(secret, "username") or ""),
        str(pick(secret, "privateKeyData") or ""),
        str(pick(secret, "passphrase") or ""),
        str(pick(secret, "password") or ""),
    )
