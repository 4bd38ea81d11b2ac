"""Configuration: `edgetrain.yaml`, what the platform engineers set for the whole repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetrain.core.document import Document
from edgetrain.core.ports import Outbound
from edgetrain.core.quantity import bytes_of


@dataclass(frozen=True)
class Site:
    """One site: its networks, its durable state location, its datastores (blocks as read), the cloud there, and the
    labels of its runner (empty: as the workflows say)."""

    name: str
    networks: tuple[str, ...]
    state: str
    datastores: Mapping[str, Mapping[str, Any]]
    cloud: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limit:
    """How many changes of one effect an apply may make: a number, and a share of what is managed."""

    absolute: int
    relative: float


@dataclass(frozen=True)
class Machine:
    """Who writes records: name and address of the committer, and the secret that holds the signing key."""

    name: str = "edgetrain"
    email: str = "edgetrain@localhost"
    signing_key: str | None = None


@dataclass(frozen=True)
class Forge:
    """Where pull requests live: the block as read and `branch`, for its provider; `environment` guards releases
    there, and `own_push` says that records are pushed with a credential of the forge's."""

    type: str
    block: Mapping[str, Any]
    environment: str
    own_push: bool


@dataclass(frozen=True)
class Configuration:
    """The configuration. Blocks named in the plural are by name, as read."""

    document: Document = field(repr=False, compare=False)
    branch: str
    workspace: Mapping[str, Any]
    sites: Mapping[str, Site]
    artifacts: Mapping[str, Any]
    registries: Mapping[str, Mapping[str, Any]]
    allowed_bases: tuple[str, ...]
    secrets: Mapping[str, Mapping[str, Any]]
    clouds: Mapping[str, Mapping[str, Any]]
    allow_unsandboxed: bool
    updates: Limit
    deletions: Limit
    code_size: int
    machine: Machine
    outbound: Outbound
    forge: Forge | None

    @classmethod
    def from_document(cls, document: Document) -> Configuration:
        """From a document that passed the schema."""
        spec = document.data["spec"]
        limits = spec.get("limits", {})
        machine = spec.get("machine", {})
        return cls(
            document=document,
            branch=spec.get("branch", "main"),
            workspace=spec.get("workspace", {"type": "mlflow"}),
            sites={name: _site(name, site) for name, site in spec["sites"].items()},
            artifacts=spec.get("artifacts", {"type": "folder"}),
            registries=spec.get("registries", {"local": {"type": "oci-layout"}}),
            allowed_bases=tuple(spec.get("allowedBases", ())),
            secrets=spec.get("secrets", {}),
            clouds=spec.get("clouds", {}),
            allow_unsandboxed=spec.get("allowUnsandboxed", False),
            updates=_limit(limits.get("updates", {}), Limit(20, 0.5)),
            deletions=_limit(limits.get("deletions", {}), Limit(3, 0.3)),
            code_size=bytes_of(limits.get("codeSize", "20Mi")),
            machine=Machine(
                name=machine.get("name", Machine.name),
                email=machine.get("email", Machine.email),
                signing_key=machine.get("signingKey", {}).get("secret"),
            ),
            outbound=Outbound(
                proxy=spec.get("proxy", {}).get("https", ""),
                no_proxy=tuple(spec.get("proxy", {}).get("noProxy", ())),
                ca_bundle=spec.get("proxy", {}).get("caBundle", ""),
            ),
            forge=_forge(spec["forge"], spec.get("branch", "main")) if "forge" in spec else None,
        )

    @property
    def attaches(self) -> bool:
        """Whether the workspace is one that compute targets can be attached to."""
        return bool(self.workspace["type"] == "azureml")

    @property
    def workspace_name(self) -> str:
        """The workspace's name within its type, as release records hold it: `<resource group>/<name>`."""
        block = self.workspace
        return f"{block['resourceGroup']}/{block['name']}" if self.attaches else ""

    def registry(self, name: str | None) -> str:
        """The registry's name: the one given, or the first declared."""
        return name if name is not None else next(iter(self.registries))


def _site(name: str, value: Mapping[str, Any]) -> Site:
    datastores, labels = value.get("datastores", {}), tuple(value.get("runner", {}).get("labels", ()))
    return Site(name, tuple(value.get("networks", ())), value["state"], datastores, value.get("cloud"), labels)


def _forge(block: Mapping[str, Any], branch: str) -> Forge:
    return Forge(
        type=block["type"],
        block={**block, "branch": branch},
        environment=block.get("environment", "edgetrain-release"),
        own_push="app" in block and block.get("push", "app") == "app",
    )


def _limit(value: Mapping[str, Any], default: Limit) -> Limit:
    return Limit(value.get("absolute", default.absolute), value.get("relative", default.relative))
