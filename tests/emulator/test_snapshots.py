"""Snapshots: taken as differences by the unmodified client, whole again here; what can't be believed is refused."""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import runs, snapshots
from azureml_emulator.message import Refused
from azureml_emulator.server import RunningEmulator
from tests.emulator import history, support

pytestmark = pytest.mark.long(0.3)

CONTENT = "content/v2.0"


@pytest.fixture
def take(emulator: RunningEmulator) -> Callable[[Path], str]:
    """Takes a snapshot of a folder, for a run of its own: a run has one."""
    from azureml.core import Experiment

    experiment = Experiment(support.connect(emulator), "exp1")
    return lambda folder: str(experiment.start_logging(snapshot_directory=None).take_snapshot(str(folder)))


def held(emulator: RunningEmulator, snapshot: str) -> dict[str, str]:
    """Path to text of a snapshot."""
    files = runs.snapshot_files(emulator.emulator, snapshot)
    return {path: file.read_text(encoding="utf-8") for path, file in files.items()}


def uploads(emulator: RunningEmulator) -> list[str]:
    return [
        entry["path"].rpartition("/")[2]
        for entry in emulator.requests
        if entry["method"] == "PUT" and entry["path"].startswith("/snapshots/")
    ]


def test_only_what_changed_is_sent(take: Callable[[Path], str], emulator: RunningEmulator, tmp_path: Path) -> None:
    folder = history.project(tmp_path / "code", util="x = 1\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "ü b.txt").write_text("deep", encoding="utf-8")
    first = take(folder)
    whole = {"train.py": "print('trained')\n", "util.py": "x = 1\n", "sub/ü b.txt": "deep"}
    assert held(emulator, first) == whole
    sent = len(uploads(emulator))
    history.project(folder, util="x = 2\n")
    (folder / "more.py").write_text("y = 3\n", encoding="utf-8")
    second = take(folder)
    assert held(emulator, second) == {**whole, "util.py": "x = 2\n", "more.py": "y = 3\n"}
    assert sorted(uploads(emulator)[sent:]) == ["more.py", "util.py"]
    assert take(folder) == second
    (folder / "util.py").unlink()
    third = take(folder)
    assert set(held(emulator, third)) == {"train.py", "more.py", "sub/ü b.txt"}
    assert len(uploads(emulator)) == sent + 2
    assert held(emulator, first) == whole


def test_restore(take: Callable[[Path], str], emulator: RunningEmulator, tmp_path: Path) -> None:
    from azureml.core import Experiment

    snapshot = take(history.project(tmp_path / "code", util="x = 1\n"))
    run = Experiment(support.connect(emulator), "exp1").start_logging(snapshot_directory=None)
    (tmp_path / "back").mkdir()
    for _ in range(2):
        archive = run.restore_snapshot(snapshot, str(tmp_path / "back"))
        with zipfile.ZipFile(archive) as found:
            assert {name: found.read(name).decode() for name in found.namelist()} == held(emulator, snapshot)
    assert history.ask(emulator, "POST", CONTENT, f"snapshots/{uuid.uuid4()}/zip", {})[0] == 404


def test_a_client_without_its_cache_goes_on(
    take: Callable[[Path], str], emulator: RunningEmulator, tmp_path: Path
) -> None:
    folder = history.project(tmp_path / "code")
    first = take(folder)
    for file in (tmp_path / "home").rglob("latestsnapshot*"):
        file.unlink()
    assert take(folder) == first
    history.project(folder, train="print('other')\n")
    assert held(emulator, take(folder)) == {"train.py": "print('other')\n"}


def tree(**files: str) -> dict[str, Any]:
    """A tree as the client writes it: path to hash."""
    children = {
        name: {"name": name, "type": "File", "hash": digest, "timestamp": "", "children": {}}
        for name, digest in files.items()
    }
    return {"name": "", "type": "Directory", "hash": "h", "timestamp": "", "children": children}


def test_what_is_not_believed(emulator: RunningEmulator) -> None:
    def put(**body: Any) -> int:
        return history.ask(emulator, "POST", CONTENT, f"snapshots/{uuid.uuid4()}", body)[0]

    none = {"FileNodes": []}
    assert put(DirTreeNode=tree(), FileRevisionList=none, ParentSnapshotId=snapshots.NONE) == 200
    assert put(DirTreeNode=tree(a="1"), FileRevisionList=none, ParentSnapshotId=snapshots.NONE) == 400
    assert put(DirTreeNode=tree(), FileRevisionList=none, ParentSnapshotId=str(uuid.uuid4())) == 400
    assert put(FileRevisionList=none) == 400
    for address in ("https://x/azureml/ExperimentRun/a", "https://x/snapshots/nothing", ""):
        node = {"FullName": "a", "BlobUri": address, "FileSize": 1}
        assert put(DirTreeNode=tree(a="1"), FileRevisionList={"FileNodes": [node]}) == 400
    for name in ("../a", "/a", ".."):
        assert history.ask(emulator, "POST", CONTENT, "snapshots/getblob", {"FileNames": [name]})[0] == 400
    wrong = tree()
    wrong["children"]["a/../../b"] = tree(x="1")["children"]["x"]
    assert put(DirTreeNode=wrong, FileRevisionList=none) == 400
    deep: dict[str, Any] = tree(x="1")
    for _ in range(80):
        deep = {**tree(), "children": {"d": deep}}
    assert put(DirTreeNode=deep, FileRevisionList=none) == 400
    assert history.ask(emulator, "POST", CONTENT, "snapshots/getblob", {"FileNames": []}) == (
        200,
        {"fileNodes": []},
    )
    with pytest.raises(Refused):
        runs.snapshot_files(emulator.emulator, "nothing")
