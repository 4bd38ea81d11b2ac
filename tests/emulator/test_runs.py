"""Run history: the unmodified client makes, changes, submits and finds runs; what the service refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azureml_emulator import experiments, runs
from azureml_emulator.message import Refused
from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import Tokens
from tests.emulator import history, support

pytestmark = pytest.mark.long(0.3)

ERRORS: dict[str, Any] = {"code": "UserError", "message": "m", "details": []}


def test_interactive_run(emulator: RunningEmulator, tmp_path: Path) -> None:
    from azureml.core import Experiment, Run

    workspace = support.connect(emulator)
    experiment = Experiment(workspace, "exp1")
    run = experiment.start_logging(snapshot_directory=None, display_name="first")
    assert run.get_status() == "Running"
    run.tag("plain", "1")
    run.tag("with blank", "2")
    run.tag("without value")
    run.set_tags({"more": "3"})
    run.add_properties({"digest": "abc"})
    run.display_name = "renamed"
    run.description = "said"
    kept = Run.get(workspace, run.id)
    assert kept.get_tags() == {"plain": "1", "with blank": "2", "without value": None, "more": "3"}
    assert kept.get_properties()["digest"] == "abc"
    assert (kept.display_name, kept.description) == ("renamed", "said")
    run.remove_tags(["plain", "never there"])
    assert "plain" not in run.get_tags()
    run.complete()
    details = run.get_details()
    assert details["status"] == "Completed"
    assert details["startTimeUtc"] <= details["endTimeUtc"]
    assert details["submittedBy"] == "owner"


def test_failed_run(emulator: RunningEmulator) -> None:
    from azureml.core import Experiment

    run = Experiment(support.connect(emulator), "exp1").start_logging(snapshot_directory=None)
    run.fail(error_details="it broke", error_code="Broken")
    details = run.get_details()
    assert details["status"] == "Failed"
    assert (details["error"]["error"]["code"], details["error"]["error"]["message"]) == ("Broken", "it broke")


def test_children(emulator: RunningEmulator) -> None:
    from azureml.core import Experiment

    experiment = Experiment(support.connect(emulator), "exp1")
    root = experiment.start_logging(snapshot_directory=None)
    made = root.create_children(tag_key="fold", tag_values=["1", "2", "3"])
    grandchild = made[0].child_run("inner")
    other = experiment.start_logging(snapshot_directory=None)
    assert {run.id for run in root.get_children()} == {run.id for run in made}
    assert {run.id for run in root.get_children(recursive=True)} == {*(run.id for run in made), grandchild.id}
    assert {run.id for run in made[0].get_children(recursive=True)} == {grandchild.id}
    assert [run.id for run in root.get_children(tags={"fold": "2"})] == [made[1].id]
    assert {run.id for run in experiment.get_runs()} == {root.id, other.id}
    assert len(list(experiment.get_runs(include_children=True))) == 6
    assert grandchild.parent.id == made[0].id
    assert runs.needed(emulator.emulator, grandchild.id)["rootRunId"] == root.id
    numbers = [run.number for run in (root, *made, grandchild, other)]
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


def test_queries_and_pages(emulator: RunningEmulator) -> None:
    from azureml._restclient.experiment_client import ExperimentClient
    from azureml.core import Experiment

    workspace = support.connect(emulator)
    experiment = Experiment(workspace, "exp1")
    made = [experiment.start_logging(snapshot_directory=None) for _ in range(4)]
    made[0].tag("site hub", "north")
    made[1].tag("site hub", "south")
    made[1].add_properties({"kind": "b"})
    made[2].tag("empty")

    def found(**wanted: Any) -> list[str]:
        return [run.id for run in experiment.get_runs(**wanted)]

    assert found() == [run.id for run in reversed(made)]
    assert found(tags={"site hub": "north"}) == [made[0].id]
    assert set(found(tags="site hub")) == {made[0].id, made[1].id}
    assert found(tags="empty") == [made[2].id]
    assert found(tags={"site hub": "south"}, properties={"kind": "b"}) == [made[1].id]
    assert found(tags={"site hub": "north"}, properties={"kind": "b"}) == []
    before = len(emulator.requests)
    client = ExperimentClient(workspace.service_context, "exp1", experiment_id=experiment.id)
    assert [run.run_id for run in client.get_runs(page_size=1)] == found()
    asked = [entry for entry in emulator.requests[before:] if entry["path"].endswith("runs:query")]
    assert len(asked) >= 4
    status, said = history.ask(emulator, "POST", "history/v1.0", "experiments/exp1/runs:query", {"filter": "x y z"})
    assert (status, said["error"]["code"]) == (400, "UserError")


def test_experiments(emulator: RunningEmulator) -> None:
    from azureml.core import Experiment

    workspace = support.connect(emulator)
    one, two = Experiment(workspace, "one"), Experiment(workspace, "two")
    one.set_tags({"team": "edge"})
    one.tag("more", "x")
    assert [found.name for found in Experiment.list(workspace, tags={"team": "edge"})] == ["one"]
    assert {found.name for found in Experiment.list(workspace)} == {"one", "two"}
    one.remove_tags(["more"])
    assert Experiment(workspace, "one").tags == {"team": "edge"}
    two.archive()
    assert {found.name for found in Experiment.list(workspace)} == {"one"}
    two.reactivate()
    one.start_logging(snapshot_directory=None)
    assert Experiment(workspace, "one").id == one.id
    Experiment.delete(workspace, two.id)
    assert {found.name for found in Experiment.list(workspace)} == {"one"}


def test_submission_is_the_same_run_again(emulator: RunningEmulator, tmp_path: Path) -> None:
    from azureml._common.exceptions import AzureMLException
    from azureml.core import Experiment

    workspace = support.connect(emulator)
    executor = history.still(emulator)
    history.attach(workspace)
    folder = history.project(tmp_path / "code")
    experiment = Experiment(workspace, "exp1")
    # The first answer is lost: the client, or whoever uses it, asks again under the same id.
    emulator.fault("snapshotrun", 500, after=True)
    with contextlib.suppress(AzureMLException):
        experiment.submit(history.configured(folder, "--lr", "0.1"), run_id="mine-1", tags={"sha": "abc"})
    if executor.submissions == ["mine-1"]:
        experiment.submit(history.configured(folder, "--lr", "0.1"), run_id="mine-1", tags={"sha": "abc"})
    run = workspace.get_run("mine-1")
    assert run.id == "mine-1"
    assert run.get_status() == "NotStarted"
    assert executor.submissions == ["mine-1", "mine-1"]
    again = experiment.submit(history.configured(folder, "--lr", "0.1"), run_id="mine-1")
    assert (again.id, again.number) == (run.id, 1)
    assert [found.id for found in experiment.get_runs()] == ["mine-1"]
    with pytest.raises(AzureMLException, match="409"):
        experiment.submit(history.configured(folder, "--lr", "0.2"), run_id="mine-1")
    history.project(folder, train="print('other')\n")
    with pytest.raises(AzureMLException, match="409"):
        experiment.submit(history.configured(folder, "--lr", "0.1"), run_id="mine-1")
    kept = runs.needed(emulator.emulator, "mine-1")
    assert kept["_definition"]["Configuration"]["arguments"] == ["--lr", "0.1"]
    assert kept["tags"] == {"sha": "abc"}
    assert kept["properties"]["ContentSnapshotId"]
    shown = run.get_details()["runDefinition"]
    assert shown["script"] == "train.py"


def test_refused_submissions(emulator: RunningEmulator, tmp_path: Path) -> None:
    from azureml._common.exceptions import AzureMLException
    from azureml.core import Experiment

    workspace = support.connect(emulator)
    history.still(emulator)
    history.attach(workspace)
    folder = history.project(tmp_path / "code")
    experiment = Experiment(workspace, "exp1")
    with pytest.raises(AzureMLException, match=r"pattern|letters"):
        experiment.submit(history.configured(folder), run_id="not/allowed here")
    status, said = history.ask(
        emulator,
        "POST",
        "execution/v1.0",
        "experiments/exp1/snapshotrun?runId=r1",
        {"Configuration": {"script": "train.py", "target": "nowhere"}, "SnapshotId": "s"},
    )
    assert status == 400
    assert "nowhere" in said["error"]["message"]
    assert list(experiment.get_runs()) == []


def test_cancel(emulator: RunningEmulator, tmp_path: Path) -> None:
    from azureml.core import Experiment

    workspace = support.connect(emulator)
    executor = history.still(emulator)
    history.attach(workspace)
    run = Experiment(workspace, "exp1").submit(history.configured(history.project(tmp_path / "code")))
    run.cancel()
    assert run.get_status() == "CancelRequested"
    assert executor.cancellations == [run.id]
    runs.set_status(emulator.emulator, run.id, "Canceled")
    run.cancel()
    assert run.get_status() == "Canceled"


def test_a_submitted_run_does_not_end_itself(emulator: RunningEmulator, tmp_path: Path) -> None:
    from azureml.core import Experiment

    workspace = support.connect(emulator)
    history.still(emulator)
    history.attach(workspace)
    run = Experiment(workspace, "exp1").submit(history.configured(history.project(tmp_path / "code")))
    token, _ = Tokens(emulator.emulator).run(run.id, run.experiment.id)
    event = {"name": "Microsoft.MachineLearning.Run.Completed", "data": {"RunId": run.id}}
    path = f"experiments/exp1/runs/{run.id}"
    assert history.ask(emulator, "POST", "history/v1.0", f"{path}/events", event, token=token)[0] == 200
    assert history.ask(emulator, "PATCH", "history/v1.0", path, {"status": "Completed"}, token=token)[0] == 200
    assert run.get_status() == "NotStarted"


def test_what_a_runs_token_may(emulator: RunningEmulator) -> None:
    from azureml.core import Experiment

    experiment = Experiment(support.connect(emulator), "exp1")
    mine, other = (experiment.start_logging(snapshot_directory=None) for _ in range(2))
    token, _ = Tokens(emulator.emulator).run(mine.id, experiment.id)
    child = {"runId": "child", "parentRunId": mine.id}

    def ask(method: str, path: str, body: Any, service: str = "history/v1.0") -> int:
        return history.ask(emulator, method, service, path, body, token=token)[0]

    at = "experiments/exp1/runs"
    metric = {"values": [{"name": "m", "columns": {"m": "double"}, "value": [{"data": {"m": 1.0}}]}]}
    paths = {"paths": [{"path": "outputs/a"}]}
    batch = "artifacts/batch/metadata/ExperimentRun/dcid."
    assert ask("PATCH", f"{at}/{mine.id}", {"tags": {"a": "b"}}) == 200
    assert ask("PATCH", f"{at}/child", child) == 200
    assert ask("PATCH", f"{at}/child", {"tags": {"a": "b"}}) == 200
    assert ask("POST", f"runs/{mine.id}/batch", metric, "metric/v2.0") == 200
    assert ask("POST", batch + mine.id, paths, "artifact/v2.0") == 200
    assert ask("GET", f"{at}/{mine.id}/token", None) == 200
    assert ask("PATCH", f"{at}/{other.id}", {"tags": {"a": "b"}}) == 403
    assert ask("PATCH", f"{at}/stray", {"runId": "stray"}) == 403
    assert ask("DELETE", f"{at}/{other.id}/tags", ["a"]) == 403
    assert ask("POST", f"{at}/{other.id}/events", {"name": "Microsoft.MachineLearning.Run.Failed"}) == 403
    assert ask("POST", f"runs/{other.id}/batch", metric, "metric/v2.0") == 403
    assert ask("POST", batch + other.id, paths, "artifact/v2.0") == 403
    assert ask("POST", f"artifacts/content/ExperimentRun/dcid.{other.id}/x", {}, "artifact/v2.0") == 403
    assert ask("GET", f"{at}/{other.id}/token", None) == 403
    assert other.get_status() == "Running"


def test_reader_is_forbidden_to_write(emulator: RunningEmulator) -> None:
    from azureml.core import Experiment
    from azureml.exceptions import UserErrorException

    Experiment(support.connect(emulator), "exp1").start_logging(snapshot_directory=None)
    experiment = Experiment(support.connect(emulator, "reader"), "exp1")
    (run,) = experiment.get_runs()
    with pytest.raises(UserErrorException, match="Forbidden"):
        run.tag("a", "b")
    assert run.get_tags() == {}


def test_immutable_properties_and_limits(emulator: RunningEmulator) -> None:
    from azureml._restclient.exceptions import ServiceException
    from azureml.core import Experiment

    run = Experiment(support.connect(emulator), "exp1").start_logging(snapshot_directory=None)
    run.add_properties({"p": "1"})
    run.add_properties({"p": "1"})
    for change in (
        lambda: run.add_properties({"p": "2"}),
        lambda: run.set_tags({f"t{n}": "" for n in range(51)}),
        lambda: run.tag("k" * 101, "v"),
        lambda: run.tag("k", "v" * 1001),
    ):
        with pytest.raises(ServiceException) as refused:
            change()
        assert refused.value.status_code == 400
    assert run.get_properties()["p"] == "1"
    assert run.get_tags() == {}
    emulator.change(strict=False)
    run.add_properties({"p": "2"})
    assert run.get_properties()["p"] == "2"


def test_state_survives_a_restart(make_emulator: Callable[..., RunningEmulator], tmp_path: Path) -> None:
    from azureml.core import Experiment, Run

    first = make_emulator(folder=tmp_path / "data")
    run = Experiment(support.connect(first), "exp1").start_logging(snapshot_directory=None)
    run.log("loss", 0.5)
    (tmp_path / "note.txt").write_text("kept", encoding="utf-8")
    run.upload_file("outputs/note.txt", str(tmp_path / "note.txt"))
    run.complete()
    first.stop()
    second = make_emulator(folder=tmp_path / "data")
    found = Run.get(support.connect(second), run.id)
    assert found.get_status() == "Completed"
    assert found.get_metrics() == {"loss": 0.5}
    found.download_file("outputs/note.txt", str(tmp_path / "back.txt"))
    assert (tmp_path / "back.txt").read_text(encoding="utf-8") == "kept"
    assert Experiment(found.experiment.workspace, "exp1").start_logging(snapshot_directory=None).number == 2


def test_queries_lag_behind(make_emulator: Callable[..., RunningEmulator]) -> None:
    from azureml.core import Experiment, Run

    emulator = make_emulator(lag=3600.0)
    workspace = support.connect(emulator)
    experiment = Experiment(workspace, "exp1")
    run = experiment.start_logging(snapshot_directory=None)
    assert Run.get(workspace, run.id).get_status() == "Running"
    assert list(experiment.get_runs()) == []
    later = emulator.emulator.now() + 3601
    assert [found["status"] for found in runs.every(emulator.emulator, later)] == ["Running"]
    run.tag("late", "1")
    assert runs.every(emulator.emulator, later)[0]["tags"] == {"late": "1"}


def test_runs_of_batches_fail_alone(emulator: RunningEmulator) -> None:
    from azureml.core import Experiment

    run = Experiment(support.connect(emulator), "exp1").start_logging(snapshot_directory=None)
    at = "experiments/exp1/batch"
    body = {"runs": [{"runId": "good", "parentRunId": run.id}, {"runId": "bad", "parentRunId": "nobody"}]}
    status, said = history.ask(emulator, "PATCH", "history/v1.0", f"{at}/runs", body)
    assert (status, list(said["runs"]), list(said["errors"])) == (200, ["good"], ["bad"])
    start = "Microsoft.MachineLearning.Run.Start"
    events = {"events": [{"name": start, "data": {"RunId": one}} for one in ("good", "nobody")]}
    status, said = history.ask(emulator, "POST", "history/v1.0", f"{at}/events", events)
    assert status == 200
    assert [error["key"]["data"]["RunId"] for error in said["errors"]] == ["nobody"]
    assert runs.needed(emulator.emulator, "good")["status"] == "Running"


@given(st.lists(st.sampled_from(runs.STATUSES), max_size=12))
def test_statuses_only_go_forward(wanted: list[str]) -> None:
    at, seen = "NotStarted", ["NotStarted"]
    for status in wanted:
        if runs.may_follow(at, status):
            at = status
            seen.append(status)
    ordered = [runs.ORDER.index(status) for status in seen if status in runs.ORDER and status != "Running"]
    assert ordered == sorted(set(ordered))
    assert all(status not in runs.TERMINAL for status in seen[:-1])
    if "CancelRequested" in seen:
        assert set(seen[seen.index("CancelRequested") + 1 :]) <= {"Finalizing", *runs.TERMINAL}


def test_status_sets_times(tmp_path: Path) -> None:
    emulator = history.bare(tmp_path)
    runs.create(emulator, experiments.ensure(emulator, "exp1"), "r1", {}, definition={})
    for status in ("Preparing", "Queued", "Running", "Running", "Finalizing"):
        runs.set_status(emulator, "r1", status)
    run = runs.set_status(emulator, "r1", "Failed", error={"error": ERRORS})
    assert run["createdUtc"] <= run["startTimeUtc"] <= run["endTimeUtc"]
    assert run["error"]["error"]["code"] == "UserError"
    for status in ("Running", "Completed", "CancelRequested"):
        with pytest.raises(Refused) as refused:
            runs.set_status(emulator, "r1", status)
        assert refused.value.status == 409
    forced = runs.set_status(emulator, "r1", "Running", force=True)
    assert (forced["status"], forced["endTimeUtc"]) == ("Running", None)
    with pytest.raises(Refused):
        runs.set_status(emulator, "r1", "Dreaming")
    emulator.store.close()
