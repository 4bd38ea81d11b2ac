"""Targets of Azure ML over an emulator, as tests see them from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from azureml_emulator.server import RunningEmulator
from edgetrain.core.ports import Outbound, Settings, TargetSettings
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.attachments import AzuremlAttachments
from edgetrain.providers.azureml.compute_kubernetes import AzuremlKubernetesCompute
from edgetrain.providers.azureml.compute_vm import AzuremlVmCompute
from edgetrain.providers.azureml.deadlines import PATIENCE, Patience
from edgetrain.providers.azureml.session import Session
from edgetrain.providers.local.prepare import this_python
from testbed.base_image import Base
from testbed.vm import Vm
from tests.contract.compute import until
from tests.contract.ssh_target import SshTarget
from tests.emulator.executing import CLUSTER, VM

OWNER = "0123456789ab"


def workspace_settings(running: RunningEmulator, state: Path, principal: str = "owner") -> Settings:
    """The emulator's workspace as `edgetrain.yaml` would have it, by the service's own host names."""
    options, who = running.emulator.options, running.principal(principal)
    block = {
        "type": "azureml",
        "subscription": options.subscription,
        "resourceGroup": options.group,
        "name": options.workspace,
        "auth": {
            "type": "service-principal",
            "tenant": options.tenant,
            "clientId": who["clientId"],
            "clientSecret": {"secret": "azure-secret"},
        },
    }
    outbound = Outbound(proxy=running.proxy_url, ca_bundle=str(running.certificates.authority))
    secret = Secret(who["clientSecret"])
    return Settings(name="workspace", block=block, state=state, outbound=outbound, secret=lambda name: secret)


def script_alive(mark: bytes) -> bool:
    """Whether any process of this machine has this in its environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes():
                return True
        except OSError:  # gone meanwhile
            continue
    return False


def check(running: RunningEmulator) -> None:
    """That nothing was asked for that the emulator does not know, and that it had no fault of its own."""
    assert running.emulator.log.failures == []
    assert running.emulator.log.unknown_routes == []


class AzuremlVmTarget(SshTarget):
    """A testbed VM that is attached to the emulator's workspace."""

    def __init__(
        self, running: RunningEmulator, vm: Vm, base: Base, state: Path, work: str, interpreter: str = ""
    ) -> None:
        super().__init__(vm, base, state, work)
        self.running, self.interpreter = running, interpreter
        self.finalizing = 900.0
        self.session = Session(workspace_settings(running, state))

    def azure_settings(self) -> TargetSettings:
        """As the manifest and the site give them."""
        ssh = self.settings()
        block = {
            "resourceId": VM,
            "port": 22,
            "username": self.vm.username,
            "privateKey": {"secret": "azureml-key"},
        }
        if self.interpreter:
            block["interpreter"] = self.interpreter
        fields = {**vars(ssh), "block": block, "ssh": ssh.block, "workspace": self.session.settings}
        return TargetSettings(**fields)

    def secret(self, name: str) -> Secret:
        """The declared secrets: what Azure is given opens nothing else."""
        return Secret(self.second_key().read_text()) if name == "azureml-key" else super().secret(name)

    def second_key(self) -> Path:
        """The key that Azure is given; made, and let in by the VM, when it is first asked for."""
        key = self.vm.private_key.with_name("azureml-key")
        if not key.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "azureml", "-f", str(key)]
            subprocess.run(command, check=True)
            line = Path(f"{key}.pub").read_text(encoding="utf-8")
            self.vm.run(["tee", "-a", f"/etc/ssh/authorized_keys/{self.vm.username}"], input=line)
        return key

    def attach(self) -> None:
        """Attach the VM to the workspace, as apply would."""
        attachments, settings = AzuremlAttachments(self.session), self.azure_settings()
        attachments.attach(attachments.wanted(settings, "azureml-vm"), settings, OWNER)

    def connect(self, patience: Patience = PATIENCE) -> AzuremlVmCompute:  # type: ignore[override]
        """A new instance."""
        return AzuremlVmCompute(self.azure_settings(), self.session, self.grace, self.finalizing, patience)


class AzuremlKubernetesTarget:
    """A cluster whose pods are processes of this machine; `work` is the pods' work folder."""

    python = this_python()
    image = None

    def __init__(self, running: RunningEmulator, state: Path, work: Path) -> None:
        self.running, self.state, self.work = running, state, work
        self.session = Session(workspace_settings(running, state))
        self.grace = 30.0

    def settings(self, **block: Any) -> TargetSettings:
        """As the manifest and the site give them; the image's Python is this one."""
        image = f"registry.example/pod@sha256:{'0' * 64}"
        settled = {"resourceId": CLUSTER, "namespace": "ml", "workFolder": str(self.work), "image": image, **block}
        return TargetSettings(name="arc1", block=settled, state=self.state, workspace=self.session.settings)

    def attach(self) -> None:
        """Attach the cluster, and let its pods be looked at."""
        attachments, settings = AzuremlAttachments(self.session), self.settings()
        attachments.attach(attachments.wanted(settings, "azureml-kubernetes"), settings, OWNER)
        compute = self.connect()
        compute.probe()
        until(lambda: compute.observe().reason not in ("Probing", "NotProbed"), "the probe to end")

    def connect(self, patience: Patience = PATIENCE) -> AzuremlKubernetesCompute:
        """A new instance."""
        return AzuremlKubernetesCompute(self.settings(), self.session, self.grace, patience)

    def folder(self, run_id: str) -> Path:
        """Where the run lies in its pod."""
        return self.work / "runs" / run_id

    def crash(self, run_id: str) -> None:
        """End the pod at once: the wrapper, the supervisor and all below it."""
        wrapper = f"{os.sep}run.py".encode()
        found = json.loads((self.folder(run_id) / "started").read_text())
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words, cwd = (entry / "cmdline").read_bytes().split(b"\0"), (entry / "cwd").readlink()
            except OSError:
                continue
            mine = cwd.is_relative_to(self.running.folder)
            if mine and len(words) > 1 and (words[1] == b"run.py" or words[1].endswith(wrapper)):
                os.kill(int(entry.name), signal.SIGKILL)
        os.killpg(found["pid"], signal.SIGKILL)

    def alive(self, run_id: str) -> bool:
        """Whether any process has this run's environment."""
        spec: Mapping[str, Any] = json.loads((self.folder(run_id) / "spec.json").read_text())
        return script_alive(f"EDGETRAIN_PARAMS={spec['env']['EDGETRAIN_PARAMS']}".encode())


PODS_PYTHON = sys.executable
