"""The contract of the attachments port: what every provider of it must do, run by a subclass per provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgetrain.core.errors import Conflict
from edgetrain.core.ports import Attachments, TargetSettings
from edgetrain.core.secret import Secret

OWNER = "0123456789ab"
STRANGER = "ba9876543210"
MACHINE = (
    "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-edge"
    "/providers/Microsoft.Compute/virtualMachines/gpu-01"
)
CLUSTER = (
    "/subscriptions/00000000-0000-4000-8000-000000000001/resourceGroups/rg-edge"
    "/providers/Microsoft.Kubernetes/connectedClusters/arc-01"
)


def new_key() -> str:
    """A private key of its own, as a declared secret holds it."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


KEY = new_key()


def machine(state: Path, key: str = KEY, name: str = "gpu-01", **changes: object) -> TargetSettings:
    """Settings of an `azureml-vm` target."""
    block = {"resourceId": MACHINE, "port": 22, "username": "azureml", "privateKey": {"secret": "VM_KEY"}}
    return TargetSettings(name, {**block, **changes}, state, secret=lambda name: Secret(key))


def cluster(state: Path, name: str = "arc-01", **changes: object) -> TargetSettings:
    """Settings of an `azureml-kubernetes` target."""
    block = {"resourceId": CLUSTER, "namespace": "training"}
    return TargetSettings(name, {**block, **changes}, state)


class AttachmentsContract(ABC):
    """Subclass as `Test...`, and say how to make the provider and what it was asked to write."""

    @abstractmethod
    def make(self, state: Path) -> Attachments:
        """A provider; two of the same `state` are two views of one workspace."""

    @abstractmethod
    def writes(self) -> int:
        """How many writes reached the workspace until now, by a way that is not the provider's own."""

    @abstractmethod
    def disown(self, name: str) -> None:
        """Take our tags from an attachment, as somebody would by hand."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Detach it by hand."""

    @pytest.fixture
    def attachments(self, tmp_path: Path) -> Attachments:
        return self.make(tmp_path / "site state")

    def test_nothing_is_attached_at_first(self, attachments: Attachments) -> None:
        assert attachments.attached() == {}

    def test_what_is_attached_is_as_wanted(self, attachments: Attachments, tmp_path: Path) -> None:
        for settings, type_ in ((machine(tmp_path), "azureml-vm"), (cluster(tmp_path), "azureml-kubernetes")):
            wanted = attachments.wanted(settings, type_)
            made = attachments.attach(wanted, settings, OWNER)
            found = attachments.attached()[settings.name]
            assert found == made
            assert (found.name, found.type, found.state) == (settings.name, type_, "ready")
            assert (found.owner, found.digest) == (OWNER, wanted.digest)
            assert wanted.drift(found) == {}
        assert set(attachments.attached()) == {"gpu-01", "arc-01"}

    def test_attaching_again_writes_nothing(self, attachments: Attachments, tmp_path: Path) -> None:
        settings = machine(tmp_path)
        wanted = attachments.wanted(settings, "azureml-vm")
        attachments.attach(wanted, settings, OWNER)
        before = self.writes()
        attachments.attach(wanted, settings, OWNER)
        self.make(tmp_path / "site state").attach(wanted, settings, OWNER)
        assert self.writes() == before

    def test_what_is_wanted_holds_no_key(self, attachments: Attachments, tmp_path: Path) -> None:
        wanted = attachments.wanted(machine(tmp_path), "azureml-vm")
        assert "PRIVATE KEY" not in repr(wanted)
        assert wanted.fields["key"].startswith("SHA256:")
        assert wanted == attachments.wanted(machine(tmp_path), "azureml-vm")

    @pytest.mark.parametrize(
        ("field", "change"),
        [
            ("username", {"username": "other"}),
            ("port", {"port": 2222}),
            ("resourceId", {"resourceId": MACHINE + "b"}),
            ("key", {"key": new_key()}),
        ],
    )
    def test_a_change_shows_and_is_attached(
        self, attachments: Attachments, tmp_path: Path, field: str, change: dict[str, object]
    ) -> None:
        settings = machine(tmp_path)
        attachments.attach(attachments.wanted(settings, "azureml-vm"), settings, OWNER)
        changed = machine(tmp_path, **change)  # type: ignore[arg-type]
        wanted = attachments.wanted(changed, "azureml-vm")
        drift = wanted.drift(attachments.attached()["gpu-01"])
        assert set(drift) <= {field, "digest"}
        assert drift
        attachments.attach(wanted, changed, OWNER)
        assert wanted.drift(attachments.attached()["gpu-01"]) == {}

    @pytest.mark.parametrize("change", [{"namespace": "other"}, {"defaultInstanceType": "big"}])
    def test_a_changed_cluster_shows_and_is_attached(
        self, attachments: Attachments, tmp_path: Path, change: dict[str, object]
    ) -> None:
        settings = cluster(tmp_path)
        attachments.attach(attachments.wanted(settings, "azureml-kubernetes"), settings, OWNER)
        changed = cluster(tmp_path, **change)  # type: ignore[arg-type]
        wanted = attachments.wanted(changed, "azureml-kubernetes")
        assert wanted.drift(attachments.attached()["arc-01"])
        attachments.attach(wanted, changed, OWNER)
        assert wanted.drift(attachments.attached()["arc-01"]) == {}

    def test_what_is_not_ours_is_left_alone(self, attachments: Attachments, tmp_path: Path) -> None:
        settings = machine(tmp_path)
        wanted = attachments.wanted(settings, "azureml-vm")
        attachments.attach(wanted, settings, OWNER)
        before = self.writes()
        with pytest.raises(Conflict) as raised:
            attachments.attach(wanted, settings, STRANGER)
        assert raised.value.reason == "NotOurs"
        with pytest.raises(Conflict) as raised:
            attachments.detach("gpu-01", STRANGER)
        assert raised.value.reason == "NotOurs"
        assert self.writes() == before

    def test_what_bears_no_tag_of_ours_is_left_alone(self, attachments: Attachments, tmp_path: Path) -> None:
        settings = machine(tmp_path)
        wanted = attachments.wanted(settings, "azureml-vm")
        attachments.attach(wanted, settings, OWNER)
        self.disown("gpu-01")
        assert attachments.attached()["gpu-01"].owner == ""
        before = self.writes()
        with pytest.raises(Conflict):
            attachments.attach(wanted, settings, OWNER)
        with pytest.raises(Conflict):
            attachments.detach("gpu-01", OWNER)
        assert self.writes() == before
        assert "gpu-01" in attachments.attached()

    def test_detaching(self, attachments: Attachments, tmp_path: Path) -> None:
        settings = machine(tmp_path)
        attachments.attach(attachments.wanted(settings, "azureml-vm"), settings, OWNER)
        attachments.detach("gpu-01", OWNER)
        assert attachments.attached() == {}
        before = self.writes()
        attachments.detach("gpu-01", OWNER)
        assert self.writes() == before

    def test_what_was_detached_by_hand_is_attached_again(self, attachments: Attachments, tmp_path: Path) -> None:
        settings = machine(tmp_path)
        wanted = attachments.wanted(settings, "azureml-vm")
        attachments.attach(wanted, settings, OWNER)
        self.remove("gpu-01")
        assert attachments.attached() == {}
        attachments.attach(wanted, settings, OWNER)
        assert attachments.attached()["gpu-01"].state == "ready"
