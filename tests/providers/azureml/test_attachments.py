"""Attached compute: by resource id or address, slow, failed, changed by hand, cut short; and where the key goes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from azureml_emulator import computes
from azureml_emulator.faults import ALWAYS
from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import Conflict, Denied, Rejected, Stopped, Transient
from edgetrain.core.ports import Attachment
from edgetrain.providers.azureml.attachments import AzuremlAttachments, fingerprint
from tests.contract.attachments import CLUSTER, KEY, MACHINE, OWNER, cluster, machine
from tests.contract.compute import until
from tests.emulator.support import Machine
from tests.providers.azureml import support

pytestmark = pytest.mark.long(0.3)


class Clock:
    """Seconds that pass only by waiting; then the service has moved on as far."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)


@pytest.fixture
def there(workspace_emulator: RunningEmulator, tmp_path: Path) -> Iterator[Machine]:
    """The machine behind `MACHINE`. What a test leaves attached is detached."""
    found = Machine(tmp_path, open=True)
    workspace_emulator.change(hosts={MACHINE: found.address})
    yield found
    found.stop()
    workspace_emulator.change(slow=0.0)
    for name in [one["name"] for _, one in workspace_emulator.emulator.store.scan(computes.KIND)]:
        computes.detach(workspace_emulator.emulator, name)
        computes.get(workspace_emulator.emulator, name)


def attachments(
    emulator: RunningEmulator, state: Path, clock: Clock | None = None, **more: Any
) -> AzuremlAttachments:
    """As another process would have them."""
    clock = clock or Clock()
    session = support.session(emulator, state, **more)
    return AzuremlAttachments(session, clock=lambda: clock.now, sleep=clock.sleep)


def attach(made: AzuremlAttachments, settings: Any, type_: str = "azureml-vm") -> Attachment:
    return made.attach(made.wanted(settings, type_), settings, OWNER)


def writes(emulator: RunningEmulator) -> list[dict[str, Any]]:
    return [one for one in emulator.requests if one["method"] in ("PUT", "PATCH", "DELETE")]


@pytest.mark.usefixtures("there")
def test_the_key_goes_to_the_service_and_nowhere_else(
    workspace_emulator: RunningEmulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.NOTSET)
    made = attachments(workspace_emulator, tmp_path / "state")
    attach(made, machine(tmp_path))
    held = computes.get(workspace_emulator.emulator, "gpu-01")
    assert held
    assert held["tags"] == {
        "edgetrain.owner": OWNER,
        "edgetrain.target": "gpu-01",
        "edgetrain.digest": made.wanted(machine(tmp_path), "azureml-vm").digest,
        "edgetrain.key": asyncssh.import_private_key(KEY).get_fingerprint(),
    }
    assert computes.account(workspace_emulator.emulator, "gpu-01")["privateKeyData"] == KEY
    secret = KEY.splitlines()[1]
    for path in (tmp_path / "state").rglob("*"):
        assert not path.is_file() or secret not in path.read_text("utf-8", "replace")
    assert secret not in caplog.text
    assert support.asked(workspace_emulator, "listKeys") == []


@pytest.mark.usefixtures("there")
def test_an_address_is_refused_with_the_other_ways(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    settings = machine(tmp_path, resourceId="", address="127.0.0.1")
    with pytest.raises(Rejected) as raised:
        attach(attachments(workspace_emulator, tmp_path / "state"), settings)
    assert raised.value.reason == "AttachByAddressRefused"
    assert "resourceId" in raised.value.fix
    assert "type ssh" in raised.value.fix
    assert attachments(workspace_emulator, tmp_path / "state").attached() == {}


def test_an_address_where_it_is_still_taken(
    workspace_emulator: RunningEmulator, tmp_path: Path, there: Machine
) -> None:
    workspace_emulator.change(attach_by_address="allow")
    settings = machine(tmp_path, resourceId="", address="127.0.0.1", port=there.port)
    made = attachments(workspace_emulator, tmp_path / "state")
    assert attach(made, settings).fields["address"] == "127.0.0.1"
    assert made.wanted(settings, "azureml-vm").drift(made.attached()["gpu-01"]) == {}


@pytest.mark.usefixtures("there")
def test_a_machine_that_refuses_the_key_is_told_of_and_mended(
    workspace_emulator: RunningEmulator, tmp_path: Path
) -> None:
    workspace_emulator.emulator.faults.fail_attachment("gpu-01", "SshAuthenticationFailed", "refused user azureml")
    made = attachments(workspace_emulator, tmp_path / "state")
    with pytest.raises(Rejected) as raised:
        attach(made, machine(tmp_path))
    assert raised.value.reason == "AttachFailed"
    assert "SshAuthenticationFailed: refused user azureml" in raised.value.message
    found = made.attached()["gpu-01"]
    assert (found.state, found.owner) == ("failed", OWNER)
    assert "refused user azureml" in found.message
    assert attach(made, machine(tmp_path)).state == "ready"


def test_a_machine_that_is_away(workspace_emulator: RunningEmulator, tmp_path: Path, there: Machine) -> None:
    there.stop()
    try:
        with pytest.raises(Rejected) as raised:
            attach(attachments(workspace_emulator, tmp_path / "state"), machine(tmp_path))
        assert "SshConnectionFailed" in raised.value.message
    finally:
        there.__init__(tmp_path, open=True)  # type: ignore[misc]


@pytest.mark.usefixtures("there")
def test_slow_provisioning_ends_in_time_and_is_not_begun_anew(
    workspace_emulator: RunningEmulator, tmp_path: Path
) -> None:
    workspace_emulator.change(slow=3600.0)
    clock = Clock()
    with pytest.raises(Transient) as raised:
        attach(attachments(workspace_emulator, tmp_path / "state", clock), machine(tmp_path))
    assert raised.value.reason == "AttachmentSlow"
    assert 900 <= clock.now <= 910
    assert max(clock.waits) == 5.0
    assert attachments(workspace_emulator, tmp_path / "state").attached()["gpu-01"].state == "attaching"
    sent = len(writes(workspace_emulator))

    def provisioned(seconds: float) -> None:
        document = workspace_emulator.emulator.store.get(computes.KIND, "gpu-01")
        assert document
        workspace_emulator.emulator.store.put(computes.KIND, "gpu-01", {**document, "_ready": 0.0})

    session = support.session(workspace_emulator, tmp_path / "state")
    assert attach(AzuremlAttachments(session, sleep=provisioned), machine(tmp_path)).state == "ready"
    assert len(writes(workspace_emulator)) == sent


@pytest.mark.usefixtures("there")
def test_lists_that_lag_attach_nothing_twice(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    workspace_emulator.change(lag=3600.0)
    attach(attachments(workspace_emulator, tmp_path / "state"), machine(tmp_path))
    sent = len(writes(workspace_emulator))
    again = attachments(workspace_emulator, tmp_path / "state")
    assert again.attached() == {}
    attach(again, machine(tmp_path))
    assert len(writes(workspace_emulator)) == sent


@pytest.mark.usefixtures("there")
def test_somebody_attaches_it_anew_by_hand(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    made = attachments(workspace_emulator, tmp_path / "state")
    attach(made, cluster(tmp_path), "azureml-kubernetes")
    held = computes.get(workspace_emulator.emulator, "arc-01")
    assert held
    theirs = {"computeType": "Kubernetes", "resourceId": CLUSTER.upper(), "properties": {"namespace": "other"}}
    body = {"location": "local", "tags": held["tags"], "properties": theirs}
    computes.attach(workspace_emulator.emulator, "arc-01", body)
    wanted = made.wanted(cluster(tmp_path), "azureml-kubernetes")
    assert wanted.drift(made.attached()["arc-01"]) == {"namespace": ("training", "other")}
    attach(made, cluster(tmp_path), "azureml-kubernetes")
    assert wanted.drift(made.attached()["arc-01"]) == {}
    computes.attach(workspace_emulator.emulator, "arc-01", {**body, "tags": {}})
    with pytest.raises(Conflict) as raised:
        attach(made, cluster(tmp_path), "azureml-kubernetes")
    assert raised.value.reason == "NotOurs"


@pytest.mark.usefixtures("there")
def test_instance_types_show_as_they_were_declared(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    types = {"gpu": {"nodeSelector": {"a": "b"}, "requests": {"cpu": 1}, "limits": {"nvidia.com/gpu": 1}}}
    settings = cluster(tmp_path, instanceTypes=types, defaultInstanceType="gpu")
    made = attachments(workspace_emulator, tmp_path / "state")
    found = attach(made, settings, "azureml-kubernetes")
    wanted = made.wanted(settings, "azureml-kubernetes")
    assert wanted.drift(found) == {}
    assert found.fields["instanceTypes"]["gpu"]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    larger = {"gpu": {**types["gpu"], "requests": {"cpu": 2}}}
    drift = made.wanted(cluster(tmp_path, instanceTypes=larger), "azureml-kubernetes").drift(found)
    assert set(drift) == {"instanceTypes"}


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("name", ["x", "1a2", "a" * 25, "a_b", "ends-"])
def test_names_that_azure_ml_takes_not(workspace_emulator: RunningEmulator, tmp_path: Path, name: str) -> None:
    with pytest.raises(Rejected) as raised:
        attachments(workspace_emulator, tmp_path / "state").wanted(machine(tmp_path, name=name), "azureml-vm")
    assert raised.value.reason == "NameNotAllowed"
    assert workspace_emulator.requests == []


def test_a_secret_that_is_no_key(tmp_path: Path) -> None:
    locked = asyncssh.generate_private_key("ssh-ed25519").export_private_key(passphrase="secret-words").decode()
    for text in ("no key at all", locked):
        with pytest.raises(Rejected) as raised:
            fingerprint(text)
        assert raised.value.reason == "InvalidKey"
        assert text[:20] not in raised.value.message


@pytest.mark.usefixtures("there")
def test_a_reader_attaches_nothing(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    who = {
        "auth": support.by_secret(workspace_emulator, "reader"),
        "secrets": {"sp": workspace_emulator.principal("reader")["clientSecret"]},
    }
    made = attachments(workspace_emulator, tmp_path / "state", **who)
    with pytest.raises(Denied) as raised:
        attach(made, machine(tmp_path))
    assert raised.value.reason == "RightMissing"
    assert KEY.splitlines()[1] not in raised.value.message
    assert made.attached() == {}


@pytest.mark.usefixtures("there")
def test_asked_to_stop_it_waits_no_more(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    """What was begun goes on, and the next apply finds it."""
    made, settings, stop = attachments(workspace_emulator, tmp_path / "state"), machine(tmp_path), threading.Event()
    stop.set()
    workspace_emulator.change(slow=2.0)
    try:
        for act in (
            lambda: made.attach(made.wanted(settings, "azureml-vm"), settings, OWNER, stop),
            lambda: made.detach("gpu-01", OWNER, stop),
        ):
            with pytest.raises(Stopped):
                act()
    finally:
        workspace_emulator.change(slow=0.0)
    until(lambda: made.attached() == {}, "what was begun to be done")


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("served", [False, True], ids=["before", "after"])
def test_killed_at_any_step(workspace_emulator: RunningEmulator, tmp_path: Path, served: bool) -> None:
    """Attach and detach: the last request is lost, or only the answer to it, and no other follows."""
    settings, ended, step = machine(tmp_path), False, 0
    while not ended:
        made = attachments(workspace_emulator, tmp_path / "state")
        assert made.attached() == {}
        assert made._session.workspace.name == made._session.name
        if served:
            workspace_emulator.fault(r".", reset=True, after=True, skip=step)
        workspace_emulator.fault(r".", reset=True, skip=0 if served else step, count=ALWAYS)
        try:
            attach(made, settings)
            made.detach("gpu-01", OWNER)
            ended = True
        except Transient:
            step += 1
        finally:
            workspace_emulator.emulator.faults.clear()
        again = attachments(workspace_emulator, tmp_path / "state")
        assert attach(again, settings).state == "ready"
        assert set(again.attached()) == {"gpu-01"}
        again.detach("gpu-01", OWNER)
        assert step < 30
    assert step >= 4


@pytest.mark.usefixtures("there")
def test_a_key_that_changed_since_the_plan(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    made = attachments(workspace_emulator, tmp_path / "state")
    wanted = made.wanted(machine(tmp_path), "azureml-vm")
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    with pytest.raises(Conflict) as raised:
        made.attach(wanted, machine(tmp_path, key=other), OWNER)
    assert raised.value.reason == "KeyChanged"
    assert made.attached() == {}
