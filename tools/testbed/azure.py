"""A site whose workspace is Azure ML: the emulator stands for the service, with a VM of the site attached to it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Self

from azureml_emulator.options import Options
from azureml_emulator.server import RunningEmulator, start
from testbed.base_image import Base, base
from testbed.part import cache_folder
from testbed.site import SITE, Testbed
from testbed.vm import Vm

RESOURCE = "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.Compute/virtualMachines/{}"


class AzureSite(Testbed):
    """A testbed with an emulator before its registry. Clients reach it by the service's own host names.

    The VMs have a second key, the one that Azure is given; `options` are the emulator's.
    """

    __test__ = False

    def __init__(self, *, vms: int = 1, **options: Any) -> None:
        super().__init__(vms=vms, auth="open")
        self._options = options
        self._count_emulators = 0
        self.emulator: RunningEmulator

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            for vm in self.vms:
                self._second_key(vm)
            self._parts.callback(self._stop)
            self.renew()
        except BaseException:
            self.close()
            raise
        return self

    def renew(self, **options: Any) -> None:
        """Begin with an empty workspace; `options` are the emulator's from now on."""
        self._stop()
        self._options = {**self._options, **options}
        self._count_emulators += 1
        self.emulator = start(self.settings())
        self.secret("azure-client-secret", self.emulator.principal()["clientSecret"])

    def _stop(self) -> None:
        if self._count_emulators:
            self.emulator.stop()

    def settings(self) -> Options:
        """How the emulator is started, here or by a person."""
        options: dict[str, Any] = {
            "folder": self.folder / f"emulator-{self._count_emulators}",
            "registry": f"http://127.0.0.1:{self.registry.port}",
            "hosts": {self.resource(vm): f"{vm.address}:{vm.port}" for vm in self.vms},
            "onward": True,
            "cache": cache_folder() / "azureml-environments",
        }
        return Options(**{**options, **self._options})

    def resource(self, vm: Vm) -> str:
        """The id under which the emulator knows the VM as a resource of Azure."""
        return RESOURCE.format(Options.subscription, Options.group, vm.name)

    def secret(self, name: str, value: str) -> None:
        """Put a secret where the runner host keeps them."""
        file = self.secrets / name
        file.touch(mode=0o600)
        file.write_text(value)

    @property
    def acr(self) -> str:
        """The registry's host, as Azure names it."""
        return f"{self.emulator.emulator.options.acr}.azurecr.io"

    def push(self, kind: str) -> str:
        """Put a base image behind the registry; its reference by the name that Azure gives it."""
        image = self.image(kind)
        image.push(self.registry)
        return f"{self.acr}/base/{kind}@{image.digest}"

    @staticmethod
    def image(kind: str) -> Base:
        """A base image: `train` or `serve`."""
        return base("train" if kind == "train" else "serve")

    def workspace(self, cloud: str = "") -> dict[str, Any]:
        """The `workspace` block of edgetrain.yaml."""
        options, owner = self.emulator.emulator.options, self.emulator.principal()
        return {
            "type": "azureml",
            "subscription": options.subscription,
            "resourceGroup": options.group,
            "name": options.workspace,
            **({"cloud": cloud} if cloud else {}),
            "auth": {
                "type": "service-principal",
                "tenant": options.tenant,
                "clientId": owner["clientId"],
                "clientSecret": {"secret": "azure-client-secret"},
            },
        }

    def azure(self, state: Path, *bases: str) -> dict[str, Any]:
        """The `spec` of edgetrain.yaml; `bases` are references of `push`."""
        near = sorted({self.address, *(vm.address for vm in self.vms), "127.0.0.1", "localhost"})
        return {
            **self.configuration(state),
            "workspace": self.workspace(),
            "registries": {"acr": {"type": "oci", "host": self.acr, "credential": {"workspace": True}}},
            "allowedBases": list(bases),
            "proxy": {
                "https": self.emulator.proxy_url,
                "noProxy": near,
                "caBundle": str(self.emulator.certificates.bundle),
            },
        }

    def attached(self, vm: Vm | None = None, **block: Any) -> dict[str, Any]:
        """The `spec` of the compute manifest of a VM that Azure ML reaches; `block` adds to `azuremlVm`."""
        chosen = vm or self.vm
        own = self.compute(chosen)
        return {
            **own,
            "type": "azureml-vm",
            "site": SITE,
            "azuremlVm": {
                "resourceId": self.resource(chosen),
                "port": chosen.port,
                "username": chosen.username,
                "privateKey": {"secret": f"{chosen.name}-azure-key"},
                **block,
            },
        }

    def _second_key(self, vm: Vm) -> None:
        key = self.folder / f"{vm.name}-azure-key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "azureml", "-f", str(key)]
        subprocess.run(command, check=True)
        line = Path(f"{key}.pub").read_text(encoding="utf-8")
        vm.run(["tee", "-a", f"/etc/ssh/authorized_keys/{vm.username}"], input=line)
        self.secret(f"{vm.name}-azure-key", key.read_text(encoding="utf-8"))
