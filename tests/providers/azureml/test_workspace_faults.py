"""The Azure ML workspace when the service fails, or its caller is killed, at any step: then whole, and once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import experiments, metrics, models, runs
from azureml_emulator.faults import ALWAYS
from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import ProviderError, Transient
from edgetrain.core.ports import MetricPoint, TrackedRun
from edgetrain.providers.azureml.workspace import AzuremlWorkspace
from tests.contract.workspace import DIGEST, RUN
from tests.providers.azureml import support

pytestmark = pytest.mark.long(0.3)

STEPS = 60
POINTS = [MetricPoint("loss", 1 / (step + 1), step) for step in range(300)]
BYTES = r"PUT "
# Requests that write, and the batch that may have arrived although nobody heard of it.
WRITES = (
    r"PATCH .*/runs/",
    r"POST .*/events",
    r"POST .*/metric/.*/batch",
    r"POST .*/artifacts/batch/metadata/",
    BYTES,
    r"POST .*/assets",
    r"POST .*/models\??$",
    r"PATCH .*/models/",
)


def a_run() -> TrackedRun:
    name = f"f{uuid.uuid4().hex[:12]}"
    metrics_of = {"loss": POINTS[-1].value, "accuracy": 0.9}
    return replace(RUN, id=f"{name}-0123456789ab-1", experiment=name, history=POINTS, metrics=metrics_of)


def bring(workspace: AzuremlWorkspace, run: TrackedRun) -> None:
    """What an apply tells the workspace of one run and its version."""
    run_id = workspace.track(run)
    workspace.register(run.experiment, 1, run_id, DIGEST, {"edgetrain.commit": "c0ffee"})
    workspace.alias(run.experiment, "production", 1)


def assert_whole(emulator: RunningEmulator, workspace: AzuremlWorkspace, run: TrackedRun) -> None:
    """Everything is there, and nothing twice."""
    stand_in, name = emulator.emulator, run.experiment
    identity = experiments.named(stand_in, name)["experimentId"]
    assert [one["runId"] for one in runs.every(stand_in) if one["experimentId"] == identity] == [run.id]
    made = runs.get(stand_in, run.id)
    assert made
    assert made["status"] == "Completed"
    assert made["tags"] == {**run.tags, "edgetrain.run": run.id, "edgetrain.outcome": run.outcome}
    assert made["properties"]["edgetrain.complete"] == "true"
    for metric, expected in (("loss", [(p.step, p.value) for p in POINTS]), ("accuracy", [(0, 0.9)])):
        held = metrics.get(stand_in, run.id, metric)
        assert held
        assert [(row["step"], row["data"][metric]) for row in held["rows"]] == expected
    assert [n for n in range(1, 9) if models.model(stand_in, f"{name}:{n}")] == [1]
    seen = workspace.observe([name])[name]
    assert seen.versions[1].tags["edgetrain.commit"] == "c0ffee"
    assert seen.channels == {"production": 1}


@pytest.fixture
def workspaces(workspace_emulator: RunningEmulator, tmp_path: Path) -> Callable[[], AzuremlWorkspace]:
    """Makes workspaces as other processes would have them, opened."""

    def make() -> AzuremlWorkspace:
        session = support.session(workspace_emulator, tmp_path / "state", "B")
        assert session.workspace.name == session.name
        return AzuremlWorkspace(session)

    return make


@pytest.mark.parametrize("served", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("part", range(3))
def test_killed_at_any_step(
    workspace_emulator: RunningEmulator,
    workspaces: Callable[[], AzuremlWorkspace],
    served: bool,
    part: int,
) -> None:
    """Its last request is lost, or only the answer to it; after that it asks for nothing more."""
    killed = 0
    for step in range(part, STEPS, 3):
        run, workspace = a_run(), workspaces()
        if served:
            workspace_emulator.fault(r".", reset=True, after=True, skip=step)
            workspace_emulator.fault(r".", reset=True, count=ALWAYS)
        else:
            workspace_emulator.fault(r".", reset=True, skip=step, count=ALWAYS)
        ended = False
        try:
            bring(workspace, run)
            ended = True
        except ProviderError as error:
            assert isinstance(error, Transient), error.message
            killed += 1
        finally:
            workspace_emulator.emulator.faults.clear()
        again = workspaces()
        bring(again, run)
        assert_whole(workspace_emulator, again, run)
        if ended:
            break
    assert ended, "more steps than were tried"
    assert killed >= 4


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 401},
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 429},
        {"status": 500},
        {"status": 503, "after": True},
        {"reset": True},
        {"reset": True, "after": True},
    ],
    ids=str,
)
def test_a_failure_of_each_write_is_mended_at_once(
    workspace_emulator: RunningEmulator, workspaces: Callable[[], AzuremlWorkspace], fault: dict[str, Any]
) -> None:
    workspace, run = workspaces(), a_run()
    for match in WRITES:
        # Bytes are put by a signed address, not by a token.
        if match != BYTES or fault.get("status") != 401:
            workspace_emulator.fault(match, **fault)
    bring(workspace, run)
    assert workspace_emulator.emulator.faults.listed() == []
    assert_whole(workspace_emulator, workspace, run)


def test_a_pointer_that_arrived_unheard_is_left_and_another_one_put(
    workspace_emulator: RunningEmulator, workspaces: Callable[[], AzuremlWorkspace]
) -> None:
    """The client of the blob service itself may try again, and is told that its bytes are there."""
    workspace, run = workspaces(), a_run()
    workspace_emulator.fault(BYTES, status=409, after=True)
    bring(workspace, run)
    assert workspace_emulator.emulator.faults.listed() == []
    assert_whole(workspace_emulator, workspace, run)


def test_a_service_that_stays_away_is_told_of(
    workspace_emulator: RunningEmulator, workspaces: Callable[[], AzuremlWorkspace]
) -> None:
    workspace, run = workspaces(), a_run()
    workspace_emulator.fault(r"/modelmanagement/", status=503, count=ALWAYS)
    with pytest.raises(Transient) as raised:
        workspace.observe([run.experiment])
    assert raised.value.reason == "ServiceFault"
    # The tries of calls inside calls don't multiply.
    assert len(support.asked(workspace_emulator, "/modelmanagement/")) <= 5
    with pytest.raises(Transient):
        workspace.register(run.experiment, 1, "", DIGEST, {})
    assert len(support.asked(workspace_emulator, "/modelmanagement/")) <= 10
