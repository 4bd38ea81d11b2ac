"""A site whose workspace is an emulated one, reached by the service's own host names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from azureml_emulator.server import RunningEmulator
from edgetrain.core.ports import Outbound, Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.session import Session


def settings(emulator: RunningEmulator, state: Path, principal: str = "owner", name: str = "workspace") -> Settings:
    """What the provider gets for a workspace that is declared with a service principal."""
    who, options = emulator.principal(principal), emulator.emulator.options
    block: dict[str, Any] = {
        "type": "azureml",
        "subscription": options.subscription,
        "resourceGroup": options.group,
        "name": options.workspace,
        "cloud": "AzureCloud",
        "auth": {
            "type": "service-principal",
            "tenant": options.tenant,
            "clientId": who["clientId"],
            "clientSecret": {"secret": "AZURE"},
        },
    }
    return Settings(
        name,
        block,
        state,
        outbound=Outbound(proxy=emulator.proxy_url, ca_bundle=str(emulator.certificates.authority)),
        secret=lambda name: Secret(str(who["clientSecret"])),
    )


def session(emulator: RunningEmulator, state: Path, principal: str = "owner") -> Session:
    """A session that waits for nobody: as a process of its own would have it."""
    return Session(settings(emulator, state, principal), sleep=lambda seconds: None)


def asked(emulator: RunningEmulator, *methods: str, path: str = "") -> list[dict[str, Any]]:
    """The requests that reached the service by these methods, with this in their path."""
    return [
        entry
        for entry in emulator.requests
        if (not methods or entry["method"] in methods) and path in str(entry["path"])
    ]
