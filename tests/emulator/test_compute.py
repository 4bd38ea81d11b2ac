"""Compute: attached, read, listed and detached by the unmodified client, and what the service refuses."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from azureml_emulator import computes
from azureml_emulator.message import Refused
from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import Tokens
from tests.emulator import support

pytestmark = pytest.mark.long(0.3)

GROUP = "/subscriptions/00000000-0000-4000-8000-0000000000a1/resourceGroups/rg-edge/providers/"
VM = GROUP + "Microsoft.Compute/virtualMachines/vm1"
ARC = GROUP + "Microsoft.Kubernetes/connectedClusters/arc1"
VERSION = "?api-version=2020-02-02"

FLOW = f"""
from azureml.core.compute import ComputeTarget, KubernetesCompute, RemoteCompute
ws = connect(given["as"])
wanted = RemoteCompute.attach_configuration(
    username="trainer", resource_id="{VM}", private_key_file=given["key"], ssh_port=22)
vm = ComputeTarget.attach(ws, "edge1", wanted)
vm.wait_for_completion()
cluster = ComputeTarget.attach(
    ws, "cluster1", KubernetesCompute.attach_configuration(resource_id="{ARC}", namespace="ml"))
cluster.wait_for_completion()
there = {{name: type(found).__name__ for name, found in ws.compute_targets.items()}}
keys = vm.get_credentials()
states = [vm.get_status(), cluster.provisioning_state]
vm.detach()
cluster.detach()
answer = {{"there": there, "states": states, "namespace": cluster.namespace, "left": list(ws.compute_targets),
          "user": keys["administratorAccount"]["username"], "address": vm.address,
          "types": list(cluster.instance_types)}}
"""


@pytest.fixture
def attachable(
    make_emulator: Callable[..., RunningEmulator], machine: support.Machine
) -> Callable[..., RunningEmulator]:
    """Starts an emulator that maps the VM's id to the machine."""
    return lambda **options: make_emulator(hosts={VM: machine.address}, **options)


@pytest.mark.parametrize(("topology", "tenant"), [("A", None), ("B", None), ("B", "adfs")])
def test_client_attaches_and_detaches(
    attachable: Callable[..., RunningEmulator],
    machine: support.Machine,
    tmp_path: Path,
    topology: str,
    tenant: str | None,
) -> None:
    emulator = attachable()
    told = support.outside(emulator, topology, FLOW, tmp_path / "home", key=str(machine.key), **{"as": tenant})
    assert told == {
        "there": {"edge1": "RemoteCompute", "cluster1": "KubernetesCompute"},
        "states": ["Succeeded", "Succeeded"],
        "namespace": "ml",
        "left": [],
        "user": "trainer",
        "address": "127.0.0.1",
        "types": ["defaultinstancetype"],
    }
    log = (emulator.folder / "requests.jsonl").read_text()
    assert "administratorAccount" in log
    key_text = machine.key.read_text().splitlines()[1]
    assert key_text not in log
    assert "PRIVATE KEY" not in log
    assert emulator.principal()["clientSecret"] not in log
    assert "eyJ" not in log


def payload(machine: support.Machine, **changes: Any) -> dict[str, Any]:
    """What the client sends, with tags."""
    account = {
        "username": "trainer",
        "privateKeyData": machine.key.read_text(),
        "publicKeyData": "",
        "password": "",
    }
    return {
        "location": "local",
        "tags": {"edgetrain.owner": "abc"},
        "properties": {
            "computeType": "VirtualMachine",
            "resourceId": VM,
            "properties": {"address": None, "sshPort": 22, "administratorAccount": account},
            **changes,
        },
    }


class Wire:
    """Compute without the client."""

    def __init__(self, emulator: RunningEmulator, principal: str = "owner") -> None:
        self.emulator = emulator
        self.token = Tokens(emulator.emulator).issue(principal, "arm")
        self.base = emulator.emulator.workspace_path + "/computes"

    def __call__(self, method: str, name: str = "edge1", body: Any = None, query: str = VERSION) -> Any:
        path = f"{self.base}/{name}" if name else self.base
        return support.ask(self.emulator, method, path + query, body, self.token)

    def operation(self, headers: dict[str, str]) -> Any:
        path = headers["azure-asyncoperation"].removeprefix(self.emulator.url)
        return support.ask(self.emulator, "GET", path, None, self.token)[1]


def test_tags_travel_and_change(attachable: Callable[..., RunningEmulator], machine: support.Machine) -> None:
    wire = Wire(attachable())
    status, made, headers = wire("PUT", body=payload(machine))
    assert status == 201
    assert made["tags"] == {"edgetrain.owner": "abc"}
    assert wire.operation(headers)["status"] == "Succeeded"
    assert wire("PATCH", body={"tags": {"edgetrain.owner": "abc", "edgetrain.digest": "d"}})[0] == 200
    assert wire("GET")[1]["tags"] == {"edgetrain.owner": "abc", "edgetrain.digest": "d"}
    assert wire("PATCH", body={"properties": {}})[0] == 400
    assert wire("PUT", body=payload(machine))[0] == 200, "attached again over what was there"
    assert wire("GET")[1]["tags"] == {"edgetrain.owner": "abc"}


def test_account_is_never_read_back_but_by_list_keys(
    attachable: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    emulator = attachable()
    wire = Wire(emulator)
    made = wire("PUT", body=payload(machine))[1]
    for document in (made, wire("GET")[1], wire("GET", "")[1]["value"][0]):
        assert "PRIVATE KEY" not in str(document)
        assert "administratorAccount" not in str(document)
    status, keys, _ = support.ask(emulator, "POST", f"{wire.base}/edge1/listKeys{VERSION}", {}, wire.token)
    assert status == 200
    assert keys["administratorAccount"]["privateKeyData"] == machine.key.read_text()
    reader = Tokens(emulator.emulator).issue("reader", "arm")
    assert support.ask(emulator, "POST", f"{wire.base}/edge1/listKeys{VERSION}", {}, reader)[0] == 403


def test_reach_gives_the_executor_what_it_needs(
    attachable: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    emulator = attachable()
    Wire(emulator)("PUT", body=payload(machine))
    reach = computes.reach(emulator.emulator, "EDGE1")
    assert (reach.host, reach.port, reach.username) == ("127.0.0.1", machine.port, "trainer")
    assert reach.private_key == machine.key.read_text()
    assert reach.host_key == machine.host_key.export_public_key().decode().strip()
    with pytest.raises(Refused, match="no attached machine"):
        computes.reach(emulator.emulator, "other")


def test_attaching_fails_where_the_key_is_refused(
    attachable: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    wire = Wire(attachable())
    body = payload(machine)
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    body["properties"]["properties"]["administratorAccount"]["privateKeyData"] = other
    status, _, headers = wire("PUT", body=body)
    assert status == 201
    operation = wire.operation(headers)
    assert operation["status"] == "Failed"
    assert operation["error"]["code"] == "SshAuthenticationFailed"
    assert "trainer" in operation["error"]["message"]
    found = wire("GET")[1]["properties"]
    assert found["provisioningState"] == "Failed"
    assert found["provisioningErrors"][0]["error"]["code"] == "SshAuthenticationFailed"


def test_attaching_fails_where_nothing_listens(
    attachable: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    wire = Wire(attachable())
    machine_gone = payload(machine)
    wire.emulator.change(hosts={VM: "127.0.0.1:1"})
    operation = wire.operation(wire("PUT", body=machine_gone)[2])
    assert operation["status"] == "Failed"
    assert operation["error"]["code"] == "SshConnectionFailed"


def test_client_is_told_why_attaching_failed(
    attachable: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    emulator = attachable()
    from azureml.core.compute import ComputeTarget, RemoteCompute
    from azureml.exceptions import ComputeTargetException

    ws = support.connect(emulator)
    emulator.emulator.faults.fail_attachment("edge1", "VmDeallocated", "The virtual machine is not running.")
    wanted = RemoteCompute.attach_configuration("trainer", resource_id=VM, private_key_file=str(machine.key))
    target = ComputeTarget.attach(ws, "edge1", wanted)
    said = io.StringIO()
    with pytest.raises(ComputeTargetException, match="not running"), contextlib.redirect_stdout(said):
        target.wait_for_completion(show_output=True)
    assert ComputeTarget(ws, "edge1").get_status() == "Failed"


def test_slow_attachment_and_detachment(
    attachable: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    wire = Wire(attachable(slow=3600.0))
    _, made, headers = wire("PUT", body=payload(machine))
    assert made["properties"]["provisioningState"] == "Creating"
    assert wire.operation(headers)["status"] == "InProgress"
    with pytest.raises(Refused, match="is Creating"):
        computes.reach(wire.emulator.emulator, "edge1")
    status, _, headers = wire("DELETE", query=VERSION + "&underlyingResourceAction=detach")
    assert status == 202
    assert wire.operation(headers)["status"] == "InProgress"
    assert wire("GET")[1]["properties"]["provisioningState"] == "Deleting"
    assert wire("PUT", body=payload(machine))[0] == 409


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("x", {}, "ValidationError"),
        ("1edge", {}, "ValidationError"),
        ("edge_1", {}, "ValidationError"),
        ("a" * 25, {}, "ValidationError"),
        ("edge1", {"resourceId": GROUP + "Microsoft.Compute/virtualMachines/other"}, "ResourceNotFound"),
        ("edge1", {"resourceId": "vm1"}, "InvalidResourceId"),
        ("edge1", {"resourceId": None}, "ValidationError"),
        ("edge1", {"computeType": "AmlCompute"}, "UnsupportedComputeType"),
        ("edge1", {"properties": {"sshPort": 22}}, "ValidationError"),
        ("edge1", {"properties": {"sshPort": "22", "administratorAccount": {"username": "a"}}}, "ValidationError"),
        (
            "edge1",
            {"properties": {"administratorAccount": {"username": "a b", "password": "p"}}},
            "ValidationError",
        ),
    ],
)
def test_what_strict_rules_refuse(
    attachable: Callable[..., RunningEmulator],
    machine: support.Machine,
    name: str,
    changes: dict[str, Any],
    code: str,
) -> None:
    wire = Wire(attachable())
    status, said, _ = wire("PUT", name, payload(machine, **changes))
    assert (status, said["error"]["code"]) == (400, code)
    assert wire("GET", name)[0] == 404


@pytest.mark.parametrize("tags", [{"a": 1}, {"a" * 513: ""}, {"a": "b" * 257}, {"a/b": ""}, ["a"]])
def test_tags_have_limits(attachable: Callable[..., RunningEmulator], machine: support.Machine, tags: Any) -> None:
    assert Wire(attachable())("PUT", body={**payload(machine), "tags": tags})[0] == 400


def test_address_is_refused_or_allowed(
    attachable: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    wire = Wire(attachable())
    body = payload(machine, resourceId=None)
    body["properties"]["properties"] |= {"address": "127.0.0.1", "sshPort": machine.port}
    status, said, _ = wire("PUT", body=body)
    assert (status, said["error"]["code"]) == (400, "AttachByAddressNotSupported")
    wire.emulator.change(attach_by_address="allow")
    status, made, headers = wire("PUT", body=body)
    assert status == 201
    assert made["properties"]["resourceId"] is None
    assert wire.operation(headers)["status"] == "Succeeded"


def test_detaching(attachable: Callable[..., RunningEmulator], machine: support.Machine) -> None:
    wire = Wire(attachable())
    wire("PUT", body=payload(machine))
    assert wire("DELETE")[0] == 400, "the action is required"
    assert wire("DELETE", query=VERSION + "&underlyingResourceAction=Delete")[0] == 400, "it is the customer's"
    assert wire("DELETE", query=VERSION + "&underlyingResourceAction=Detach")[0] == 202
    assert wire("GET")[0] == 404
    assert wire("DELETE", query=VERSION + "&underlyingResourceAction=Detach")[0] == 204


def test_lists_lag_and_come_in_pages(attachable: Callable[..., RunningEmulator], machine: support.Machine) -> None:
    emulator = attachable(page_size=2)
    wire = Wire(emulator)
    for number in range(5):
        wire("PUT", f"edge{number}", payload(machine))
    from azureml.core.compute import ComputeTarget

    ws = support.connect(emulator)
    assert [target.name for target in ComputeTarget.list(ws)] == [f"edge{number}" for number in range(5)]
    emulator.change(lag=3600.0)
    assert ComputeTarget.list(ws) == []
    assert wire("GET", "edge3")[0] == 200, "by name it is seen at once"


def test_reader_may_read_only(attachable: Callable[..., RunningEmulator], machine: support.Machine) -> None:
    emulator = attachable()
    owner, reader = Wire(emulator), Wire(emulator, "reader")
    owner("PUT", body=payload(machine))
    assert reader("GET")[0] == 200
    for method, body in (("PUT", payload(machine)), ("PATCH", {"tags": {}}), ("DELETE", None)):
        status, said, _ = reader(method, body=body, query=VERSION + "&underlyingResourceAction=detach")
        assert (status, said["error"]["code"]) == (403, "AuthorizationFailed")
    assert owner("GET")[1]["tags"] == {"edgetrain.owner": "abc"}


def test_attached_compute_outlives_a_restart(
    attachable: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    first = attachable()
    Wire(first)("PUT", body=payload(machine))
    port, workspace = first.port, first.emulator.workspace_id
    first.stop()
    again = attachable(folder=first.folder)
    assert (again.port, again.emulator.workspace_id) == (port, workspace)
    assert Wire(again)("GET")[1]["tags"] == {"edgetrain.owner": "abc"}
    assert computes.reach(again.emulator, "edge1").private_key == machine.key.read_text()
