"""One site's providers, each made when it is first used."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetrain.core.errors import NotFound, RepositoryError, UsageError
from edgetrain.core.kinds import ComputeTarget, Configuration
from edgetrain.core.kinds import configuration as settings
from edgetrain.core.ports import Settings, TargetSettings
from edgetrain.core.problem import did_you_mean
from edgetrain.core.secret import Secret
from edgetrain.providers.table import PROVIDERS, provider
from edgetrain.reconcile.secrets import secret_of

if TYPE_CHECKING:
    from edgetrain.core.ports import (
        ArtifactStore,
        Attachments,
        BaseImage,
        Check,
        Compute,
        Datastore,
        Forge,
        Registry,
        Workspace,
    )
    from edgetrain.reconcile.reviews import Reviews

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
        self._made: dict[tuple[str, str, str], Any] = {}
        self._making = threading.RLock()

    def _once(self, port: str, type_: str, settings: Settings) -> Any:
        key = (port, type_, settings.name)
        with self._making:
            if key not in self._made:
                self._made[key] = provider(port, type_, settings)
            return self._made[key]

    def _settings(self, name: str, block: Mapping[str, Any]) -> Settings:
        return Settings(
            name=name,
            block=block,
            state=self.state,
            networks=self.settings.networks,
            outbound=self.configuration.outbound,
            secret=partial(secret_of, self.configuration),
            clouds=self.configuration.clouds,
            workspace_token=self._registry_token if self.configuration.attaches else None,
        )

    def _registry_token(self, host: str) -> Secret:
        """The workspace's sign-in for a registry of its cloud."""
        from edgetrain.providers.azureml.session import registry_token

        return registry_token(self._settings("workspace", self.configuration.workspace), host)

    def diagnose_cloud(self, cloud: str) -> Sequence[Check]:
        """Whether the workspace's sign-in opens the cloud of this site."""
        from edgetrain.providers.azureml.edge import diagnose
        from edgetrain.providers.azureml.session import shared

        return diagnose(shared(self._settings("workspace", self.configuration.workspace)), cloud)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        """The site's artifact store."""
        block = self.configuration.artifacts
        store: ArtifactStore = self._once("artifacts", block["type"], self._settings("artifacts", block))
        return store

    @cached_property
    def workspace(self) -> Workspace:
        """The repository's workspace."""
        block = self.configuration.workspace
        workspace: Workspace = self._once("workspace", block["type"], self._settings("workspace", block))
        return workspace

    @cached_property
    def forge(self) -> Forge | None:
        """Where pull requests live; None if the repository declares no forge."""
        declared = self.configuration.forge
        if declared is None:
            return None
        forge: Forge = self._once("forge", declared.type, self._settings("forge", self._forge_block(declared)))
        return forge

    def _forge_block(self, declared: settings.Forge) -> Mapping[str, Any]:
        """What is declared, with what its settings are looked at for: the labels of the site's runner, and the
        environment, named after the site, whose jobs sign in to Azure."""
        oidc = self.configuration.workspace.get("auth", {}).get("type") == "oidc"
        return {
            **declared.block,
            "runner": list(self.settings.labels),
            **({"signIn": self.name} if oidc else {}),
        }

    @cached_property
    def reviews(self) -> Reviews | None:
        """What the forge knows of merged pull requests; None without one."""
        from edgetrain.reconcile.reviews import Reviews  # here: an offline plan asks nobody

        return Reviews(self.forge) if self.forge is not None else None

    def registry(self, name: str) -> Registry:
        """A registry by its name in `edgetrain.yaml`."""
        if name not in self.configuration.registries:
            raise NotFound(
                f"registry {name} holds released images, and is not declared any more",
                reason="RegistryNotDeclared",
                fix=f"declare it again in edgetrain.yaml: spec.registries.{name}",
            )
        block = self.configuration.registries[name]
        registry: Registry = self._once("registry", block["type"], self._settings(name, block))
        return registry

    def base(self, reference: str, registry: str | None = None) -> BaseImage:
        """A base image by `host/repository@sha256:...` from the registry of that host; a reference without a
        host is in the named registry, or the default one."""
        host = reference.partition("/")[0]
        for name, block in self.configuration.registries.items():
            if block.get("host") == host:
                return self.registry(name).base(reference)
        return self.registry(self.configuration.registry(registry)).base(reference)

    def datastore(self, name: str) -> Datastore:
        """A datastore by its name in `edgetrain.yaml`."""
        block = self.settings.datastores[name]
        store: Datastore = self._once("datastore", block["type"], self._settings(name, block))
        return store

    def folder(self, path: Path) -> Datastore:
        """A folder of the site's own state, as targets read a datastore: what the runner gives to a run."""
        store: Datastore = provider("datastore", "folder", self._settings("state", {"path": str(path)}))
        return store

    @cached_property
    def attachments(self) -> Attachments | None:
        """What the workspace has attached; None if it is of a type that nothing is attached to."""
        block = self.configuration.workspace
        if ("attachments", block["type"]) not in PROVIDERS:
            return None
        attachments: Attachments = self._once("attachments", block["type"], self._settings("attachments", block))
        return attachments

    def compute(self, target: ComputeTarget) -> Compute:
        """The provider of one compute target of this site."""
        compute: Compute = self._once("compute", target.type, self.target_settings(target))
        return compute

    def aside(self, target: ComputeTarget) -> Compute:
        """The target for what the runner makes there by itself: an attached VM over the site's own way to it, so
        that no service learns of it; any other as `compute`."""
        if not (target.attached and target.ssh):
            return self.compute(target)
        settings = replace(self.target_settings(target), block=target.ssh)
        compute: Compute = self._once("compute", "ssh", settings)
        return compute

    def target_settings(self, target: ComputeTarget) -> TargetSettings:
        """What the providers of one compute target get."""
        common = vars(self._settings(target.metadata.name, target.settings))
        return TargetSettings(
            **{**common, "secret": partial(secret_of, self.configuration, target=target.metadata.name)},
            engine=target.engine or "docker",
            capacity={key: value for key, value in vars(target.capacity).items() if value is not None},
            allow_unsandboxed=self.configuration.allow_unsandboxed,
            ssh=target.ssh,
            workspace=self._settings("workspace", self.configuration.workspace),
            base=self.base,
        )


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
