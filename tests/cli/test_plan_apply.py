"""`plan` and `apply` as processes: exit codes, streams, the reviewed plan, and a clean stop."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgetrain.cli.apply import SIGNALS, stopping_cleanly
from edgetrain.cli.session import Session
from edgetrain.core.plan import Plan
from tests.cli.command import edgetrain, environment
from tests.cli.conftest import git

DEADLINE = 120.0


@pytest.fixture
def ready(repository: Path) -> Path:
    """The repository with a first experiment committed."""
    assert edgetrain("new", "experiment", "mine", cwd=repository).code == 0
    commit(repository)
    return repository


def commit(repository: Path) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "Change")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_a_plan_tells_what_is_pending(ready: Path) -> None:
    ended = edgetrain("plan", cwd=ready)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(
        "Plan: 1 to train, 0 to release, 0 channels to move; 0 updates, 0 deletions. digest "
    )
    assert "+ train run/mine  NewExperiment" in ended.out
    assert "if gates pass: propose mine@1" in ended.out
    assert edgetrain("plan", "--exit-code", cwd=ready).code == 4


def test_a_plan_in_every_format(ready: Path) -> None:
    plan = Plan.from_json(edgetrain("plan", "--format", "json", cwd=ready).json)
    assert [change.id for change in plan.changes] == ["run/mine", "proposal/mine@1"]
    markdown = edgetrain("plan", "--format", "markdown", cwd=ready).out
    assert markdown.startswith("### edgetrain plan: 1 to train")
    assert edgetrain("plan", "--format", "github", cwd=ready).out.startswith(
        "::notice title=edgetrain plan::1 to train"
    )


def test_a_plan_of_invalid_files_prints_every_problem(ready: Path) -> None:
    edit(ready / "experiments/mine/experiment.yaml", "seed: 42", "seeds: 42")
    edit(ready / "models/mine/model.yaml", "release: review", "release: never")
    ended = edgetrain("plan", cwd=ready)
    assert ended.code == 1
    assert "experiments/mine/experiment.yaml:" in ended.out
    assert "models/mine/model.yaml:" in ended.out
    assert "2 problems in 2 files." in ended.out
    validated = edgetrain("validate", "--format", "github", cwd=ready)
    assert validated.code == 1
    assert validated.out.count("::error file=") == 2


def test_a_plan_that_refuses_something(ready: Path) -> None:
    edit(
        ready / "models/mine/model.yaml",
        '{repository: "mine"}',
        '{repository: "mine", base: "b@sha256:' + "0" * 64 + '"}',
    )
    ended = edgetrain("plan", cwd=ready)
    assert ended.code == 3
    assert "Refused (the rest goes on):" in ended.out
    assert "P507" in ended.out


def test_the_site_must_be_known(ready: Path) -> None:
    for arguments in (("plan",), ("plan", "--refresh"), ("apply",)):
        ended = edgetrain(*arguments, "--site", "her", cwd=ready)
        assert ended.code == 2, arguments
        assert 'did you mean "here"?' in ended.err


def test_a_file_that_is_no_plan(ready: Path, tmp_path: Path) -> None:
    made = tmp_path / "plan.json"
    assert edgetrain("plan", "--out", made, cwd=ready).err == f"the plan is in {made}\n"
    altered = tmp_path / "altered.json"
    altered.write_text(made.read_text().replace("NewExperiment", "OldExperiment"))
    for text in ("", "[]", "[" * 100_000, altered.read_text()):
        altered.write_text(text)
        ended = edgetrain("apply", "--plan", altered, cwd=ready)
        assert ended.code == 2
        assert "reason: NotAPlan" in ended.err
    assert edgetrain("plan", "--out", tmp_path / "no" / "plan.json", cwd=ready).code == 2


def test_apply_trains_proposes_and_is_done(ready: Path, tmp_path: Path) -> None:
    reviewed = tmp_path / "plan.json"
    assert edgetrain("plan", "--out", reviewed, cwd=ready).code == 0
    ended = edgetrain("apply", "--plan", reviewed, cwd=ready)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Apply: 2 applied. Main is at ")
    assert "candidate  GatesPassed" in ended.out
    assert ended.out.endswith("Next:\n  git merge --no-ff edgetrain/proposal/mine-1\n")
    assert "Starting    mine-" in ended.err
    assert "\x1b[" not in ended.out + ended.err
    again = edgetrain("apply", "--format", "json", cwd=ready)
    assert (again.code, again.json["results"]) == (0, [])
    assert edgetrain("plan", "--exit-code", cwd=ready).code == 0
    stale = edgetrain("apply", "--plan", reviewed, "--format", "json", cwd=ready)
    assert (stale.code, stale.json["error"]["reason"]) == (3, "StalePlan")


def test_a_run_that_fails_is_exit_code_3_and_says_where_to_look(ready: Path) -> None:
    (ready / "experiments/mine/train.py").write_text("raise SystemExit(7)\n")
    commit(ready)
    ended = edgetrain("apply", cwd=ready)
    assert ended.code == 3
    assert "failed   ExitCode" in ended.out
    assert "edgetrain logs mine-" in ended.out.partition("Next:")[2]


def told(process: subprocess.Popen[str], word: str) -> None:
    """Read the process's standard error until a line holds the word."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    pytest.fail(f"{word!r} was never told")


UNTIL_LEAVE = """\
import os, pathlib, select
leave = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"], "leave")
while not leave.exists():
    select.select([], [], [], 0.1)
leave.unlink()
"""


def test_ctrl_c_ends_apply_cleanly_and_the_next_one_takes_the_run_up(ready: Path) -> None:
    script = ready / "experiments/mine/train.py"
    # Under way when the signal comes, whatever else the machine does: it ends when it is given leave.
    script.write_text(UNTIL_LEAVE + script.read_text())
    commit(ready)
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetrain", "apply"],
        cwd=ready,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    told(process, "Starting")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert "stopping: runs go on" in err
    assert "Traceback" not in err
    assert out.startswith("Apply: stopped early; 1 under way.")
    assert out.endswith("Next:\n  edgetrain apply\n")
    (outputs,) = (ready.parent / "state" / "runs").glob("mine-*/outputs")
    (outputs / "leave").touch()
    again = edgetrain("apply", cwd=ready)
    assert again.code == 0, again.err
    assert "Adopted" in again.err
    assert "adopt    run/mine" in again.out


STUBBORN = """\
import sys, threading
from edgetrain.cli.apply import stopping_cleanly
from edgetrain.cli.session import Session
stop = threading.Event()
with stopping_cleanly(Session(), stop) as caught:
    print("ready", flush=True)
    stop.wait()
    print("asked", caught, flush=True)
    if sys.argv[1] == "stubborn":
        threading.Event().wait()
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_exits_at_once(number: signal.Signals) -> None:
    command = [sys.executable, "-c", STUBBORN, "stubborn"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"asked [{int(number)}]\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out) == (128 + number, "")
    assert "again to exit at once" in err


def test_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with stopping_cleanly(Session(), threading.Event()) as caught:
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert caught == []
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_the_egress_guard_finds_is_told_by_plan_and_stops_validate(ready: Path) -> None:
    script = ready / "experiments/mine/train.py"
    script.write_text(script.read_text() + "import socket\n")
    assert edgetrain("validate", cwd=ready).code == 1
    ended = edgetrain("plan", cwd=ready)
    assert ended.code == 3
    assert ended.out.startswith("Plan: no changes.")
    assert "E611 uses the network module socket" in ended.out
    manifest = ready / "experiments/mine/experiment.yaml"
    waiver = '{code: E611, reason: a check, owner: "@example/ds", expires: "2999-01-01"}'
    manifest.write_text(manifest.read_text() + f"  egress:\n    waivers: [{waiver}]\n")
    assert edgetrain("validate", cwd=ready).code == 0
    ended = edgetrain("plan", "--format", "markdown", cwd=ready)
    assert ended.code == 0
    assert "E611 until 2999-01-01" in ended.out
