"""Declared blob stores on Azurite, as `edgetrain.yaml` would declare them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetrain.core.ports import Outbound, Settings
from edgetrain.core.secret import Secret
from testbed.azurite import Azurite

VERSIONS = ("2017-11-09", "2018-11-09", "2019-02-02", "2019-07-07")


def new_container(azurite: Azurite, blobs: Mapping[str, bytes] | None = None) -> str:
    """A container of a name of its own, holding just these."""
    name = f"t{secrets.token_hex(8)}"
    azurite.put(name, blobs or {})
    return name


def declared(
    azurite: Azurite,
    container: str,
    state: Path,
    credential: str = "accountKey",
    secret: str | None = None,
    outbound: Outbound | None = None,
    **block: Any,
) -> Settings:
    """The settings of a store; the credential is the account's key if no `secret` is given."""
    values = {"store-secret": azurite.key if secret is None else secret}
    return Settings(
        name="hub-imaging",
        block={
            "type": "azure-blob",
            "endpoint": azurite.endpoint,
            "container": container,
            "credential": {credential: {"secret": "store-secret"}},
            **block,
        },
        state=state,
        outbound=outbound or Outbound(),
        secret=lambda name: Secret(values[name]),
    )
