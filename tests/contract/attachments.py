"""The contract of the attachments port: what every provider of it must do, run by a subclass per provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgetrain.core.digest import digest_of
from edgetrain.core.errors import Conflict
from edgetrain.core.ports import Attachments, TargetSettings, WantedAttachment
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
# What no provider may tell back: somebody gave it to a datastore by hand.
SECRET = "c2VjcmV0LWtleQ=="


def machine(state: Path, key: str = KEY, name: str = "gpu-01", **changes: object) -> TargetSettings:
    """Settings of an `azureml-vm` target."""
    block = {"resourceId": MACHINE, "port": 22, "username": "azureml", "privateKey": {"secret": "VM_KEY"}}
    return TargetSettings(name, {**block, **changes}, state, secret=lambda name: Secret(key))


def cluster(state: Path, name: str = "arc-01", **changes: object) -> TargetSettings:
    """Settings of an `azureml-kubernetes` target."""
    block = {"resourceId": CLUSTER, "namespace": "training"}
    return TargetSettings(name, {**block, **changes}, state)


def store(name: str = "hub_imaging", **changes: str) -> WantedAttachment:
    """A datastore as the planner asks for it."""
    fields = {
        "account": "imaging",
        "container": "xray",
        "endpoint": "st-anna.hosp.example",
        "protocol": "https",
        "credential": "none",
        **changes,
    }
    return WantedAttachment(name, "azure-blob", fields, digest_of({"type": "azure-blob", "fields": fields}))


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

    @abstractmethod
    def disown_datastore(self, name: str) -> None:
        """Take our tags from a datastore."""

    @abstractmethod
    def give_credential(self, name: str) -> None:
        """Give a datastore of ours a credential by hand: `SECRET`, where there is room for one."""

    @abstractmethod
    def remove_datastore(self, name: str) -> None:
        """Unregister it by hand."""

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

    def test_a_datastore_is_registered_as_wanted_and_once(self, attachments: Attachments, tmp_path: Path) -> None:
        assert "hub_imaging" not in attachments.datastores()
        made = attachments.register(store(), OWNER)
        found = attachments.datastores()["hub_imaging"]
        assert found == made
        assert (found.owner, found.digest, found.fields["credential"]) == (OWNER, store().digest, "none")
        assert store().drift(found) == {}
        before = self.writes()
        attachments.register(store(), OWNER)
        self.make(tmp_path / "site state").register(store(), OWNER)
        assert self.writes() == before

    def test_a_datastore_and_a_target_may_have_one_name(self, attachments: Attachments, tmp_path: Path) -> None:
        settings = cluster(tmp_path, "imaging")
        attachments.attach(attachments.wanted(settings, "azureml-kubernetes"), settings, OWNER)
        attachments.register(store("imaging"), OWNER)
        attachments.unregister("imaging", OWNER)
        assert "imaging" in attachments.attached()

    @pytest.mark.parametrize("field", ["account", "container", "endpoint"])
    def test_a_changed_datastore_shows_and_is_registered(self, attachments: Attachments, field: str) -> None:
        attachments.register(store(), OWNER)
        wanted = store(**{field: "other"})
        assert set(wanted.drift(attachments.datastores()["hub_imaging"])) == {field}
        attachments.register(wanted, OWNER)
        assert wanted.drift(attachments.datastores()["hub_imaging"]) == {}

    def test_a_credential_that_ours_was_given_shows_and_goes(self, attachments: Attachments) -> None:
        attachments.register(store(), OWNER)
        self.give_credential("hub_imaging")
        found = attachments.datastores()["hub_imaging"]
        assert set(store().drift(found)) == {"credential"}
        assert SECRET not in repr(found)
        attachments.register(store(), OWNER)
        assert store().drift(attachments.datastores()["hub_imaging"]) == {}

    def test_a_datastore_that_is_not_ours_is_left_alone(self, attachments: Attachments) -> None:
        attachments.register(store(), OWNER)
        before = self.writes()
        with pytest.raises(Conflict) as raised:
            attachments.register(store(container="other"), STRANGER)
        assert raised.value.reason == "NotOurs"
        with pytest.raises(Conflict) as raised:
            attachments.unregister("hub_imaging", STRANGER)
        assert raised.value.reason == "NotOurs"
        assert self.writes() == before
        self.disown_datastore("hub_imaging")
        with pytest.raises(Conflict):
            attachments.register(store(), OWNER)
        with pytest.raises(Conflict):
            attachments.unregister("hub_imaging", OWNER)
        assert self.writes() == before
        assert attachments.datastores()["hub_imaging"].owner == ""

    def test_unregistering_and_registering_again(self, attachments: Attachments) -> None:
        attachments.register(store(), OWNER)
        attachments.unregister("hub_imaging", OWNER)
        assert "hub_imaging" not in attachments.datastores()
        before = self.writes()
        attachments.unregister("hub_imaging", OWNER)
        assert self.writes() == before
        attachments.register(store(), OWNER)
        self.remove_datastore("hub_imaging")
        attachments.register(store(), OWNER)
        assert "hub_imaging" in attachments.datastores()
