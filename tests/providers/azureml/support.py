"""Sessions with an emulated workspace: by the service's own names through a proxy (A), as a declared cloud (B)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from azureml_emulator.options import Options
from azureml_emulator.server import RunningEmulator, start
from edgetrain.core.ports import Outbound, Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.session import Session

TOPOLOGIES = ("A", "B")
CLOUD = "Emulated"


def begin(folder: Path, **options: Any) -> RunningEmulator:
    """A running emulator."""
    return start(Options(folder=folder, **options))


def check(emulator: RunningEmulator) -> None:
    """Nothing was asked that it does not serve, nothing else was asked of the network, nothing broke."""
    log = emulator.emulator.log
    assert log.failures == []
    assert not log.unknown_routes, log.unknown_routes
    assert log.refused_hosts == []


def by_secret(emulator: RunningEmulator, name: str = "owner") -> dict[str, Any]:
    """An `auth` block: the principal by its secret, which is declared under `sp`."""
    tenant, client = emulator.emulator.options.tenant, emulator.principal(name)["clientId"]
    return {"type": "service-principal", "tenant": tenant, "clientId": client, "clientSecret": {"secret": "sp"}}


def settings(
    emulator: RunningEmulator,
    state: Path,
    topology: str = "A",
    auth: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    **cloud: Any,
) -> Settings:
    """Settings of the workspace; `cloud` are more keys of the declared cloud of topology B."""
    options = emulator.emulator.options
    block = {
        "type": "azureml",
        "subscription": options.subscription,
        "resourceGroup": options.group,
        "name": options.workspace,
        "cloud": "AzureCloud" if topology == "A" else CLOUD,
        "auth": dict(auth or by_secret(emulator)),
    }
    declared = {"resourceManager": emulator.url, "registrySuffix": "localhost", **cloud}
    authority = str(emulator.certificates.authority)
    values = {"sp": emulator.principal("owner")["clientSecret"], **(secrets or {})}
    return Settings(
        name="workspace",
        block=block,
        state=state,
        outbound=Outbound(proxy=emulator.proxy_url if topology == "A" else "", ca_bundle=authority),
        secret=lambda name: Secret(values[name]),
        clouds={} if topology == "A" else {CLOUD: declared},
    )


def session(emulator: RunningEmulator, state: Path, topology: str = "A", **more: Any) -> Session:
    """A session that waits for nothing; see `settings`."""
    given = {name: more.pop(name) for name in ("sleep", "now") if name in more}
    return Session(settings(emulator, state, topology, **more), **{"sleep": lambda seconds: None, **given})


def asked(emulator: RunningEmulator, part: str) -> list[dict[str, Any]]:
    """The requests so far whose `METHOD path` holds this."""
    return [one for one in emulator.requests if part in f"{one['method']} {one['path']}"]


def sign_ins(emulator: RunningEmulator) -> int:
    """How many tokens were asked for."""
    return len(asked(emulator, "/token")) - len(asked(emulator, "/_emulator/"))
