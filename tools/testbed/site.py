"""A whole site on one machine: blob store, registry, VMs, and the manifests and secrets that a repository needs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.azurite import Azurite
from testbed.base_image import Base, base
from testbed.ca import Authority
from testbed.part import remove, scratch_folder
from testbed.registry import Auth, Registry
from testbed.vm import HOST_ADDRESSES, Vm

ANYWHERE = "0.0.0.0"  # noqa: S104
CONTAINER = "site-data"
SITE = "plant"


class Testbed:
    """A site with `vms` VMs. All speak TLS under authorities of the testbed's own.

    `secrets` is a folder with one file per secret, as a runner host would have it. The site's services are named by
    `address`, which is this machine for the runner and for all VMs.
    """

    __test__ = False  # pytest: not a test class, whatever its name

    def __init__(self, *, vms: int = 1, auth: Auth = "token", account: str = "plantblobs") -> None:
        self.folder = scratch_folder("site")
        self.secrets = self.folder / "secrets"
        self.secrets.mkdir(mode=0o700)
        self._count, self._auth, self._account = vms, auth, account
        self._parts = contextlib.ExitStack()
        self.vms: list[Vm] = []
        self.azurite: Azurite
        self.registry: Registry

    @property
    def vm(self) -> Vm:
        """The first VM."""
        return self.vms[0]

    @property
    def address(self) -> str:
        """This machine as the site knows it."""
        return self.vm.host_address

    def __enter__(self) -> Self:
        try:
            for number in range(1, self._count + 1):
                self.vms.append(self._parts.enter_context(Vm(f"edge-vm-{number}")))
            authority = Authority(self.folder / "ca")
            tls = authority.issue("127.0.0.1", *HOST_ADDRESSES, name="blobs")
            store = Azurite(bind=ANYWHERE, account=self._account, tls=tls, ca_bundle=authority.bundle)
            self.azurite = self._parts.enter_context(store)
            self.azurite.put(CONTAINER, {})
            registry = Registry(self._auth, host=self.address, bind=ANYWHERE)
            self.registry = self._parts.enter_context(registry)
        except BaseException:
            self.close()
            raise
        self._write_secrets()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all parts and remove what they wrote."""
        try:
            self._parts.close()
        finally:
            remove(self.folder)

    def seed(self, folder: Path) -> None:
        """Put all files of a folder into the blob store, as the site's private data."""
        self.azurite.put_folder(CONTAINER, folder)

    def base(self) -> Base:
        """The training base, pushed to the site's registry."""
        image = base("train")
        image.push(self.registry)
        return image

    def configuration(self, state: Path, *, image: Base | None = None) -> dict[str, Any]:
        """The `spec` of edgetrain.yaml for this site; `state` is its durable folder."""
        blobs: dict[str, Any] = {
            "type": "azure-blob",
            "endpoint": self.azurite.endpoint_at(self.address),
            "container": CONTAINER,
            "caBundle": str(self.azurite.ca_bundle),
            "credential": {"accountKey": {"secret": "blob-key"}},
        }
        site = {
            "networks": sorted({vm.network for vm in self.vms}),
            "state": str(state),
            "datastores": {"site-data": {**blobs, "requireEgress": "enforced"}},
        }
        registry: dict[str, Any] = {"type": "oci", "host": self.registry.name, "caBundle": self.registry.ca_bundle}
        if self.registry.auth != "open":
            password = {"secret": "registry-password"}
            registry["credential"] = {"username": self.registry.username, "password": password}
        return {
            "sites": {SITE: site},
            "artifacts": {**blobs, "prefix": "edgetrain"},
            "registries": {"site": registry},
            "allowedBases": [image.reference(self.registry)] if image else [],
            "secrets": {file.name: {"source": {"file": str(file)}} for file in sorted(self.secrets.iterdir())},
        }

    def compute(self, vm: Vm | None = None, **ssh: Any) -> dict[str, Any]:
        """The `spec` of the VM's compute manifest; `ssh` adds to its block of that name."""
        chosen = vm or self.vm
        return {
            "type": "ssh",
            "site": SITE,
            "ssh": {
                "host": chosen.address,
                "port": chosen.port,
                "username": chosen.username,
                "hostKeys": chosen.host_keys,
                "privateKey": {"secret": f"{chosen.name}-key"},
                **ssh,
            },
            "engine": "podman",
            "capacity": {"cpus": 2, "memory": "2Gi", "slots": 2},
        }

    def _write_secrets(self) -> None:
        values: Mapping[str, str] = {
            "blob-key": self.azurite.key,
            "registry-password": self.registry.password,
            **{f"{vm.name}-key": vm.private_key.read_text() for vm in self.vms},
        }
        for name, value in values.items():
            file = self.secrets / name
            file.touch(mode=0o600)
            file.write_text(value)
