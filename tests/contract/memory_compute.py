"""A compute target in memory: plays the contract's steps without any process, so that the seam is seen to hold."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, NotFound, Rejected
from edgetrain.core.ports import (
    Check,
    CheckStatus,
    DataSource,
    EgressLevel,
    EgressRules,
    Examination,
    Harvest,
    MetricPoint,
    OutputFile,
    RunPhase,
    RunSpec,
    RunState,
    StoredEnvironment,
    TargetStatus,
)
from edgetrain.onsite.content.main import examine
from edgetrain.providers.answers import examination_of

PYTHON = "3.11"
WHEN = "2026-09-01T10:00:00Z"


@dataclass
class Run:
    """One run. `stop` holds what ends a script that hangs."""

    state: RunState
    log: list[str] = field(default_factory=list)
    outputs: dict[str, bytes | None] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)
    thread: threading.Thread | None = None
    inputs: dict[str, str] = field(default_factory=dict)

    def become(self, state: RunState) -> None:
        """Change the state, unless the run has ended."""
        with self.changed:
            if self.state.phase not in (RunPhase.ENDED, RunPhase.LOST):
                self.state = state
            self.changed.notify_all()


class World(dict[str, Run]):
    """All runs by id, and the environments that they left."""

    def __init__(self) -> None:
        super().__init__()
        self.environments: dict[str, StoredEnvironment] = {}


class MemoryCompute:
    """The port over a world that several instances share. A symbolic link is an output of None."""

    def __init__(self, world: World) -> None:
        self.world = world

    def observe(self) -> TargetStatus:
        isolation = {"network": True, "hostHidden": True}
        return TargetStatus(True, EgressLevel.ENFORCED, PYTHON, "linux/amd64", isolation)

    def start(self, spec: RunSpec) -> None:
        if spec.id in self.world:
            return
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", spec.id):
            raise Rejected("bad id", reason="InvalidRunId")
        if spec.python != PYTHON or any(mount.source.kind != "folder" for mount in spec.inputs):
            raise Rejected("not served", reason="NotServed")
        name = self.environment(spec.requirements)
        self.world.environments.setdefault(name, StoredEnvironment(name, len(spec.requirements), WHEN))
        run = self.world[spec.id] = Run(RunState(RunPhase.RUNNING, started=WHEN, level=EgressLevel.ENFORCED))
        run.inputs = {mount.name: mount.source.location for mount in spec.inputs}
        steps = json.loads((spec.code / "steps.json").read_text())
        run.thread = threading.Thread(target=_play, args=(run, spec, steps), daemon=True)
        run.thread.start()

    def environment(self, requirements: bytes, image: str | None = None, python: str = "") -> str:
        return digest_bytes(requirements)

    def environments(self) -> Sequence[StoredEnvironment]:
        return list(self.world.environments.values())

    def drop_environment(self, environment: str) -> None:
        self.world.environments.pop(environment, None)

    def inspect(self, run_id: str) -> RunState:
        run = self.world.get(run_id)
        return run.state if run else RunState(RunPhase.ABSENT)

    def cancel(self, run_id: str, reason: str) -> None:
        run = self.world.setdefault(run_id, Run(RunState(RunPhase.ABSENT)))
        if run.state.phase is RunPhase.LOST:
            run.state = RunState(RunPhase.PREPARING)
        run.become(RunState(RunPhase.ENDED, ended_by="cancel", message=reason, ended=WHEN))
        run.stop.set()

    def logs(self, run_id: str, follow: bool = False) -> Iterator[str]:
        run = self._held(run_id)
        count = 0
        while True:
            with run.changed:
                while follow and count == len(run.log) and run.state.phase is RunPhase.RUNNING:
                    run.changed.wait()
                if count == len(run.log):
                    return
                line = run.log[count]
            count += 1
            yield line

    def harvest(self, run_id: str, outputs: Mapping[str, str]) -> Harvest:
        run = self._ended(run_id)
        files, faults, history = [], [], []
        metrics: dict[str, float] = {}
        slices: dict[str, dict[str, float]] = {}
        for path, data in run.outputs.items():
            known = any(path == own or path.startswith(own + "/") for own in outputs.values())
            if data is None:
                faults.append("the outputs hold a symbolic link")
            elif not known and path not in ("metrics.json", "metrics.jsonl"):
                faults.append("the outputs hold a file that is not declared")
            else:
                files.append(OutputFile(path, len(data), digest_bytes(data)))
        try:
            told = _object(run.outputs.get("metrics.json") or b"{}")
            if isinstance(told.get("slices"), dict):
                slices = _slices(told.pop("slices"))
            for name, value in told.items():
                metrics[name] = _number(name, value)
            for line in (run.outputs.get("metrics.jsonl") or b"").splitlines():
                point = _object(line)
                name = point.get("name", point.get("metric"))
                history.append(MetricPoint(name, _number(name, point["value"]), point.get("step", 0)))
        except ValueError as error:
            faults.append(f"metrics.json: {error}")
        return Harvest(files, metrics, history, faults, slices)

    def examine(self, run_id: str, rules: EgressRules) -> Examination:
        run = self._ended(run_id)
        with TemporaryDirectory() as folder:
            for path, data in run.outputs.items():
                file = Path(folder, "outputs", path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data or b"")
            Path(folder, "log").write_text("\n".join(run.log))
            places = {"outputs": f"{folder}/outputs", "log": f"{folder}/log", "inputs": run.inputs}
            return examination_of(json.dumps(examine({**places, "rules": asdict(rules)})).encode())

    def fetch(self, run_id: str, path: str, into: Path) -> None:
        data = self._held(run_id).outputs.get(path)
        if data is None:
            raise NotFound("no such output")
        into.write_bytes(data)

    def forget(self, run_id: str) -> None:
        run = self.world.get(run_id)
        if run is None:
            return
        if run.state.phase is RunPhase.RUNNING:
            raise Conflict("it runs", reason="StillRunning")
        self.world[run_id] = Run(RunState(RunPhase.LOST, message="forgotten"))

    def diagnose(self, sources: Sequence[DataSource] = (), cheap: bool = False) -> Sequence[Check]:
        return [Check("memory", CheckStatus.PASS, "it is there")]

    def runs(self) -> Sequence[str]:
        return sorted(name for name, run in self.world.items() if run.state.message != "forgotten")

    def _held(self, run_id: str) -> Run:
        if run_id not in self.runs():
            raise NotFound("not held here")
        return self.world[run_id]

    def _ended(self, run_id: str) -> Run:
        run = self._held(run_id)
        if run.state.phase is not RunPhase.ENDED:
            raise Conflict("not ended")
        return run


def _play(run: Run, spec: RunSpec, steps: list[list[Any]]) -> None:
    """What `PLAYER` does, on a dictionary."""
    inputs = {mount.name.upper().replace("-", "_"): Path(mount.source.location) for mount in spec.inputs}
    for step, *words in steps:
        if step == "print":
            with run.changed:
                run.log.append(words[0])
                run.changed.notify_all()
        elif step == "write":
            run.outputs[words[0]] = words[1].encode()
        elif step == "link":
            run.outputs[words[0]] = None
        elif step == "copy":
            source = inputs[words[0]]
            run.outputs[words[2]] = (source / words[1] if words[1] else source).read_bytes()
        elif step == "parameters":
            run.outputs[words[0]] = json.dumps(spec.parameters).encode()
        elif step == "hang":
            if not run.stop.wait(spec.limits.timeout):
                run.become(RunState(RunPhase.ENDED, ended_by="timeout", started=WHEN, ended=WHEN))
            return
        elif step == "exit":
            run.become(_exited(words[0]))
            return
    run.become(_exited(0))


def _exited(code: int) -> RunState:
    return RunState(RunPhase.ENDED, exit_code=code, ended_by="exit", started=WHEN, ended=WHEN)


def _object(data: bytes) -> dict[str, Any]:
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _slices(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    if len(found) > 100 or not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+ -]{0,63}", name) for name in found):
        raise ValueError("slices")
    if not all(isinstance(numbers, dict) for numbers in found.values()):
        raise ValueError("a slice is not an object")
    return {
        name: {metric: _number("a slice's metric", value) for metric, value in numbers.items()}
        for name, numbers in found.items()
    }


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is not a finite number")
    return float(value)
