"""An ssh target over a testbed VM, as tests see it from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetrain.core.ports import BaseImage, TargetSettings
from edgetrain.core.secret import Secret
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.providers.ssh.provider import SshCompute
from testbed.base_image import Base
from testbed.vm import Vm


class SshTarget:
    """One target; `block` changes the manifest's, `work` is its own on the VM."""

    def __init__(self, vm: Vm, base: Base, state: Path, work: str, **block: Any) -> None:
        self.vm, self.base, self.state, self.work = vm, base, state, work
        self.python = base.python
        self.image = f"registry.example/base/{base.kind}@{base.digest}"
        self.block = block
        self.grace = 30.0

    def settings(self, capacity: Mapping[str, Any] | None = None) -> TargetSettings:
        """As the manifest and the site give them."""
        block = {
            "host": self.vm.address,
            "port": self.vm.port,
            "username": self.vm.username,
            "hostKeys": self.vm.host_keys,
            "privateKey": {"secret": "site-key"},
            "workFolder": self.work,
            "connectTimeout": "5s",
            "keepAlive": "1s",
            "runRetention": "0s",
        }
        return TargetSettings(
            name="edge-vm",
            block={**block, **self.block},
            state=self.state,
            networks=(self.vm.network,),
            secret=self.secret,
            engine="podman",
            capacity=capacity or {},
            base=self.base_image,
        )

    def secret(self, name: str) -> Secret:
        """The declared secrets."""
        assert name == "site-key"
        return Secret(self.vm.private_key.read_text())

    def base_image(self, reference: str) -> BaseImage:
        """The base image from a layout on this machine."""
        layout = OciLayoutRegistry(root=self.base.layout.parent)
        return layout.base(f"{self.base.layout.name}@{reference.rpartition('@')[2]}")

    def connect(self) -> SshCompute:
        """A new instance, with a connection of its own."""
        return SshCompute(self.settings(), grace=self.grace)

    def folder(self, run_id: str) -> Path:
        """Where the run lies, as this machine reaches it."""
        return self.vm.path(f"{self.work}/runs/{run_id}")

    def crash(self, run_id: str) -> None:
        """Kill the supervisor at once."""
        found = json.loads((self.folder(run_id) / "started").read_text())
        self.vm.run(["kill", "-KILL", str(found["pid"])])

    def alive(self, run_id: str) -> bool:
        """Whether any process of this machine has the run's environment."""
        spec = json.loads((self.folder(run_id) / "spec.json").read_text())
        mark = f"EDGETRAIN_PARAMS={spec['launch']['env']['EDGETRAIN_PARAMS']}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes():
                    return True
            except OSError:  # gone meanwhile
                continue
        return False
