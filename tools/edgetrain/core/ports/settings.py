"""What the factories of `providers/table.py` get: the settings of one declared object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgetrain.core.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from edgetrain.core.ports.images import BaseImage


@dataclass(frozen=True)
class Outbound:
    """How the world outside is reached: proxy, hosts that need none, and a PEM file of authorities to trust."""

    proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    ca_bundle: str = ""


def no_secret(name: str) -> Secret:
    """The default of `Settings.secret`: there are none."""
    from edgetrain.core.errors import NotFound

    raise NotFound(f"secret {name} is not declared", reason="SecretMissing", fix="declare it in edgetrain.yaml")


def no_base(reference: str) -> BaseImage:
    """The default of `TargetSettings.base`: no registry is declared."""
    from edgetrain.core.errors import NotFound

    raise NotFound(f"no registry holds {reference}", fix="declare its registry in edgetrain.yaml")


@dataclass(frozen=True)
class Settings:
    """`name` and `block` as in the manifest; `state` is the site's durable folder, `networks` the site's.

    `secret` gives a declared secret's value by its name; it raises NotFound or Denied. `clouds` are the declared
    clouds by name. `workspace_token` gives the workspace's sign-in for the registry of a host, where the workspace
    has one; it raises Rejected for a registry that must not see it.
    """

    name: str
    block: Mapping[str, Any]
    state: Path
    networks: tuple[str, ...] = ()
    outbound: Outbound = field(default_factory=Outbound)
    secret: Callable[[str], Secret] = field(default=no_secret, repr=False)
    clouds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    workspace_token: Callable[[str], Secret] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class TargetSettings(Settings):
    """Settings of a compute target: `block` is the block of its type.

    `capacity` holds `cpus`, `memory` (bytes), `gpus`, `slots` as declared; `base` gives a base image by
    `host/repository@sha256:...` from the registry that holds it. `ssh` is the block by which the site's runner
    reaches the machine, where its type has a block of its own beside it; `workspace` the repository's workspace,
    for targets that are served through it.
    """

    engine: str = "docker"
    capacity: Mapping[str, Any] = field(default_factory=dict)
    allow_unsandboxed: bool = False
    ssh: Mapping[str, Any] = field(default_factory=dict)
    workspace: Settings | None = None
    base: Callable[[str], BaseImage] = field(default=no_base, repr=False)
