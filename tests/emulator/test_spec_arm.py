"""Workspace and compute, asked by the unmodified client, against Microsoft's public descriptions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from tests.emulator import support
from tests.emulator.described import Description
from tests.emulator.test_compute import ARC, VM, Wire, payload

DATA_PLANE = "/rp/workspaces"
# Asked too, and described elsewhere: by Resource Manager itself, by sign-in, or nowhere.
ELSEWHERE = (
    "/subscriptions",
    "/discovery",
    "/workspaceOperationsStatus/",
    "/token",
    "/openid-configuration",
    "/resources",
)
DESCRIBED = {
    "Workspaces_Get",
    "Workspaces_ListByResourceGroup",
    "Workspaces_ListKeys",
    "Workspaces_ResyncKeys",
    "Workspaces_Update",
    "MachineLearningCompute_ListByWorkspace",
    "MachineLearningCompute_Get",
    "MachineLearningCompute_CreateOrUpdate",
    "MachineLearningCompute_Delete",
    "MachineLearningCompute_ListKeys",
}


def held(emulator: RunningEmulator, description: Description) -> tuple[set[str], list[str]]:
    """The described operations that were asked for, and what is wrong with them."""
    names, faults = set(), []
    for entry in emulator.requests:
        path = entry["path"].removeprefix(DATA_PLANE)
        operation = description.operation(entry["method"], path)
        if operation is None:
            assert any(part in path for part in ELSEWHERE), path
            continue
        names.add(operation.name)
        faults += description.faults(entry, path)
    return names, faults


def test_client_and_emulator_speak_as_described(
    make_emulator: Callable[..., RunningEmulator], machine: support.Machine
) -> None:
    emulator = make_emulator(hosts={VM: machine.address}, page_size=1)
    from azureml.core import Workspace
    from azureml.core.compute import ComputeTarget, KubernetesCompute, RemoteCompute
    from azureml.exceptions import ComputeTargetException

    ws = support.connect(emulator)
    options = emulator.emulator.options
    Workspace.list(options.subscription, auth=ws._auth, resource_group=options.group)
    ws.update(friendly_name="Edge", tags={"site": "st-anna"})
    ws.sync_keys()
    assert (support.connect(emulator).get_details()["friendlyName"], ws.tags) == ("Edge", {"site": "st-anna"})
    vm = ComputeTarget.attach(
        ws,
        "edge1",
        RemoteCompute.attach_configuration("trainer", resource_id=VM, private_key_file=str(machine.key)),
    )
    vm.wait_for_completion()
    cluster = ComputeTarget.attach(
        ws, "cluster1", KubernetesCompute.attach_configuration(resource_id=ARC, namespace="ml")
    )
    cluster.wait_for_completion()
    assert set(ws.compute_targets) == {"edge1", "cluster1"}
    vm.get_credentials()
    emulator.emulator.faults.fail_attachment("edge2", "VmDeallocated", "It is not running.")
    ComputeTarget.attach(
        ws,
        "edge2",
        RemoteCompute.attach_configuration("trainer", resource_id=VM, private_key_file=str(machine.key)),
    )
    assert ComputeTarget(ws, "edge2").get_status() == "Failed"
    with pytest.raises(ComputeTargetException):
        ComputeTarget(ws, "nowhere")
    with pytest.raises(ComputeTargetException):
        ComputeTarget.attach(
            ws, "edge3", RemoteCompute.attach_configuration("trainer", address="198.51.100.1", password="x")
        )
    vm.detach()
    wire = Wire(emulator)
    wire("PUT", body=payload(machine))
    support.ask(
        emulator, "POST", f"{emulator.emulator.workspace_path}/listKeys?api-version=2019-06-01", {}, wire.token
    )
    wire("DELETE", "nothing", query="?api-version=2020-02-02&underlyingResourceAction=Detach")
    names, faults = held(emulator, Description("arm.json"))
    assert faults == []
    assert names == DESCRIBED


def entry(emulator: RunningEmulator, machine: support.Machine) -> dict[str, Any]:
    """A logged attachment."""
    Wire(emulator)("PUT", body=payload(machine))
    return copy.deepcopy(emulator.requests[-1])


def test_a_departure_is_seen(make_emulator: Callable[..., RunningEmulator], machine: support.Machine) -> None:
    emulator = make_emulator(hosts={VM: machine.address})
    description = Description("arm.json")
    good = entry(emulator, machine)
    assert description.faults(good, good["path"]) == []

    def broken(change: Callable[[dict[str, Any]], Any]) -> list[str]:
        bad = copy.deepcopy(good)
        change(bad)
        return description.faults(bad, bad["path"])

    assert broken(lambda e: e["answer"].update(more=1)), "an answer that says more"
    assert broken(lambda e: e["answer"]["properties"]["properties"].update(more=1)), "deep inside too"
    assert broken(lambda e: e["answer"]["properties"].update(provisioningState="Fine"))
    assert broken(lambda e: e["answer"]["tags"].update(a=1))
    assert broken(lambda e: e["answer"]["properties"].update(createdOn=1))
    assert broken(lambda e: e["query"].clear())
    assert broken(lambda e: e["answerHeaders"].clear())
    assert broken(lambda e: e["body"]["properties"]["properties"].update(sshPort="22"))
    assert broken(lambda e: e.update(status=202))
    assert broken(lambda e: e.update(status=404, answer={"code": "x"}))
