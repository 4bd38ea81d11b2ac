"""One site's providers, each made when it is first used."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from edgetrain.core.errors import NotFound, RepositoryError, UsageError
from edgetrain.core.kinds import ComputeTarget, Configuration
from edgetrain.core.kinds import configuration as settings
from edgetrain.core.ports import ArtifactStore, Compute, Datastore, Registry, Workspace
from edgetrain.core.problem import did_you_mean
from edgetrain.providers.table import PROVIDERS, provider

PORTS = ("artifacts", "compute", "datastore", "registry", "workspace")


def served() -> dict[str, list[str]]:
    """By port, the types that some provider serves."""
    return {port: sorted(type_ for found, type_ in PROVIDERS if found == port) for port in PORTS}


class Site:
    """The site whose runner this is. `state` is its durable folder, outside any checkout."""

    def __init__(self, configuration: Configuration, name: str, checkout: Path) -> None:
        self.configuration = configuration
        self.settings: settings.Site = configuration.sites[name]
        self.name = name
        self.caches = checkout / ".edgetrain"
        self.state = Path(self.settings.state).expanduser().resolve()
        if checkout.resolve() in (self.state, *self.state.parents):
            raise RepositoryError(
                f"the state location of site {name} lies inside the checkout",
                reason="StateInsideCheckout",
                fix="give a durable folder outside the repository in edgetrain.yaml: spec.sites.<name>.state",
            )
        self._made: dict[tuple[str, str], Any] = {}

    def _once(self, port: str, key_name: str, type_: str, **arguments: Any) -> Any:
        key = (port, key_name)
        if key not in self._made:
            self._made[key] = provider(port, type_, **arguments)
        return self._made[key]

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """The site's artifact store."""
        store: ArtifactStore = provider(
            "artifacts", self.configuration.artifacts["type"], root=self.state / "artifacts"
        )
        return store

    @cached_property
    def workspace(self) -> Workspace:
        """The repository's workspace."""
        block = self.configuration.workspace
        workspace: Workspace = provider("workspace", block["type"], uri=block.get("uri", ""), state=self.state)
        return workspace

    def registry(self, name: str) -> Registry:
        """A registry by its name in `edgetrain.yaml`."""
        if name not in self.configuration.registries:
            raise NotFound(
                f"registry {name} holds released images, and is not declared any more",
                reason="RegistryNotDeclared",
                fix=f"declare it again in edgetrain.yaml: spec.registries.{name}",
            )
        block = self.configuration.registries[name]
        path = Path(block["path"]).expanduser() if "path" in block else self.state / "images"
        registry: Registry = self._once("registry", name, block["type"], root=path)
        return registry

    def datastore(self, name: str) -> Datastore:
        """A datastore by its name in `edgetrain.yaml`."""
        block = self.settings.datastores[name]
        cache = self.state / "digests" / name
        store: Datastore = self._once(
            "datastore", name, block["type"], root=Path(block["path"]).expanduser(), cache=cache
        )
        return store

    def compute(self, target: ComputeTarget) -> Compute:
        """The provider of one compute target of this site."""
        capacity = {key: value for key, value in vars(target.capacity).items() if value is not None}
        compute: Compute = self._once(
            "compute",
            target.metadata.name,
            target.type,
            name=target.metadata.name,
            state=self.state,
            allow_unsandboxed=self.configuration.allow_unsandboxed,
            capacity=capacity,
        )
        return compute


def choose_site(configuration: Configuration, asked: str | None) -> str:
    """The site asked for, or the only one. Raises UsageError if that is not clear."""
    names = list(configuration.sites)
    if asked is None:
        if len(names) == 1:
            return names[0]
        raise UsageError(f"there are {len(names)} sites", fix=f"say which: --site {' | --site '.join(names)}")
    if asked not in configuration.sites:
        raise UsageError(f"no site {asked!r}{did_you_mean(asked, names)}", fix=f"one of: {', '.join(names)}")
    return asked
