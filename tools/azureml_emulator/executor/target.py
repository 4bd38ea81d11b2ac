"""From the name of a compute target to the machine that stands for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from azureml_emulator import computes
from azureml_emulator.executor.host import Host, Unfit
from azureml_emulator.executor.local import LocalHost
from azureml_emulator.executor.ssh import Links
from azureml_emulator.message import Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator


def host_of(emulator: Emulator, links: Links, name: str) -> Host:
    """The target's machine, not contacted yet. Raises Unfit."""
    found = computes.get(emulator, name)
    if found is not None and found["properties"]["computeType"] == "Kubernetes":
        options = emulator.options
        return LocalHost(options.folder / "runs", options.python or sys.executable)
    try:
        return links.host(computes.reach(emulator, name))
    except Refused as refused:
        raise Unfit(refused.message) from None
