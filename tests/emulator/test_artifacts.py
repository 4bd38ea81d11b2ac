"""Files of runs: uploaded, listed and fetched by the unmodified client; written once, and never elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import artifacts, runs
from azureml_emulator.message import Refused
from azureml_emulator.server import RunningEmulator
from tests.emulator import history, support

pytestmark = pytest.mark.long(0.3)

ARTIFACT = "artifact/v2.0"

FLOW = """
from azureml.core import Experiment
import pathlib
run = Experiment(connect(), "exp1").start_logging(snapshot_directory=None)
pathlib.Path("up").mkdir()
for name in ("a", "b c", "ü"):
    pathlib.Path("up", name + ".txt").write_text(name)
run.upload_folder("outputs/up", "up")
run.upload_file("./outputs/one.txt", "up/a.txt")
run.flush()
run.download_files("outputs/up", "down", append_prefix=False)
run.download_file("outputs/one.txt", "one.txt")
answer = {"names": sorted(run.get_file_names()), "one": pathlib.Path("one.txt").read_text(),
          "down": sorted(found.name + "=" + found.read_text() for found in pathlib.Path("down").iterdir())}
"""


@pytest.fixture
def run(emulator: RunningEmulator) -> Any:
    """An interactive run."""
    from azureml.core import Experiment

    return Experiment(support.connect(emulator), "exp1").start_logging(snapshot_directory=None)


@pytest.mark.parametrize("topology", ["A", "B"])
def test_client_uploads_and_downloads(emulator: RunningEmulator, tmp_path: Path, topology: str) -> None:
    found = support.outside(emulator, topology, FLOW, tmp_path / "client")
    assert found == {
        "names": ["outputs/one.txt", "outputs/up/a.txt", "outputs/up/b c.txt", "outputs/up/ü.txt"],
        "one": "a",
        "down": ["a.txt=a", "b c.txt=b c", "ü.txt=ü"],
    }


def test_written_once(run: Any, tmp_path: Path) -> None:
    from azureml._common.exceptions import AzureMLException

    (tmp_path / "one.txt").write_text("first", encoding="utf-8")
    (tmp_path / "two.txt").write_text("second", encoding="utf-8")
    run.upload_file("outputs/x.txt", str(tmp_path / "one.txt"))
    with pytest.raises(AzureMLException, match="already exists"):
        run.upload_file("outputs//x.txt", str(tmp_path / "two.txt"))
    run.download_file("outputs/x.txt", str(tmp_path / "back.txt"))
    assert (tmp_path / "back.txt").read_text(encoding="utf-8") == "first"


def test_an_upload_that_broke_is_done_again(run: Any, emulator: RunningEmulator, tmp_path: Path) -> None:
    body = {"paths": [{"path": "outputs/x.txt"}]}
    status, said = history.ask(
        emulator, "POST", ARTIFACT, f"artifacts/batch/metadata/ExperimentRun/dcid.{run.id}", body
    )
    assert (status, said["errors"]) == (200, {})
    assert run.get_file_names() == ["outputs/x.txt"]
    (tmp_path / "one.txt").write_text("first", encoding="utf-8")
    run.upload_file("outputs/x.txt", str(tmp_path / "one.txt"))
    run.download_files("outputs", str(tmp_path / "down"))
    assert (tmp_path / "down/outputs/x.txt").read_text(encoding="utf-8") == "first"


def test_prefixes_are_folders_or_whole_files(run: Any, emulator: RunningEmulator, tmp_path: Path) -> None:
    for name in ("pack/a.txt", "pack/b.txt", "pack-notes.txt", "packed/c.txt"):
        runs.add_artifact(emulator.emulator, run.id, name, name.encode())

    def below(prefix: str) -> list[str]:
        path = f"artifacts/prefix/contentinfo/ExperimentRun/dcid.{run.id}/{prefix}"
        status, said = history.ask(emulator, "GET", ARTIFACT, path)
        assert status == 200
        return [found["path"] for found in said["value"]]

    assert below("pack") == below("pack/") == below("pack%2F") == ["pack/a.txt", "pack/b.txt"]
    assert below("pack-notes.txt") == ["pack-notes.txt"]
    assert below("nothing") == []
    assert len(below("")) == 4
    run.download_files(prefix="pack", output_directory=str(tmp_path / "down"))
    assert sorted(file.name for file in (tmp_path / "down").rglob("*.txt")) == ["a.txt", "b.txt"]


def test_paths_stay_inside(run: Any, emulator: RunningEmulator) -> None:
    at = f"artifacts/batch/metadata/ExperimentRun/dcid.{run.id}"
    wrong = ["../x", "a/../../x", "", ".", "a\nb", "x" * 901]
    body = {"paths": [{"path": path} for path in wrong]}
    status, said = history.ask(emulator, "POST", ARTIFACT, at, body)
    assert (status, said["artifacts"]) == (200, {})
    assert set(said["errors"]) == set(wrong)
    body = {"paths": [{"path": "./outputs/a"}, {"path": "c:\\logs\\b"}]}
    said = history.ask(emulator, "POST", ARTIFACT, at, body)[1]
    assert [found["path"] for found in said["artifacts"].values()] == ["outputs/a", "c:/logs/b"]
    assert history.ask(emulator, "POST", ARTIFACT, at, {"paths": [{"path": str(n)} for n in range(51)]})[0] == 400
    assert history.ask(emulator, "POST", ARTIFACT, at.replace("ExperimentRun", "Else"), body)[1]["artifacts"] == {}


def test_small_content_and_growing_logs(run: Any, emulator: RunningEmulator) -> None:
    at = f"artifacts/content/ExperimentRun/dcid.{run.id}/logs/own.txt"
    for text in (b"one ", b"two"):
        status, said = history.ask(emulator, "POST", ARTIFACT, f"{at}?append=true", text)
        assert (status, said["path"]) == (200, "logs/own.txt")
    assert history.ask(emulator, "GET", ARTIFACT, at) == (200, b"one two")
    assert history.ask(emulator, "POST", ARTIFACT, at, b"else")[0] == 409
    runs.append_log(emulator.emulator, run.id, "user_logs/std_log.txt", b"first\n")
    runs.append_log(emulator.emulator, run.id, "user_logs/std_log.txt", b"second\n")
    logs = run.get_details_with_logs()["logFiles"]
    assert "first\nsecond\n" in logs["user_logs/std_log.txt"]
    assert set(run.get_details()["logFiles"]) == {"logs/own.txt", "user_logs/std_log.txt"}


def test_the_older_face(run: Any, emulator: RunningEmulator, tmp_path: Path) -> None:
    from azureml._restclient.run_artifacts_client import RunArtifactsClient

    runs.add_artifact(emulator.emulator, run.id, "outputs/a.txt", b"a")
    client = RunArtifactsClient(run.experiment.workspace.service_context, "exp1")
    assert list(client.get_file_paths(run.id)) == ["outputs/a.txt"]
    client.download_artifact(run.id, "outputs/a.txt", str(tmp_path / "a.txt"))
    assert (tmp_path / "a.txt").read_bytes() == b"a"


def test_what_is_not_there(run: Any, emulator: RunningEmulator, tmp_path: Path) -> None:
    from azureml.exceptions import UserErrorException

    with pytest.raises(UserErrorException, match="was not found"):
        run.download_file("outputs/none.txt", str(tmp_path / "none.txt"))
    at = f"artifacts/contentinfo/ExperimentRun/dcid.{run.id}/none"
    assert history.ask(emulator, "GET", ARTIFACT, at)[0] == 404
    with pytest.raises(Refused):
        artifacts.normal("..")
    with pytest.raises(Refused):
        runs.add_artifact(emulator.emulator, "nobody", "a", b"")
