"""Killed anywhere, the next call converges: no run is started twice, and none is held up for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgetrain.core.errors import Transient
from edgetrain.core.ports import RunPhase
from edgetrain.onsite.vm import runs
from tests.contract.compute import settle
from tests.contract.local_target import LocalTarget

from .scripts import script

COUNT = "print('ran')"


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    return LocalTarget(tmp_path / "state", sandbox=False)


def test_a_start_that_was_cut_short_is_done_by_the_next(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = script(target, tmp_path, COUNT)
    compute = target.connect()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "BOOTSTRAP", "raise SystemExit(1)")
        with pytest.raises(Transient):
            compute.start(made)
    assert target.folder(made.id).is_dir()
    assert compute.inspect(made.id).phase is RunPhase.ABSENT
    target.connect().start(made)
    assert settle(compute, made.id).exit_code == 0
    assert list(compute.logs(made.id)) == ["ran"]


def test_a_cut_short_start_can_be_cancelled(
    target: LocalTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = script(target, tmp_path, COUNT)
    compute = target.connect()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "BOOTSTRAP", "raise SystemExit(1)")
        with pytest.raises(Transient):
            compute.start(made)
    compute.cancel(made.id, "Superseded")
    compute.start(made)
    assert compute.inspect(made.id).ended_by == "cancel"
    assert list(compute.logs(made.id)) == []


def test_half_written_folders_are_no_runs(target: LocalTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, COUNT)
    left = target.state / "runs" / ".new-0123"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    compute = target.connect()
    assert compute.runs() == []
    compute.start(made)
    assert not left.exists()
    assert compute.runs() == [made.id]
    settle(compute, made.id)


def test_many_starts_at_once_make_one_run(target: LocalTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, COUNT)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            target.connect().start(made)
            target.connect().inspect(made.id)
        except BaseException as error:  # told below
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    compute = target.connect()
    assert settle(compute, made.id).exit_code == 0
    assert list(compute.logs(made.id)) == ["ran"]
    assert [entry.name for entry in (target.state / "runs").iterdir()] == [made.id]


STARTER = """
import json, sys
from pathlib import Path
from tests.contract.compute import spec
from tests.contract.local_target import LocalTarget
target = LocalTarget(Path(sys.argv[1]), sandbox=False)
compute = target.connect()
made = spec(Path(sys.argv[2]), target.python, ["print", "ready"], ["hang"])
compute.start(made)
print(compute.inspect(made.id).phase.value, flush=True)
"""


def test_the_run_outlives_whoever_started_it(target: LocalTarget, tmp_path: Path) -> None:
    roots = [str(Path(runs.__file__).parents[3]), str(Path(__file__).parents[3])]
    done = subprocess.run(
        [sys.executable, "-c", STARTER, str(target.state), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*roots, *sys.path]), "RUNNER_TRACKING_ID": "github_1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split()[0] in ("preparing", "running")
    compute = target.connect()
    (run_id,) = compute.runs()
    settle(compute, run_id, RunPhase.RUNNING)
    pid = json.loads((target.folder(run_id) / "started").read_text())["pid"]
    assert os.getsid(pid) == pid
    assert b"RUNNER_TRACKING_ID" not in Path(f"/proc/{pid}/environ").read_bytes()
    compute.cancel(run_id, "enough")
    assert compute.inspect(run_id).ended_by == "cancel"


def test_the_folders_are_private(target: LocalTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, COUNT)
    before = os.umask(0o022)
    try:
        target.connect().start(made)
    finally:
        os.umask(before)
    settle(target.connect(), made.id)
    for folder in (target.state / "runs", target.folder(made.id)):
        assert folder.stat().st_mode & 0o077 == 0
