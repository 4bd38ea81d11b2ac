"""What Azure ML takes, and who may: refused before it is sent; and nothing is asked before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from azureml_emulator import runs
from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import Denied, Rejected
from edgetrain.core.ports import CheckStatus, MetricPoint
from edgetrain.providers.azureml.tracking import PARAMETER_KEY, PARAMETERS_KEY
from edgetrain.providers.azureml.workspace import AzuremlWorkspace
from tests.contract.workspace import DIGEST
from tests.providers.azureml import support
from tests.providers.azureml.workspaces import Workspaces, a_run, changed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tags": {f"t{number}": "1" for number in range(60)}}, "TooManyEntries"),
        ({"tags": {"a b": "1"}}, "NameNotAllowed"),
        ({"tags": {'a" or b': "1"}}, "NameNotAllowed"),
        ({"tags": {"a": "x" * 1001}}, "ValueTooLong"),
        ({"metrics": {f"m{number}": 1.0 for number in range(51)}}, "TooManyMetrics"),
        ({"metrics": {"x" * 256: 1.0}}, "NameNotAllowed"),
        ({"metrics": {"m": float("nan")}}, "NotANumber"),
        ({"history": [MetricPoint("m", float("inf"), 0)]}, "NotANumber"),
        ({"parameters": {"p": "x" * 50_000}}, "ParametersTooLong"),
        ({"experiment": "a.b"}, "NameNotAllowed"),
    ],
)
def test_what_the_service_refuses_is_not_sent(
    workspace_emulator: RunningEmulator,
    workspace: AzuremlWorkspace,
    unique: str,
    changes: dict[str, Any],
    reason: str,
) -> None:
    with pytest.raises(Rejected) as raised:
        workspace.track(replace(a_run(unique), **changes))
    assert raised.value.reason == reason
    assert raised.value.fix
    assert changed(workspace_emulator) == []


@pytest.mark.parametrize("channel", ["", "a b", "a/b", 'a"', "x" * 81])
def test_channels_that_make_no_tag(workspace: AzuremlWorkspace, unique: str, channel: str) -> None:
    with pytest.raises(Rejected) as raised:
        workspace.alias(unique, channel, None)
    assert raised.value.reason == "NameNotAllowed"


def test_a_long_reason_of_a_withdrawal_is_shortened(workspace: AzuremlWorkspace, unique: str) -> None:
    workspace.register(unique, 1, "", DIGEST, {})
    workspace.mark(unique, 1, {"edgetrain.withdrawn": "wrong labels " * 200})
    told = workspace.observe([unique])[unique].versions[1].tags["edgetrain.withdrawn"]
    assert told.startswith("wrong labels ")
    assert told.endswith("…")


def test_parameters_are_properties(
    workspace_emulator: RunningEmulator, workspace: AzuremlWorkspace, unique: str
) -> None:
    few = {"reg": "0.5", "seed": "42"}
    many = {f"parameter-{number}": "x" * 50 for number in range(80)}
    for number, given in enumerate((few, many)):
        run_id = workspace.track(replace(a_run(unique, parameters=given), id=f"{unique}-{number}"))
        run = runs.get(workspace_emulator.emulator, run_id)
        assert run
        if given is few:
            assert {f"{PARAMETER_KEY}{key}": value for key, value in few.items()}.items() <= run[
                "properties"
            ].items()
        else:
            pieces = [run["properties"].get(f"{PARAMETERS_KEY}{piece}", "") for piece in range(40)]
            assert json.loads("".join(pieces)) == many


def test_an_ended_run_keeps_its_status(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    run_id = workspaces().track(a_run(unique, outcome="rejected"))
    workspaces().track(a_run(unique))
    run = runs.get(workspace_emulator.emulator, run_id)
    assert run
    assert (run["status"], run["tags"]["edgetrain.outcome"]) == ("Failed", "candidate")


# --- rights, and what is not asked -----------------------------------------------------------------------


def test_a_reader_may_look_and_is_told(
    workspace_emulator: RunningEmulator, workspaces: Workspaces, unique: str
) -> None:
    workspaces().register(unique, 1, "", DIGEST, {})
    who = {
        "auth": support.by_secret(workspace_emulator, "reader"),
        "secrets": {"sp": workspace_emulator.principal("reader")["clientSecret"]},
    }
    reader = workspaces(**who)
    assert set(reader.observe([unique])) == {unique}
    for act in (
        lambda: reader.track(a_run(unique)),
        lambda: reader.register(unique, 2, "", DIGEST, {}),
        lambda: reader.mark(unique, 1, {"a": "1"}),
        lambda: reader.alias(unique, "production", 1),
    ):
        with pytest.raises(Denied) as raised:
            act()
        assert raised.value.reason == "RightMissing"
    status = {check.name: check.status for check in reader.diagnose()}
    assert status["workspace-write"] is CheckStatus.FAIL
    assert {status[name] for name in ("workspace-sign-in", "workspace", "workspace-registry")} == {CheckStatus.PASS}


def test_where_asks_nobody(workspace_emulator: RunningEmulator, workspace: AzuremlWorkspace) -> None:
    options = workspace_emulator.emulator.options
    assert workspace.where() == (
        f"Azure ML workspace {options.workspace} in {options.group}: "
        f"https://ml.azure.com/?wsid={workspace_emulator.emulator.workspace_path}"
    )
    assert workspace.observe([]) == {}
    assert workspace_emulator.requests == []


def test_no_package_of_azure_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys\n"
        "import edgetrain.providers.azureml.workspace, edgetrain.providers.azureml.attachments\n"
        "packages = ('azureml', 'azure.cli', 'msal', 'msrest', 'requests', 'adal')\n"
        "print([name for name in packages if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
