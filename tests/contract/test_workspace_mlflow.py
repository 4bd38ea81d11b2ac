"""The workspace contract on MLflow with SQLite; and what only this provider has: killed writes, first use by
several processes, other people's objects, damaged databases."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.core.errors import Conflict, Denied, ProviderError, Rejected
from edgetrain.core.ports import MetricPoint, Settings, Workspace
from edgetrain.providers.mlflow.at_rest import held
from edgetrain.providers.mlflow.client import load
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.providers.table import provider

from .workspace import DIGEST, RUN, Seen, WorkspaceContract

load()

import mlflow  # noqa: E402

# MLflow's own use of SQLAlchemy, seen once when its tables are mapped.
pytestmark = [pytest.mark.long(0.5), pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")]


def embedded(state: Path) -> MlflowWorkspace:
    made = provider("workspace", "mlflow", Settings("workspace", {"uri": ""}, state))
    assert isinstance(made, MlflowWorkspace)
    return made


def client_of(state: Path) -> mlflow.MlflowClient:
    uri = f"sqlite:///{state / 'mlflow.db'}"
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def seen_by(client: mlflow.MlflowClient, experiment: str) -> Sequence[Seen]:
    found = []
    for run in client.search_runs([client.get_experiment_by_name(experiment).experiment_id]):
        found.append(
            Seen(
                parameters=run.data.params,
                metrics=run.data.metrics,
                history={
                    name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]
                    for name in run.data.metrics
                },
                tags=run.data.tags,
                status=run.info.status,
                started=run.info.start_time / 1000,
                ended=(run.info.end_time or 0) / 1000,
            )
        )
    return found


class TestMlflowWorkspace(WorkspaceContract):
    def make(self, state: Path) -> Workspace:
        return embedded(state)

    def seen(self, workspace: Workspace, experiment: str) -> Sequence[Seen]:
        assert isinstance(workspace, MlflowWorkspace)
        path = Path(workspace.where().removeprefix("MLflow at "))
        return seen_by(client_of(path.parent), experiment)


# --- read without MLflow ---------------------------------------------------------------------------------


def asked_both_ways(state: Path, monkeypatch: pytest.MonkeyPatch, models: Sequence[str]) -> object:
    quick = held(state / "mlflow.db", models)
    assert quick is not None
    answer = embedded(state).observe(models)
    with monkeypatch.context() as patch:
        patch.setattr("edgetrain.providers.mlflow.provider.held", lambda *_: None)
        assert embedded(state).observe(models) == answer
    return answer


def test_what_is_read_without_mlflow_is_what_mlflow_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = ["digits", "other", "unknown", "it-s"]
    assert held(tmp_path / "mlflow.db", models) is None
    workspace, client = embedded(tmp_path), client_of(tmp_path)
    for number in (1, 2, 3):
        workspace.register("digits", number, "", DIGEST, {"a": str(number)})
    client.create_registered_model("other", tags={"a": "b"})
    client.create_model_version("digits", "file:/somebody/else", tags={"mlflow.note": "b"})
    client.create_model_version("digits", "file:/somebody/else", tags={"edgetrain.version": "2"})
    workspace.alias("digits", "production", 1)
    client.set_registered_model_alias("digits", "theirs", "4")
    client.set_model_version_tag("digits", "1", "a", "changed")
    first = asked_both_ways(tmp_path, monkeypatch, models)
    client.delete_model_version("digits", "3")
    client.delete_registered_model_alias("digits", "production")
    client.delete_registered_model("other")
    assert asked_both_ways(tmp_path, monkeypatch, models) != first


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE alembic_version SET version_num = 'another'",
        "DELETE FROM alembic_version",
        "DROP TABLE registered_model_aliases",
        "UPDATE registered_models SET workspace = 'theirs'",
        "INSERT INTO registered_model_tags VALUES ('mlflow.prompt.is_prompt', 'true', 'digits', 'default')",
    ],
)
def test_what_is_in_doubt_is_left_to_mlflow(tmp_path: Path, statement: str) -> None:
    embedded(tmp_path).register("digits", 1, "", DIGEST, {})
    assert held(tmp_path / "mlflow.db", ["digits"])
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute(statement)
    assert held(tmp_path / "mlflow.db", ["digits"]) is None


# --- killed, and two at once -----------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from dataclasses import replace
sys.path.insert(0, sys.argv[1])
from contract.workspace import DIGEST, RUN
from edgetrain.core.ports import MetricPoint
from edgetrain.providers.mlflow.provider import MlflowWorkspace
workspace = MlflowWorkspace(uri="", state=Path(sys.argv[2]))
workspace.observe([])
import mlflow
real, calls = getattr(mlflow.MlflowClient, sys.argv[3]), []
def dying(*args, **kwargs):
    calls.append(1)
    answer = real(*args, **kwargs) if len(calls) <= int(sys.argv[4]) else os._exit(9)
    return answer
setattr(mlflow.MlflowClient, sys.argv[3], dying)
run = replace(RUN, history=[MetricPoint("loss", 1 / (n + 1), n) for n in range(2500)])
workspace.register("digits", 1, workspace.track(run), DIGEST, {"a": "1"})
"""


@pytest.mark.parametrize(
    ("method", "calls"),
    [
        ("create_run", 0),
        ("log_batch", 1),
        ("log_batch", 3),
        ("set_tag", 0),
        ("create_model_version", 0),
    ],
)
def test_a_killed_write_is_completed_and_not_doubled(tmp_path: Path, method: str, calls: int) -> None:
    state = tmp_path / "state"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent.parent), str(state), method, str(calls)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert killed.returncode == 9, killed.stderr
    assert killed.stdout == ""
    assert killed.stderr == ""
    history = [MetricPoint("loss", 1 / (n + 1), n) for n in range(2500)]
    workspace = embedded(state)
    run_id = workspace.track(replace(RUN, history=history))
    workspace.register("digits", 1, run_id, DIGEST, {"a": "1"})
    (run,) = seen_by(client_of(state), "digits")
    assert list(run.history["loss"]) == [(point.step, point.value) for point in history]
    assert list(run.history["accuracy"]) == [(0, 0.95)]
    assert run.tags["edgetrain.complete"] == "true"
    assert run.status == "FINISHED"
    (version,) = client_of(state).search_model_versions("name = 'digits'")
    assert version.run_id == run_id
    assert version.tags["a"] == "1"


FIRST_USE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from contract.workspace import DIGEST, RUN
from edgetrain.providers.mlflow.provider import MlflowWorkspace
workspace = MlflowWorkspace(uri="", state=Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(workspace.track(RUN), workspace.register("digits", 1, "", DIGEST, {}))
"""


def test_first_use_by_several_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FIRST_USE, str(Path(__file__).parent.parent), str(tmp_path / "state")]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ended = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], ended
    assert len({out for out, _ in ended}) == 1
    assert [err for _, err in ended] == ["", "", ""]
    assert len(seen_by(client_of(tmp_path / "state"), "digits")) == 1


def test_threads_share_one_workspace(tmp_path: Path) -> None:
    workspace = embedded(tmp_path)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(workspace.track(RUN))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(found) == 4
    assert len(set(found)) == 1


def test_a_half_made_database_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".mlflow.db.new").write_bytes(b"half of a database")
    (tmp_path / ".mlflow.db.new-journal").write_bytes(b"and its journal")
    workspace = embedded(tmp_path)
    assert workspace.observe(["digits"]) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.lock"]


# --- what lies around ------------------------------------------------------------------------------------


def test_nothing_is_written_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    state = tmp_path / "state"
    workspace = embedded(state)
    workspace.register("digits", 1, workspace.track(RUN), DIGEST, {})
    assert list(here.iterdir()) == []
    assert sorted(path.name for path in state.iterdir()) == ["mlflow.db", "mlflow.lock"]
    assert (state / "mlflow.db").stat().st_mode & 0o077 == 0
    locations = [experiment.artifact_location for experiment in client_of(state).search_experiments()]
    assert all(str(state) in location for location in locations), locations
    assert mlflow.get_tracking_uri() != f"sqlite:///{state / 'mlflow.db'}"


def test_other_peoples_objects_are_left_alone(tmp_path: Path) -> None:
    workspace = embedded(tmp_path)
    workspace.register("digits", 1, "", DIGEST, {})
    client = client_of(tmp_path)
    foreign = client.create_model_version("digits", "s3://bucket/model", tags={"edgetrain.version": "none"})
    client.set_registered_model_alias("digits", "champion", foreign.version)
    model = workspace.observe(["digits"])["digits"]
    assert set(model.versions) == {1}
    assert model.channels == {"champion": -1}
    assert workspace.register("digits", 2, "", DIGEST, {}) == str(int(foreign.version) + 1)


@pytest.mark.parametrize("channel", ["latest", "Latest", "v3", "V12", "a.b", "", "a/b", "x" * 256])
def test_reserved_channels_are_rejected_before_mlflow_sees_them(tmp_path: Path, channel: str) -> None:
    workspace = embedded(tmp_path)
    workspace.register("digits", 1, "", DIGEST, {})
    with pytest.raises(Rejected) as raised:
        workspace.alias("digits", channel, 1)
    assert raised.value.reason == "NameNotAllowed"
    assert workspace.observe(["digits"])["digits"].channels == {}


def test_a_deleted_experiment_is_told_of(tmp_path: Path) -> None:
    workspace = embedded(tmp_path)
    workspace.track(RUN)
    client = client_of(tmp_path)
    client.delete_experiment(client.get_experiment_by_name("digits").experiment_id)
    with pytest.raises(Conflict) as raised:
        workspace.track(replace(RUN, id="digits-0123456789ab-2"))
    assert raised.value.reason == "ExperimentDeleted"
    assert "restore" in raised.value.fix


def test_a_metric_name_that_mlflow_refuses(tmp_path: Path) -> None:
    with pytest.raises(Rejected):
        embedded(tmp_path).track(replace(RUN, metrics={"a<b": 1.0}))


@pytest.mark.parametrize("mark", ["?", "#", "%"])
def test_a_path_that_mlflow_would_misread(tmp_path: Path, mark: str) -> None:
    with pytest.raises(Rejected) as raised:
        embedded(tmp_path / f"a{mark}b").observe([])
    assert raised.value.reason == "InvalidPath"


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Denied):
        embedded(tmp_path).observe([])
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(Rejected) as raised:
        embedded(tmp_path).observe([])
    assert raised.value.reason == "DatabaseDamaged"


def test_a_database_of_another_schema(tmp_path: Path) -> None:
    embedded(tmp_path / "first").observe([])
    # Elsewhere, for MLflow looks at a database's schema once per process and address.
    shutil.copy(tmp_path / "first" / "mlflow.db", tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()
    with pytest.raises(Rejected) as raised:
        embedded(tmp_path).observe([])
    assert raised.value.reason == "SchemaOutdated"


def test_a_state_location_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ProviderError) as raised:
        embedded(tmp_path / "state").observe([])
    assert "state location" in raised.value.fix
