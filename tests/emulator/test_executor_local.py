"""Runs of Kubernetes targets: processes on the emulator's machine, driven and followed by the unmodified client."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import runs
from azureml_emulator.emulator import Emulator
from azureml_emulator.executor import preparing
from azureml_emulator.executor.host import Unfit
from azureml_emulator.executor.local import LocalHost
from azureml_emulator.server import RunningEmulator, start
from testbed.part import until
from tests.emulator import executing
from tests.emulator.executing import TRAIN, WAIT, file, given, managed, said, settled, status, submit

pytestmark = pytest.mark.long(0.3)

STD = "user_logs/std_log.txt"


class Site:
    """An emulator with the target `arc1`, and its workspace as the client sees it."""

    def __init__(self, running: RunningEmulator, workspace: Any) -> None:
        self.running, self.ws = running, workspace


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with executing.emulator(tmp_path) as running, executing.workspace(running, tmp_path) as ws:
        executing.attach_cluster(ws)
        yield Site(running, ws)


def test_script_speaks_to_its_run(site: Site, tmp_path: Path) -> None:
    """Metrics without a flush, tags, outputs, logs, arguments and variables come through."""
    run = submit(site.ws, tmp_path, "arc1", TRAIN, "--lr", "0.1 x", variables={"COLOUR": "blue"})
    run.wait_for_completion(wait_post_processing=True)
    assert run.get_status() == "Completed"
    metrics = run.get_metrics()
    assert metrics["accuracy"] == 0.75
    assert metrics["loss"] == [1.0, 0.5, 1 / 3]
    assert run.get_tags()["seen"] == "yes"
    names = set(run.get_file_names())
    assert {"outputs/own.txt", "outputs/model.txt", "logs/train.log", STD} <= names
    run.download_file("outputs/model.txt", str(tmp_path / "model.txt"))
    assert (tmp_path / "model.txt").read_text() == "weights"
    assert file(site.running, run, STD) == "arguments --lr 0.1 x\ncolour blue\n"
    assert file(site.running, run, "logs/train.log") == "logged"
    assert run.clean() == []


def test_environment_is_built_and_kept(site: Site, tmp_path: Path) -> None:
    """Packages that the emulator's machine lacks are there in the run, and a second run builds nothing."""
    script = "import iniconfig, sys; print(iniconfig.__file__, *sys.path, sep='\\n')"
    for number in range(2):
        run = submit(site.ws, tmp_path / str(number), "arc1", script, environment=managed("iniconfig==2.1.0"))
        assert settled(site.running, run) == "Completed", file(site.running, run, STD)
        assert "/environments/" in file(site.running, run, STD).splitlines()[0]
    folder = site.running.folder / "runs" / "environments"
    assert len(list(folder.iterdir())) == 1


def test_command_runs_in_a_shell(site: Site, tmp_path: Path) -> None:
    """A command finds the environment's Python by its plain name."""
    from azureml.core import Experiment, ScriptRunConfig

    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("import sys; print('in', sys.argv[1])")
    config = ScriptRunConfig(
        str(code),
        command=["python", "train.py", "$WHERE", "&&", "echo", "done"],
        compute_target="arc1",
        environment=managed("iniconfig==2.1.0"),
    )
    config.run_config.environment_variables = {"WHERE": "shell"}
    run = Experiment(site.ws, "exp1").submit(config)
    assert settled(site.running, run) == "Completed", file(site.running, run, STD)
    assert file(site.running, run, STD) == "in shell\ndone\n"


def test_failed_script_says_how(site: Site, tmp_path: Path) -> None:
    """The client raises with our words; what the script left is kept."""
    from azureml.exceptions import ActivityFailedException

    script = "import sys; open('outputs/half', 'w').write('half'); print('oh'); sys.exit(3)"
    run = submit(site.ws, tmp_path, "arc1", script)
    with pytest.raises(ActivityFailedException, match="exited with code 3"):
        run.wait_for_completion(wait_post_processing=True)
    error = run.get_details()["error"]["error"]
    assert (run.get_status(), error["code"]) == ("Failed", "UserError")
    assert file(site.running, run, STD) == "oh\n"
    assert file(site.running, run, "outputs/half") == "half"


def test_environment_that_cannot_be_built(site: Site, tmp_path: Path) -> None:
    """The run fails before it starts, and the system log has the builder's words."""
    run = submit(site.ws, tmp_path, "arc1", "", environment=managed("iniconfig==0.0.0.0.1"))
    assert settled(site.running, run) == "Failed"
    assert "environment could not be built" in run.get_details()["error"]["error"]["message"]
    assert "iniconfig==0.0.0.0.1" in file(site.running, run, "system_logs/executor.log")


def test_cancel_ends_the_whole_group(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that will not end is ended, its children too; what it wrote is kept."""
    monkeypatch.setattr(preparing, "GRACE", 0.5)
    script = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("outputs/pids", "w").write(f"{os.getpid()} {child.pid}")
print("ready", flush=True)
while True:
    time.sleep(1)
"""
    run = submit(site.ws, tmp_path, "arc1", script)
    said(site.running, run, "ready")
    run.cancel()
    assert settled(site.running, run) == "Canceled"
    assert file(site.running, run, STD) == "ready\nno\n"
    for pid in file(site.running, run, "outputs/pids").split():
        until(lambda pid=pid: not alive(int(pid)), f"{pid} to be gone")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_cancel_before_the_start(site: Site, tmp_path: Path) -> None:
    """A run that waits is cancelled where it stands, and its program never starts."""
    site.running.change(slow=600.0)
    run = submit(site.ws, tmp_path, "arc1", "open('outputs/x', 'w')")
    until(lambda: status(site.running, run) == "Preparing", "Preparing")
    run.cancel()
    assert settled(site.running, run) == "Canceled"
    assert file(site.running, run, STD) == ""
    assert not any((site.running.folder / "runs" / "runs").glob("*"))


def test_time_out(site: Site, tmp_path: Path) -> None:
    """A run that takes longer than it may fails, and says so."""
    run = submit(site.ws, tmp_path, "arc1", WAIT, str(tmp_path / "never"), max_run_duration_seconds=1)
    assert settled(site.running, run) == "Failed"
    assert "maxRunDurationSeconds" in run.get_details()["error"]["error"]["message"]
    assert file(site.running, run, STD) == "before\n"


def test_states_in_their_order(tmp_path: Path) -> None:
    """With `slow` a run goes through every state that the service shows, once."""
    # With a lag, the emulator remembers what each record was.
    with (
        executing.emulator(tmp_path, lag=3600.0) as running,
        executing.workspace(running, tmp_path) as ws,
    ):
        executing.attach_cluster(ws)
        run = submit(ws, tmp_path, "arc1", "print('x')")
        assert settled(running, run) == "Completed"
        versions = running.emulator.store.get("run-versions", run.id)
    seen = [version["status"] for _, version in versions]
    passed = list(dict.fromkeys(seen))
    assert passed == ["NotStarted", "Preparing", "Queued", "Starting", "Running", "Finalizing", "Completed"]
    assert seen == sorted(seen, key=passed.index)
    last = versions[-1][1]
    assert last["startTimeUtc"] < last["endTimeUtc"]


def test_emulator_stopped_and_started_in_the_middle(tmp_path: Path) -> None:
    """The program goes on meanwhile; the next emulator takes its output where the last one left off."""
    go, end = tmp_path / "go", tmp_path / "end"
    script = WAIT + f"while not pathlib.Path({str(end)!r}).exists():\n    time.sleep(0.05)\nprint('end')\n"
    with executing.emulator(tmp_path) as running, executing.workspace(running, tmp_path) as ws:
        executing.attach_cluster(ws)
        run = submit(ws, tmp_path, "arc1", script, str(go))
        said(running, run, "before")
        running.stop()
        go.touch()
        with start(executing.options(tmp_path)) as again:
            said(again, run, "after")
            assert status(again, run) == "Running"
            end.touch()
            assert settled(again, run) == "Completed"
            assert file(again, run, STD) == "before\nafter\nend\n"
            assert run.get_status() == "Completed"
            # Nothing of it stays.
            until(lambda: not any((again.folder / "runs" / "runs").glob("*")), "the run's folder to go")


def test_cancelled_while_nobody_looked(tmp_path: Path) -> None:
    """What was asked for before the emulator stopped is done by the next one."""
    with executing.emulator(tmp_path) as running, executing.workspace(running, tmp_path) as ws:
        executing.attach_cluster(ws)
        run = submit(ws, tmp_path, "arc1", WAIT, str(tmp_path / "never"))
        said(running, run, "before")
        running.stop()
        between = Emulator(running.emulator.options)
        runs.set_status(between, run.id, "CancelRequested")
        between.store.close()
        with start(running.emulator.options) as again:
            assert settled(again, run) == "Canceled"
            assert file(again, run, STD) == "before\n"


def test_program_that_vanished(tmp_path: Path) -> None:
    """Neither program nor its outcome is there any more, as after the machine's restart: the run fails."""
    with executing.emulator(tmp_path) as running, executing.workspace(running, tmp_path) as ws:
        executing.attach_cluster(ws)
        run = submit(ws, tmp_path, "arc1", WAIT, str(tmp_path / "never"))
        said(running, run, "before")
        (folder,) = (running.folder / "runs" / "runs").glob("*")
        started = folder / "started.json"
        parent = int(started.read_text().partition('"pid": ')[2].partition(",")[0])
        child = children(parent)
        os.kill(parent, 9)
        for pid in child:
            os.kill(pid, 9)
        assert settled(running, run) == "Failed"
        assert "vanished" in run.get_details()["error"]["error"]["message"]


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_interpreter_is_the_one_of_the_options(tmp_path: Path) -> None:
    """Runs use the interpreter that the emulator was told, whatever the definition names."""
    with (
        executing.emulator(tmp_path, python="/usr/bin/python3") as running,
        executing.workspace(running, tmp_path) as ws,
    ):
        executing.attach_cluster(ws)
        run = submit(ws, tmp_path, "arc1", "import sys; print(sys.prefix)", environment=given("/no/such"))
        assert settled(running, run) == "Completed"
        assert file(running, run, STD) == "/usr\n"


def test_agent_takes_nothing_that_leads_out(tmp_path: Path) -> None:
    """Neither a tar file nor a path gets out of the run's folder."""
    host = LocalHost(tmp_path / "root", sys.executable)
    packed = tmp_path / "bad.tar"
    for name, kind in (("../out", tarfile.REGTYPE), ("/abs", tarfile.REGTYPE), ("code/link", tarfile.SYMTYPE)):
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        with tarfile.open(packed, "w") as archive:
            archive.addfile(entry, io.BytesIO(b""))
        with pytest.raises(Unfit, match="not taken"):
            host.ask("prepare", "r1", send=packed)
    assert not (tmp_path / "root" / "runs" / "r1").exists()
    with tarfile.open(packed, "w") as archive:
        archive.addfile(tarfile.TarInfo("code/x"), io.BytesIO(b""))
    host.ask("prepare", "r1", send=packed)
    (tmp_path / "root" / "runs" / "r1" / "code" / "outputs" / "secret").symlink_to("/etc/passwd")
    for path in ("../../agent", "code/outputs/secret", "/etc/passwd"):
        with pytest.raises(Unfit, match="not a file of the run"):
            host.fetch("read", "r1", path, "0", into=tmp_path / "got")
    assert host.ask("look", "r1")["files"] == {}
    with pytest.raises(Unfit, match="not a name"):
        host.ask("look", "../r1")
