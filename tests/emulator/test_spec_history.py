"""Run history, artifacts and execution, asked by the unmodified client, against Microsoft's public descriptions."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from tests.emulator import history, support
from tests.emulator.described import Description

# Described nowhere in public: what the client sends there is known from the client alone.
UNDESCRIBED = re.compile(
    r"/(metric/v2\.0|content/v[12]\.0|rp/workspaces)/.*|.*/metricsingest/wait|/history/v1\.0/.*/runs/[^/]+(?<!query)"
    r"|/(azureml|snapshots)/.*|/discovery.*|/subscriptions.*|.*/token|.*/openid-configuration|.*/tags:delete"
)
SERVICES = ("/history/", "/execution/", "/artifact/")


def by_name(path: str) -> str:
    """The description names experiments; the client mixes names and ids, and both mean the same here."""
    return re.sub(r"/experimentids/[^/]+(?=/(runs|batch)[/:])", "/experiments/x", path)


def as_described(entry: dict[str, Any]) -> dict[str, Any]:
    """The same with a submission's keys as they are described: the client begins them with capitals."""
    if not entry["path"].endswith("/snapshotrun"):
        return entry
    body = {key[0].lower() + key[1:]: value for key, value in entry["body"].items()}
    # What the client adds to each of the two is not described.
    return {**entry, "body": body}


def held(emulator: RunningEmulator, description: Description) -> tuple[set[str], list[str]]:
    """The described operations that were asked for, and what is wrong with them."""
    names, faults = set(), []
    for entry in emulator.requests:
        path = by_name(entry["path"])
        operation = description.operation(entry["method"], path)
        if operation is None:
            assert UNDESCRIBED.fullmatch(path), path
            continue
        assert path.startswith(SERVICES)
        names.add(operation.name)
        faults += description.faults(as_described(entry), path)
    return names, faults


def use(emulator: RunningEmulator, folder: Path) -> None:
    """Everything that is described, in the client's own way."""
    from azureml._restclient.exceptions import ServiceException
    from azureml._restclient.run_artifacts_client import RunArtifactsClient
    from azureml._restclient.run_client import RunClient
    from azureml.core import Experiment, Run

    workspace = support.connect(emulator)
    history.still(emulator)
    history.attach(workspace)
    experiment = Experiment(workspace, "exp1")
    experiment.set_tags({"team": "edge"})
    Experiment.list(workspace, tags={"team": "edge"})
    submitted = experiment.submit(history.configured(history.project(folder / "code"), "--x"), tags={"a": "b"})
    submitted.get_details()
    submitted.cancel()
    run = experiment.start_logging(snapshot_directory=None, display_name="shown")
    run.tag("sha", "abc")
    run.tag("empty")
    run.remove_tags(["sha"])
    run.add_properties({"p": "1"})
    with pytest.raises(ServiceException):
        run.add_properties({"p": "2"})
    run.create_children(count=2)
    list(run.get_children())
    (folder / "one.txt").write_text("one", encoding="utf-8")
    run.upload_file("outputs/one.txt", str(folder / "one.txt"))
    run.get_file_names()
    run.download_file("outputs/one.txt", str(folder / "back.txt"))
    run.download_files("outputs", str(folder / "down"))
    older = RunArtifactsClient(workspace.service_context, "exp1")
    list(older.get_file_paths(run.id))
    history.ask(
        emulator,
        "GET",
        "history/v1.0",
        f"experiments/exp1/runs/{run.id}/artifacts/contentinfo?path=outputs/one.txt",
    )
    run.fail("broken", error_code="Broken")
    Run.get(workspace, run.id).get_details()
    list(experiment.get_runs(tags={"a": "b"}))
    # Without its experiment's id the client asks by name, as inside a run.
    RunClient(workspace.service_context, "exp1", run.id).get_run()


def test_client_and_emulator_speak_as_described(emulator: RunningEmulator, tmp_path: Path) -> None:
    use(emulator, tmp_path)
    description = Description("history.json")
    names, faults = held(emulator, description)
    assert faults == []
    assert {operation.name for operation in description.operations} - names == set()


def test_a_departure_is_seen(emulator: RunningEmulator, tmp_path: Path) -> None:
    use(emulator, tmp_path)
    description = Description("history.json")

    def broken(name: str, change: Callable[[dict[str, Any]], Any]) -> list[str]:
        for logged in emulator.requests:
            path = by_name(logged["path"])
            operation = description.operation(logged["method"], path)
            if operation and operation.name == name and logged["status"] == 200:
                entry = copy.deepcopy(as_described(logged))
                assert description.faults(entry, path) == []
                change(entry)
                return description.faults(entry, path)
        raise AssertionError(f"{name} was not asked for")

    assert broken("Runs_Patch", lambda e: e["answer"].update(invented=1))
    assert broken("Runs_Patch", lambda e: e["answer"]["tags"].update(number=1))
    assert broken("Runs_Patch", lambda e: e["body"].update(tags=["a"]))
    assert broken("Runs_GetByQuery", lambda e: e["body"].update(filter=1))
    assert broken("Runs_GetByQuery", lambda e: e["answer"]["value"].append({"runNumber": "1"}))
    assert broken("Execution_StartSnapshotRun", lambda e: e["body"].pop("snapshotId"))
    assert broken("Execution_StartSnapshotRun", lambda e: e["body"]["configuration"].update(nodeCount="1"))
    assert broken("Execution_StartSnapshotRun", lambda e: e["answer"].clear())
    assert broken("Artifacts_BatchCreateEmptyArtifacts", lambda e: e["body"].clear())
    assert broken("Events_Post", lambda e: e.update(answer={"a": 1}))
    assert broken("Events_Post", lambda e: e.update(status=204))
    assert broken("Runs_Get", lambda e: e.update(status=404, answer={"message": "gone"}))
