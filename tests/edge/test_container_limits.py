"""The limits of a container hold, and nothing of it survives its end, however that comes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from edgetrain.core.ports import RunLimits
from tests.contract.compute import until
from tests.contract.misbehaviour import DAEMON

from .machine import Machine, Play

pytestmark = [pytest.mark.long(0.5), pytest.mark.needs("vm", "mmdebstrap", "skopeo")]

MB = 2**20
STUBBORN = DAEMON + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.pause()\n"


def limits(**changes: int) -> RunLimits:
    return RunLimits(**{"timeout": 300, "memory": 256 * MB, "pids": 64, **changes})


def alive(run: Play) -> bool:
    """Whether any process of this machine, in whatever namespace, has the run's environment."""
    mark = b'EDGETRAIN_PARAMS={"lr": 0.1, "run": "' + run.id.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    return True
    return False


def play(machine: Machine, folder: Path, run_id: str, source: str, **changes: object) -> Play:
    changes.setdefault("limits", limits())
    return Play(machine, folder, run_id, source, parameters={"lr": 0.1, "run": run_id}, **changes)  # type: ignore[arg-type]


def test_memory_is_bounded(machine: Machine, tmp_path: Path) -> None:
    run = play(machine, tmp_path, "memory-1-1", "x = bytearray(2**30)")
    state = run.play()
    assert state["ended_by"] == "memory", [state, run.log]
    assert "268435456 bytes are allowed" in state["message"]


def test_memory_of_all_processes_together_is_bounded(machine: Machine, tmp_path: Path) -> None:
    source = """
    import os, sys
    still, done = os.pipe()
    for _ in range(6):
        if os.fork() == 0:
            os.close(done)
            x = bytearray(os.urandom(2**20)) * 100
            os.read(still, 1)  # holds its memory until one was killed, however the machine takes turns
            os._exit(0)
    codes = [os.waitstatus_to_exitcode(os.wait()[1])]
    os.close(done)
    codes += [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(5)]
    print(sorted(set(codes)))
    sys.exit(any(codes))
    """
    run = play(machine, tmp_path, "memory-2-1", source)
    state = run.play()
    # A worker was killed, and the script says that with an exit code of its own.
    assert state["ended_by"] == "memory", [state, run.log]


def test_what_is_written_to_scratch_counts_as_memory_and_is_bounded(
    machine: Machine,
    tmp_path: Path,
) -> None:
    source = """
    for place in ("/tmp/x", "/dev/shm/x", "/edgetrain/home/x"):
        try:
            with open(place, "wb") as file:
                for _ in range(64):
                    file.write(bytes(2**20))
        except OSError as error:
            print(place, error.strerror)
    """
    run = play(machine, tmp_path, "scratch-1-1", source, limits=limits(tmp=8 * MB, shm=4 * MB))
    assert run.play()["exit_code"] == 0
    assert run.log == [f"{place}/x No space left on device" for place in ("/tmp", "/dev/shm", "/edgetrain/home")]


def test_processes_are_bounded(machine: Machine, tmp_path: Path) -> None:
    source = """
    import os, signal
    count = 0
    try:
        while True:
            if os.fork() == 0:
                signal.pause()
            count += 1
    except BlockingIOError:
        print("no more processes", count < 40)
    raise SystemExit(9)
    """
    run = play(machine, tmp_path, "bomb-1-1", source, limits=limits(pids=40))
    state = run.play()
    assert (state["ended_by"], state["exit_code"]) == ("exit", 9), [state, run.log]
    assert run.log == ["no more processes True"]
    assert not alive(run)


def test_processors_are_bounded(machine: Machine, tmp_path: Path) -> None:
    source = """
    import os, time
    pids = []
    begin = time.monotonic()
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            while time.monotonic() < begin + 2:
                pass
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    spent = os.times()
    print((spent.children_user + spent.children_system) / (time.monotonic() - begin) < 1.5)
    """
    run = play(machine, tmp_path, "cpu-1-1", source, limits=limits(cpus=1))
    assert run.play()["exit_code"] == 0, run.log
    assert run.log == ["True"]


@pytest.mark.parametrize(
    "source",
    [
        "for n in range(9): open(f'{outputs}/{n}', 'wb').write(bytes(2**20))",
        "open(outputs + '/sparse', 'wb').truncate(2**23)\nopen(outputs + '/more', 'wb').write(b'x')",
        "os.makedirs(outputs + '/deep' * 40)",
    ],
    ids=["bytes", "sparse", "depth"],
)
def test_outputs_are_bounded(
    machine: Machine,
    tmp_path: Path,
    source: str,
    request: pytest.FixtureRequest,
) -> None:
    start = "import os\noutputs = os.environ['EDGETRAIN_OUTPUTS']\n"
    run_id = f"outputs-{request.node.callspec.id}-1"
    run = play(
        machine, tmp_path, run_id, start + source + "\nimport signal; signal.pause()", limits=limits(outputs=8 * MB)
    )
    state = run.play()
    assert state["ended_by"] == "outputs-limit", [state, run.log]
    assert not alive(run)


def test_one_file_is_bounded_by_the_kernel(machine: Machine, tmp_path: Path) -> None:
    source = "import os; open(os.environ['EDGETRAIN_OUTPUTS'] + '/x', 'wb').write(bytes(64 * 2**20))"
    small = limits(outputs=8 * MB, tmp=MB, shm=MB)
    run = play(machine, tmp_path, "fsize-1-1", source, limits=small)
    state = run.play()
    assert state["exit_code"] != 0 or state["ended_by"] == "outputs-limit"
    assert (run.root / "outputs" / "x").stat().st_size <= 8 * MB


def test_a_crash_is_a_signal(machine: Machine, tmp_path: Path) -> None:
    state = play(machine, tmp_path, "crash-1-1", "import os; os.abort()").play()
    assert (state["ended_by"], state["exit_code"], state["message"]) == ("signal", 6, "ended by SIGABRT")


def test_usage_is_told(machine: Machine, tmp_path: Path) -> None:
    source = """
    import time
    x = bytearray(50 * 2**20)
    end = time.process_time() + 1.5
    while time.process_time() < end:
        pass
    """
    state = play(machine, tmp_path, "usage-1-1", source).play()
    assert 50 * MB < state["usage"]["maxMemoryBytes"] < 200 * MB
    assert state["usage"]["cpuSeconds"] >= 1.0


@pytest.mark.parametrize("end", ["exit", "timeout", "cancel", "killed", "engine"])
def test_a_daemon_dies_however_the_run_ends(machine: Machine, tmp_path: Path, end: str) -> None:
    source = DAEMON if end == "exit" else STUBBORN
    bound = limits(timeout=3 if end == "timeout" else 300)
    run = play(machine, tmp_path, f"daemon-{end}-1", source, limits=bound, grace=1.0).start()
    if end != "exit":
        run.says("daemon")
        assert alive(run)
    if end == "cancel":
        (run.root / "cancel").write_text("enough")
    if end == "killed":
        machine.vm.run(["kill", "-KILL", str(json.loads((run.root / "started").read_text())["pid"])])
        until(lambda: not alive(run), "everything to be dead")
        stop = run.instructions["stop"]
        for _ in range(2):  # whether there is something to remove or not
            for argv in stop:
                machine.vm.run(argv)
        assert not (run.root / "ended.json").exists()
    else:
        if end == "engine":
            machine.vm.run([machine.command, "kill", "--signal", "KILL", f"edgetrain-{run.id}"])
        state = run.end()
        by = {"exit": "exit", "timeout": "timeout", "cancel": "cancel", "engine": "memory"}[end]
        assert state["ended_by"] == by, [state, run.log]
    assert not alive(run)
    assert f"edgetrain-{run.id}" not in machine.containers()


def test_a_script_may_tidy_up_before_its_end(machine: Machine, tmp_path: Path) -> None:
    source = """
    import signal, sys
    def end(number, frame):
        print("tidied", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    signal.pause()
    """
    # The shell stays above the script: its end must not be the end of all.
    run = play(machine, tmp_path, "tidy-1-1", source, command="python train.py; echo on", grace=60.0).start()
    run.says("ready")
    (run.root / "cancel").write_text("enough")
    state = run.end()
    assert (state["ended_by"], state["message"]) == ("cancel", "enough")
    assert "tidied" in run.log


def test_the_launcher_can_not_be_halted_from_inside(machine: Machine, tmp_path: Path) -> None:
    source = """
    import os, signal
    for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM):
        os.kill(1, number)
    print("still here", flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    """
    run = play(machine, tmp_path, "halt-1-1", source)
    state = run.play()
    # It may end itself by asking for its own end, but not outlive the run or keep it from ending.
    assert state["phase"] == "ended"
    assert not alive(run)


def test_nobody_but_the_account_sees_a_run(machine: Machine, tmp_path: Path) -> None:
    run = play(machine, tmp_path, "private-1-1", "print('x')")
    run.play()
    done = machine.vm.ssh(f"cat {run.place}/code/train.py", user="edgetrain")
    assert done.returncode != 0
    assert "Permission denied" in done.stderr
