"""The limits of a run hold, and nothing of it survives its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.core.ports import RunLimits, RunPhase
from tests.contract.compute import settle, until
from tests.contract.local_target import LocalTarget
from tests.contract.misbehaviour import DAEMON

from .scripts import play, script

LIMITS = RunLimits(timeout=300)


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.needs("bubblewrap")), False], ids=["sandbox", "plain"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> LocalTarget:
    return LocalTarget(tmp_path / "state", sandbox=request.param)


def test_a_daemon_dies_with_its_script(target: LocalTarget, tmp_path: Path) -> None:
    made = script(target, tmp_path, DAEMON)
    compute = target.connect()
    compute.start(made)
    state = settle(compute, made.id)
    assert (state.ended_by, state.exit_code) == ("exit", 0)
    assert not target.alive(made.id)


@pytest.mark.parametrize("end", ["timeout", "cancel", "lost"])
def test_a_daemon_dies_however_the_run_ends(target: LocalTarget, tmp_path: Path, end: str) -> None:
    limits = RunLimits(timeout=1 if end == "timeout" else 300)
    stubborn = DAEMON + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.close(1)\nos.close(2)\nsignal.pause()\n"
    made = script(target, tmp_path, stubborn, limits=limits)
    target.grace = 1.0
    compute = target.connect()
    compute.start(made)
    if end != "timeout":
        assert "daemon" in compute.logs(made.id, follow=True)
    if end == "cancel":
        compute.cancel(made.id, "enough")
    if end == "lost":
        target.crash(made.id)
    state = settle(compute, made.id)
    assert state.phase is (RunPhase.LOST if end == "lost" else RunPhase.ENDED)
    assert end == "lost" or state.ended_by == end
    until(lambda: not target.alive(made.id), "everything to be dead")


def test_a_script_may_tidy_up_before_its_end(target: LocalTarget, tmp_path: Path) -> None:
    source = """
    import signal, sys
    def end(number, frame):
        print("tidied", flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    signal.pause()
    """
    # The shell stays above the script: it must not be the first to go.
    made = script(target, tmp_path, source, command="python train.py; echo on")
    compute = target.connect()
    compute.start(made)
    follower = compute.logs(made.id, follow=True)
    assert "ready" in follower
    compute.cancel(made.id, "enough")
    assert compute.inspect(made.id).ended_by == "cancel"
    assert "tidied" in list(compute.logs(made.id))


def test_memory_is_bounded(target: LocalTarget, tmp_path: Path) -> None:
    limits = replace(LIMITS, memory=256 * 2**20)
    state, log = play(target, tmp_path, "x = bytearray(2 ** 30)", limits=limits)
    assert (state.ended_by, state.exit_code) == ("exit", 1)
    assert "MemoryError" in log


def test_memory_of_all_processes_together_is_bounded(target: LocalTarget, tmp_path: Path) -> None:
    source = """
    import os, signal
    for _ in range(6):
        if os.fork() == 0:
            x = bytearray(os.urandom(2 ** 20)) * 100
            signal.pause()
    signal.pause()
    """
    state, _ = play(target, tmp_path, source, limits=replace(LIMITS, memory=256 * 2**20))
    assert state.ended_by == "memory"
    assert state.usage["maxMemoryBytes"] > 256 * 2**20


def test_the_capacity_bounds_what_sets_no_bound(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "state", sandbox=False, memory=256 * 2**20)
    state, log = play(target, tmp_path, "x = bytearray(2 ** 30)")
    assert state.exit_code == 1
    assert "MemoryError" in log


def test_a_kill_from_outside_is_told_as_want_of_memory(target: LocalTarget, tmp_path: Path) -> None:
    state, _ = play(target, tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert state.ended_by == "memory"


def test_a_crash_is_a_signal(target: LocalTarget, tmp_path: Path) -> None:
    state, _ = play(target, tmp_path, "import os; os.abort()")
    assert (state.ended_by, state.exit_code, state.message) == ("signal", 6, "ended by SIGABRT")


@pytest.mark.parametrize(
    "source",
    [
        "for n in range(9): open(f'{outputs}/{n}', 'wb').write(bytes(2 ** 20))",
        "open(outputs + '/sparse', 'wb').truncate(2 ** 23)\nopen(outputs + '/more', 'wb').write(b'x')",
        "for n in range(10_001): open(f'{outputs}/{n}', 'w')",
        "os.makedirs(outputs + '/deep' * 40)",
    ],
    ids=["bytes", "sparse", "files", "depth"],
)
def test_outputs_are_bounded(target: LocalTarget, tmp_path: Path, source: str) -> None:
    start = "import os\noutputs = os.environ['EDGETRAIN_OUTPUTS']\n"
    limits = replace(LIMITS, outputs=8 * 2**20)
    state, _ = play(target, tmp_path, start + source + "\nimport signal; signal.pause()", limits=limits)
    assert state.ended_by == "outputs-limit"
    assert "outputs: " in state.message
    target.connect().forget("wear-0123456789ab-1")
    assert sorted(entry.name for entry in target.folder("wear-0123456789ab-1").iterdir()) == ["forgotten", "lock"]


def test_outputs_are_bounded_after_the_end_too(target: LocalTarget, tmp_path: Path) -> None:
    source = (
        "import os\nfor n in range(9): open(os.environ['EDGETRAIN_OUTPUTS'] + f'/{n}', 'wb').write(bytes(2**20))"
    )
    state, _ = play(target, tmp_path, source, limits=replace(LIMITS, outputs=8 * 2**20))
    assert state.ended_by == "outputs-limit"


def test_processes_are_bounded(target: LocalTarget, tmp_path: Path) -> None:
    source = """
    import os, signal
    try:
        for _ in range(200):
            if os.fork() == 0:
                signal.pause()
    except BlockingIOError:
        print("no more processes")
        raise SystemExit(9)
    signal.pause()
    """
    state, log = play(target, tmp_path, source, limits=replace(LIMITS, pids=40))
    # Where the kernel refuses, the script sees it; for root it does not, and the supervisor ends the run.
    assert (state.ended_by, state.exit_code) == ("exit", 9) or (
        state.ended_by == "signal" and "more than 40 processes" in state.message
    ), [state, log]
    assert not target.alive("wear-0123456789ab-1")


def test_a_flood_of_log_is_bounded_and_keeps_both_ends(target: LocalTarget, tmp_path: Path) -> None:
    source = "print('first')\nfor _ in range(200): print('x' * 65536)\nprint('last')"
    state, log = play(target, tmp_path, source, limits=replace(LIMITS, log=2**20))
    assert state.exit_code == 0
    assert (log[0], log[-1]) == ("first", "last")
    assert any("bytes of the log were dropped" in line for line in log)
    size = (target.folder("wear-0123456789ab-1") / "log").stat().st_size
    assert 2**19 < size < 2**20 + 200


def test_the_number_of_processors_reaches_the_libraries(target: LocalTarget, tmp_path: Path) -> None:
    source = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['OPENBLAS_NUM_THREADS'])"
    _, log = play(target, tmp_path, source, limits=replace(LIMITS, cpus=3))
    assert log == ["3 3"]


def test_usage_is_told(target: LocalTarget, tmp_path: Path) -> None:
    source = """
    import time
    x = bytearray(50 * 2**20)
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    """
    state, _ = play(target, tmp_path, source)
    assert state.usage["maxMemoryBytes"] > 50 * 2**20
    assert state.usage["cpuSeconds"] >= 0.5
