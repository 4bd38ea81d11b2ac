"""The provider under test, made for one of the testbed's registries."""

from __future__ import annotations

from typing import Any

from edgetrain.core.secret import Secret
from edgetrain.providers.oci.auth import Credential
from edgetrain.providers.oci.provider import OciRegistry
from testbed.registry import Registry


def no_pause(seconds: float) -> None:
    """Between attempts: tests do not sleep."""


def user(part: Registry) -> Credential | None:
    """The user who may do everything there; nobody at an open registry."""
    if part.auth == "open":
        return None
    return Credential(part.username, lambda: Secret(part.password))


def reach(part: Registry, host: str = "", **more: Any) -> OciRegistry:
    """The provider of this registry; `host` is that of a front before it."""
    settings = {"plain_http": part.plain, "ca_bundle": part.ca_bundle, "sleep": no_pause, "credential": user(part)}
    return OciRegistry(host or part.name, **{**settings, **more})
