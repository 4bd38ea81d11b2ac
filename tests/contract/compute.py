"""What every compute target must do. A provider's test class inherits this and gives the fixture `target`."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, NotFound, Rejected
from edgetrain.core.ports import (
    Compute,
    DataSource,
    EgressRules,
    InputMount,
    Leaving,
    MetricPoint,
    RunLimits,
    RunPhase,
    RunSpec,
    RunState,
)
from edgetrain.providers.folder.datastore import FolderDatastore

DEADLINE = 60.0
# A script is a list of steps in `steps.json`; this plays them where scripts are real processes.
PLAYER = """
import json, os, pathlib, signal, sys
outputs = pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"])
for step, *words in json.loads(pathlib.Path("steps.json").read_text()):
    if step == "print":
        print(words[0])
    elif step == "write":
        file = outputs / words[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(words[1])
    elif step == "link":
        (outputs / words[0]).symlink_to(words[1])
    elif step == "copy":
        source = pathlib.Path(os.environ["EDGETRAIN_INPUT_" + words[0]])
        (outputs / words[2]).write_bytes((source / words[1] if words[1] else source).read_bytes())
    elif step == "parameters":
        (outputs / words[0]).write_text(os.environ["EDGETRAIN_PARAMS"])
    elif step == "hang":
        while True:
            signal.pause()
    elif step == "exit":
        sys.exit(words[0])
"""
Step = Sequence[Any]
RUN = "wear-0123456789ab-1"
# Steps after which a run that may report `NUMBERS` can't be accepted, and what is said of them.
FAULTS: list[tuple[list[Step], str]] = [
    ([["write", "patients.csv", "doe"]], "not declared"),
    ([["link", "model.txt", "/etc/hostname"]], "symbolic link"),
    ([["write", "metrics.json", '{"auroc": NaN}']], "auroc is not a finite number"),
    ([["write", "metrics.json", '{"auroc": true}']], "auroc is not a number"),
    ([["write", "metrics.json", '{"auroc": 1e999}']], "auroc is not a finite number"),
    ([["write", "metrics.json", "[1]"]], "metrics.json"),
    ([["write", "metrics.json", "{"]], "metrics.json"),
    ([["write", "metrics.jsonl", '{"name": "a", "value": "x"}']], "a is not a number"),
    ([["write", "metrics.json", '{"slices": {"../x": {"auroc": 1}}}']], "slice"),
    ([["write", "metrics.json", '{"slices": {"w": 1}}']], "slice"),
    ([["write", "metrics.json", '{"slices": {"w": {"auroc": NaN}}}']], "a slice's metric is not a finite number"),
]
NUMBERS = ("auroc", "n", "loss", "a")


class Target(Protocol):
    """One compute target as the tests see it, from outside its port."""

    python: str
    image: str | None  # the base image that its runs need, by digest

    def connect(self) -> Compute:
        """A new instance that serves the same target, as another process would make it."""

    def crash(self, run_id: str) -> None:
        """Let the running run vanish, so that nobody can tell how it ended."""

    def alive(self, run_id: str) -> bool:
        """Whether anything of the run's script still runs."""


def until(condition: Any, what: str, patience: float = DEADLINE) -> None:
    """Wait until `condition()` is true; fails after a generous time."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        threading.Event().wait(0.02)


def settle(compute: Compute, run_id: str, *phases: RunPhase, patience: float = DEADLINE) -> RunState:
    """Wait until the run is in one of the phases (ended or lost, if none is given)."""
    wanted = phases or (RunPhase.ENDED, RunPhase.LOST)
    until(lambda: compute.inspect(run_id).phase in wanted, f"{run_id} to be {wanted}", patience)
    return compute.inspect(run_id)


def code(folder: Path, *steps: Step) -> Path:
    """A code folder that plays these steps."""
    folder.mkdir(parents=True)
    (folder / "steps.json").write_text(json.dumps(steps))
    (folder / "steps.py").write_text(PLAYER)
    return folder


def spec(folder: Path, python: str, *steps: Step, **changes: Any) -> RunSpec:
    """A run of these steps, with one declared output `model.txt`."""
    base = RunSpec(
        id=RUN,
        command="python steps.py",
        parameters={"lr": 0.1, "token": secrets.token_hex(8)},
        seed=7,
        code=code(folder / "code", *steps),
        requirements=b"",
        image=None,
        python=python,
        inputs=(),
        outputs={"model": "model.txt"},
        limits=RunLimits(timeout=300),
        require_enforced=False,
    )
    return replace(base, **changes)


def leaving(outputs: Mapping[str, str], *metrics: str, **more: Any) -> Leaving:
    """What may leave, as apply tells it to every target: these outputs and these metrics."""
    return Leaving(dict.fromkeys(outputs.values(), "custom_model"), metrics=metrics, **more)


class ComputeContract:
    """The contract of `core.ports.Compute`.

    What follows first is how a target does it that leaves the judgement to the runner. One that makes the content
    check by itself, and tells nothing that the check did not let go, says here what it does otherwise.
    """

    # The files and metrics that are told of a run which wrote both metrics files; `private` was not declared.
    left_files = frozenset({"model.txt", "metrics.json", "metrics.jsonl"})
    left_metrics: Mapping[str, float] = {"auroc": 0.93, "n": 12.0, "private": 4.0}
    left_slices: Mapping[str, Mapping[str, float]] = {"ward 1": {"auroc": 0.9}}
    # What the port's log shows once while a script hangs that printed `ready`, and what the run's end adds to it.
    log_shows, log_adds = "ready", ""

    def said(self, target: Target, compute: Compute, run_id: str) -> list[str]:
        """The lines that the script has printed so far."""
        return [line for line in compute.logs(run_id) if line]

    def examined_again(self, target: Target, compute: Compute, made: RunSpec, rows: Sequence[str]) -> None:
        """Examine a run with rows of its input in `model.txt` by other rules: each check looks anew."""
        files = dict.fromkeys(made.outputs.values(), "custom_model")
        found = compute.examine(made.id, EgressRules(files=files, log=True, waived=[("E701", "model.txt")]))
        assert {(one.where, one.waived) for one in found.findings} == {("model.txt", True), ("log", False)}
        clean = compute.examine(
            made.id, EgressRules(files={"out/clean.txt": "custom_model"}, metrics={"auroc": 0.5})
        )
        assert (clean.complete, list(clean.findings)) == (True, [])
        short = compute.examine(made.id, EgressRules(files=files, max_expanded=10))
        assert not short.complete
        assert short.reason

    def ready(self, target: Target, compute: Compute, run_id: str) -> None:
        """Wait until the script, which then hangs, has printed that it is ready."""
        settle(compute, run_id, RunPhase.RUNNING)
        until(lambda: self.said(target, compute, run_id) == ["ready"], "the script to be ready")

    def run(self, target: Target, folder: Path, *steps: Step, **changes: Any) -> tuple[Compute, RunSpec]:
        """Start a run of these steps."""
        compute = target.connect()
        made = spec(folder, target.python, *steps, image=target.image, **changes)
        compute.start(made)
        return compute, made

    def test_the_target_is_observed(self, target: Target) -> None:
        status = target.connect().observe()
        assert status.ready
        assert status.python in ("", target.python)  # empty: each run's image brings its own
        assert "/" in status.platform
        assert set(status.isolation) >= {"network", "hostHidden"}

    def test_a_run_leaves_outputs_metrics_and_a_log(self, target: Target, tmp_path: Path) -> None:
        points = '{"name": "loss", "value": 2, "step": 1}\n{"metric": "loss", "value": 1.5, "step": 2}\n'
        metrics = '{"auroc": 0.93, "n": 12, "private": 4, "slices": {"ward 1": {"auroc": 0.9}}}'
        compute, made = self.run(
            target,
            tmp_path,
            ["print", "epoch 1"],
            ["write", "model.txt", "weights"],
            ["write", "metrics.json", metrics],
            ["write", "metrics.jsonl", points],
            ["print", "done"],
            leaving=leaving({"model": "model.txt"}, "auroc", "n", "loss"),
        )
        state = settle(compute, made.id)
        assert (state.phase, state.ended_by, state.exit_code) == (RunPhase.ENDED, "exit", 0), state
        assert state.started and state.ended and state.started <= state.ended
        harvest = compute.harvest(made.id, made.outputs)
        assert harvest.faults == []
        files = {file.path: file for file in harvest.files}
        assert set(files) == self.left_files
        assert files["model.txt"].digest == digest_bytes(b"weights")
        assert files["model.txt"].size == 7
        assert harvest.metrics == self.left_metrics
        assert harvest.slices == self.left_slices
        assert list(harvest.history) == [MetricPoint("loss", 2.0, 1), MetricPoint("loss", 1.5, 2)]
        compute.fetch(made.id, "model.txt", tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == b"weights"
        assert self.said(target, compute, made.id) == ["epoch 1", "done"]

    def test_inputs_and_parameters_reach_the_script(self, target: Target, tmp_path: Path) -> None:
        data = tmp_path / "site data"
        data.mkdir()
        (data / "a.csv").write_text("1,2")
        store = FolderDatastore(root=data, cache=tmp_path / "digests")
        folder, file = store.source("."), store.source("a.csv")
        compute, made = self.run(
            target,
            tmp_path,
            ["copy", "IMAGES_2026", "a.csv", "out/one"],
            ["copy", "TABLE", "", "out/two"],
            ["parameters", "out/three"],
            inputs=(InputMount("images-2026", folder, ""), InputMount("table", file, "", single_file=True)),
            outputs={"all": "out"},
            leaving=leaving({"all": "out"}, waived=[("E701", ""), ("E702", ""), ("E703", "")]),
            command="mkdir {{outputs}}/out && python steps.py",
        )
        state = settle(compute, made.id)
        assert state.exit_code == 0, [state, *compute.logs(made.id)]
        harvest = compute.harvest(made.id, made.outputs)
        assert {file.path for file in harvest.files} == {"out/one", "out/two", "out/three"}
        assert harvest.faults == []
        for name in ("one", "two"):
            compute.fetch(made.id, f"out/{name}", tmp_path / name)
            assert (tmp_path / name).read_text() == "1,2"
        compute.fetch(made.id, "out/three", tmp_path / "three")
        assert json.loads((tmp_path / "three").read_text()) == made.parameters

    def test_a_run_is_started_once(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["print", "once"], ["write", "model.txt", "x"])
        compute.start(made)
        target.connect().start(made)
        settle(compute, made.id)
        compute.start(made)
        assert settle(compute, made.id).exit_code == 0
        assert self.said(target, compute, made.id).count("once") == 1
        assert compute.runs() == [made.id]

    def test_another_process_takes_the_run_up(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["print", "ready"], ["hang"])
        self.ready(target, compute, made.id)
        other = target.connect()
        until(lambda: other.inspect(made.id).phase is RunPhase.RUNNING, "the other to see it run")
        follower = other.logs(made.id, follow=True)
        assert any(self.log_shows in line for line in follower)
        other.cancel(made.id, "Superseded")
        rest = list(follower)  # it comes to an end; a shell may say that it was terminated
        assert not any(self.log_shows in line for line in rest)
        assert self.log_adds in "\n".join(rest)
        for seen in (compute, other):
            state = settle(seen, made.id)
            assert (state.phase, state.ended_by, state.message) == (RunPhase.ENDED, "cancel", "Superseded")
        until(lambda: not target.alive(made.id), "the script to be dead")

    def test_a_script_that_fails(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["exit", 3])
        state = settle(compute, made.id)
        assert (state.ended_by, state.exit_code) == ("exit", 3)
        compute.cancel(made.id, "too late")
        assert compute.inspect(made.id) == state

    def test_a_time_out_ends_the_run(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["hang"], limits=RunLimits(timeout=1))
        state = settle(compute, made.id)
        assert (state.phase, state.ended_by, state.exit_code) == (RunPhase.ENDED, "timeout", None)
        until(lambda: not target.alive(made.id), "the script to be dead")

    def test_a_run_that_vanished_is_lost(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["print", "ready"], ["hang"])
        self.ready(target, compute, made.id)
        target.crash(made.id)
        assert settle(target.connect(), made.id).phase is RunPhase.LOST
        until(lambda: not target.alive(made.id), "the script to be dead")
        compute.start(made)
        assert compute.inspect(made.id).phase is RunPhase.LOST
        with pytest.raises(Conflict):
            compute.harvest(made.id, made.outputs)
        compute.cancel(made.id, "Superseded")
        assert compute.inspect(made.id).ended_by == "cancel"

    def test_a_cancelled_run_that_never_started_never_starts(self, target: Target, tmp_path: Path) -> None:
        compute = target.connect()
        made = spec(tmp_path, target.python, ["print", "ran"], image=target.image)
        compute.cancel(made.id, "Superseded")
        compute.start(made)
        state = settle(compute, made.id)
        assert (state.ended_by, state.message) == ("cancel", "Superseded")
        assert list(compute.logs(made.id)) == []

    def test_a_forgotten_run_is_gone_and_never_starts_again(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["print", "ran"], ["write", "model.txt", "x"])
        settle(compute, made.id)
        compute.forget(made.id)
        compute.forget(made.id)
        target.connect().start(made)
        assert compute.inspect(made.id).phase is RunPhase.LOST
        assert compute.runs() == []
        for use in (
            lambda: list(compute.logs(made.id)),
            lambda: compute.harvest(made.id, made.outputs),
            lambda: compute.fetch(made.id, "model.txt", tmp_path / "x"),
        ):
            with pytest.raises(NotFound):
                use()

    def test_a_running_run_is_not_forgotten(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["hang"])
        settle(compute, made.id, RunPhase.RUNNING)
        with pytest.raises(Conflict) as caught:
            compute.forget(made.id)
        assert caught.value.reason == "StillRunning"
        compute.cancel(made.id, "done")

    def test_environments_are_kept_until_they_are_dropped(self, target: Target, tmp_path: Path) -> None:
        compute, made = self.run(target, tmp_path, ["write", "model.txt", "x"])
        settle(compute, made.id)
        mine = compute.environment(made.requirements, made.image, made.python)
        assert mine != compute.environment(b"another lock", made.image, made.python)
        (kept,) = compute.environments()
        assert kept.id == mine
        assert kept.built is not None
        other = target.connect()
        other.drop_environment(mine)
        other.drop_environment(mine)
        assert list(compute.environments()) == []

    def test_an_unknown_run(self, target: Target, tmp_path: Path) -> None:
        compute = target.connect()
        assert compute.inspect("nobody-0-1").phase is RunPhase.ABSENT
        assert compute.runs() == []
        compute.forget("nobody-0-1")
        with pytest.raises(NotFound):
            list(compute.logs("nobody-0-1"))
        with pytest.raises(NotFound):
            compute.fetch("nobody-0-1", "model.txt", tmp_path / "x")

    @pytest.mark.parametrize(("steps", "fault"), FAULTS)
    def test_what_can_not_be_accepted_is_a_fault(
        self, target: Target, tmp_path: Path, steps: list[Step], fault: str
    ) -> None:
        compute, made = self.run(target, tmp_path, *steps, leaving=leaving({"model": "model.txt"}, *NUMBERS))
        assert settle(compute, made.id).exit_code == 0
        harvest = compute.harvest(made.id, made.outputs)
        assert len(harvest.faults) == 1
        assert fault in harvest.faults[0]
        assert "patients" not in harvest.faults[0]
        assert [file.path for file in harvest.files if not file.path.startswith("metrics")] == []

    def test_what_would_leave_is_compared_with_the_inputs(self, target: Target, tmp_path: Path) -> None:
        data = tmp_path / "private"
        data.mkdir()
        rows = [
            f"{number * 7919 % 9973},{number * 31.7:.2f},{number * 1.37:.3f},ward {number % 5}"
            for number in range(99)
        ]
        (data / "patients.csv").write_text("id,a,b,ward\n" + "\n".join(rows))
        outputs = {"model": "model.txt", "clean": "out/clean.txt"}
        compute, made = self.run(
            target,
            tmp_path,
            ["write", "model.txt", f"weights {rows[40]} {rows[41]}"],
            ["write", "out/clean.txt", "weights 0.25 0.5 1.5"],
            ["write", "metrics.json", '{"auroc": 0.5}'],
            ["print", f"training on {rows[7]} {rows[8]}"],
            inputs=(InputMount("table", FolderDatastore(root=data, cache=tmp_path / "digests").source("."), ""),),
            outputs=outputs,
            leaving=leaving(outputs, "auroc"),
        )
        assert settle(compute, made.id).exit_code == 0
        found = compute.examine(made.id, EgressRules(files=dict.fromkeys(outputs.values(), "custom_model")))
        assert found.complete, found.reason
        assert [(one.code, one.where, one.waived) for one in found.findings] == [("E701", "model.txt", False)]
        assert found.files == 2
        assert found.fingerprints > 100
        assert found.coverage == 1
        assert "patients" not in repr(found) and rows[40] not in repr(found)
        self.examined_again(target, compute, made, rows)

    @pytest.mark.parametrize("path", ["absent", "../spec.json", "/etc/hostname", "", "a//b"])
    def test_only_outputs_are_fetched(self, target: Target, tmp_path: Path, path: str) -> None:
        compute, made = self.run(target, tmp_path, ["write", "model.txt", "x"])
        settle(compute, made.id)
        with pytest.raises((NotFound, Rejected)):
            compute.fetch(made.id, path, tmp_path / "fetched")
        assert not (tmp_path / "fetched").exists()

    def test_what_is_not_served_is_refused(self, target: Target, tmp_path: Path) -> None:
        compute = target.connect()
        made = spec(tmp_path, target.python, ["print", "x"], image=target.image)
        source = DataSource("tape", "/dev/tape")
        for wrong in (
            replace(made, inputs=(InputMount("images", source, ""),)),
            replace(made, python="2.7"),
            replace(made, id="../escape"),
        ):
            with pytest.raises(Rejected) as caught:
                compute.start(wrong)
            assert caught.value.reason
        assert compute.runs() == []
