"""`LocalCompute`: runs on the runner itself, each below a detached supervisor of its own."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgetrain.core.errors import Conflict, NotFound, Rejected, Transient
from edgetrain.core.ports import (
    Check,
    DataDigest,
    DataSource,
    EgressLevel,
    EgressRules,
    Examination,
    Harvest,
    RunPhase,
    RunSpec,
    RunState,
    StoredEnvironment,
    TargetSettings,
    TargetStatus,
)
from edgetrain.onsite.supervisor import BOOTSTRAP
from edgetrain.onsite.supervisor.folder import now, write
from edgetrain.providers.contract import ID
from edgetrain.providers.durable import CHUNK, disk, incoming, make_folder, sync_folder
from edgetrain.providers.index import build_environment
from edgetrain.providers.local import content, prepare
from edgetrain.providers.local.diagnosis import diagnose
from edgetrain.providers.local.disk import remove, sync
from edgetrain.providers.local.environments import drop, environment_id, stored
from edgetrain.providers.local.outputs import copy_out, read_outputs
from edgetrain.providers.local.sandbox import FIX, ISOLATION, SUPERVISOR, Absent, find, python

POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0
CANCEL_SECONDS = 90.0
LOCK_SECONDS = 30.0
MAX_LINE = 64 * 1024
_DAY = 24 * 3600


def default_program() -> str | None:
    """Where bubblewrap is."""
    return shutil.which("bwrap")


class LocalCompute:
    """Compute `local` of one site. `state` is the site's durable folder; `capacity` may hold `memory` (bytes).

    `bwrap` tells where bubblewrap is, or None; `grace` is the seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        *,
        name: str,
        state: Path,
        allow_unsandboxed: bool,
        capacity: Mapping[str, Any],
        bwrap: Callable[[], str | None] = default_program,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self.name = name
        self.state = state.absolute()
        self.allow_unsandboxed = allow_unsandboxed
        self.capacity = capacity
        self._bwrap = bwrap
        self._grace = grace
        self._runs = self.state / "runs"

    def observe(self) -> TargetStatus:
        """Look at this machine, from inside a sandbox if there is one."""
        sandbox = find(self._bwrap())
        plain = isinstance(sandbox, Absent)
        ready = self.allow_unsandboxed or not plain
        return TargetStatus(
            ready=ready,
            egress=EgressLevel.ADVISORY if plain else EgressLevel.ENFORCED,
            python=prepare.this_python(),
            platform=prepare.this_platform(),
            isolation=dict.fromkeys(ISOLATION, False) if isinstance(sandbox, Absent) else sandbox.isolation,
            reason="Ready" if ready else "SandboxMissing",
            message=f"{sandbox.message}; {FIX}" if isinstance(sandbox, Absent) else "",
        )

    def measure(
        self, source: DataSource, single_file: bool = False, progress: Callable[[int], None] | None = None
    ) -> DataDigest | None:
        """None: data is read in place."""
        return None

    def start(self, spec: RunSpec) -> None:
        """Start the run detached, unless it was ever started here."""
        run = self._folder(spec.id)
        with disk(f"starting run {spec.id}"):
            if not run.exists():
                self._create(spec, run)
            self._begin(run)

    def _create(self, spec: RunSpec, run: Path) -> None:
        """Make the run's folder, whole or not at all; of two callers at once, one wins."""
        prepare.check(spec)
        found = find(self._bwrap())
        sandbox = None if isinstance(found, Absent) else found
        if isinstance(found, Absent) and (spec.require_enforced or not self.allow_unsandboxed):
            raise Rejected(f"no sandbox: {found.message}", reason="SandboxMissing", fix=FIX)
        memory = spec.limits.memory or self.capacity.get("memory")
        instructions = prepare.instructions(spec, run, self.state, sandbox, memory, self._grace)
        with self._new(run) as fresh:
            shutil.copytree(spec.code, fresh / "code", symlinks=True)
            for folder in ("outputs", "home", "tmp"):
                (fresh / folder).mkdir(mode=0o700)
            (fresh / "requirements.lock").write_bytes(spec.requirements)
            (fresh / "log").touch()
            write(fresh / "spec.json", instructions)
            for path in fresh.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    sync(path)

    @contextmanager
    def _new(self, run: Path) -> Iterator[Path]:
        """A folder to fill, which then becomes `run` unless that is there already."""
        make_folder(self._runs)
        self._runs.chmod(0o700)
        for left in self._runs.glob(".new-*"):
            with suppress(FileNotFoundError):  # another start made it a run meanwhile
                if time.time() - left.lstat().st_mtime > _DAY:
                    remove(left)
        fresh = self._runs / f".new-{secrets.token_hex(8)}"
        fresh.mkdir(mode=0o700)
        try:
            yield fresh
            (fresh / "lock").touch(0o600)
            try:
                fresh.rename(run)
            except OSError:
                if not run.is_dir():
                    raise
            sync_folder(self._runs)
        finally:
            if fresh.exists():
                remove(fresh)

    def _begin(self, run: Path) -> None:
        """Start the supervisor, unless one is at work or was: it inherits the lock, so there is no gap."""
        with self._lock(run, wait=True) as lock:
            if lock is None or self._begun(run):
                return
            command = [python(), "-I", "-c", BOOTSTRAP, str(SUPERVISOR.parent), str(run), str(lock)]
            with (run / "supervisor.log").open("ab") as log:
                # It forks and leaves at once; what goes on is no child of ours.
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=build_environment(os.environ),
                    cwd="/",
                    pass_fds=(lock,),
                    start_new_session=True,
                    timeout=60,
                    check=False,
                )
        with self._lock(run, wait=True):
            if not self._begun(run):
                raise Transient(f"the supervisor of {run.name} did not start", fix=f"see {run}/supervisor.log")

    @staticmethod
    def _begun(run: Path) -> bool:
        """Whether the run was ever begun, or barred from it."""
        return any((run / name).exists() for name in ("started", "ended.json", "forgotten"))

    @contextmanager
    def _lock(self, run: Path, wait: bool = False, shared: bool = False) -> Iterator[int | None]:
        """The run's lock, or None if it is held. With `wait`, not for others who only look: until it is had,
        or the run has begun and so its supervisor may have it."""
        handle = os.open(run / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        deadline = time.monotonic() + LOCK_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                except BlockingIOError:
                    if wait and not self._begun(run) and time.monotonic() < deadline:
                        threading.Event().wait(POLL_SECONDS / 10)
                        continue
                    yield None
                else:
                    yield handle
                return
        finally:
            os.close(handle)

    def inspect(self, run_id: str) -> RunState:
        """How the run is now."""
        run = self._folder(run_id)
        with disk(f"looking at run {run_id}"):
            if not run.exists():
                return RunState(RunPhase.ABSENT)
            if (run / "forgotten").exists():
                return RunState(RunPhase.LOST, message="the run was recorded and cleared away")
            with self._lock(run, shared=True) as lock:
                if (run / "ended.json").exists():
                    return _state(RunPhase.ENDED, run / "ended.json")
                if lock is None:
                    running = _read(run / "state.json").get("phase") == RunPhase.RUNNING.value
                    return _state(RunPhase.RUNNING if running else RunPhase.PREPARING, run / "state.json")
                if (run / "started").exists():
                    return _state(RunPhase.LOST, run / "state.json")
                # Its supervisor never began: a crash within `start`, which can be called again.
                return RunState(RunPhase.ABSENT)

    def cancel(self, run_id: str, reason: str) -> None:
        """End the run and everything it started; a run that never started is barred from starting."""
        run = self._folder(run_id)
        with disk(f"cancelling run {run_id}"):
            if not run.exists():
                with self._new(run) as fresh:
                    (fresh / "log").touch()
                    write(fresh / "ended.json", _cancelled(reason))
            deadline = time.monotonic() + CANCEL_SECONDS
            while not any((run / name).exists() for name in ("ended.json", "forgotten")):
                (run / "cancel.partial").write_text(reason[:500], encoding="utf-8")
                (run / "cancel.partial").replace(run / "cancel")
                with self._lock(run) as lock:
                    if lock is not None and not (run / "ended.json").exists():
                        write(run / "ended.json", {**_read(run / "state.json"), **_cancelled(reason)})
                if time.monotonic() > deadline:
                    raise Conflict(f"{run_id} does not end", fix="look at its processes on the runner")
                threading.Event().wait(POLL_SECONDS)

    def logs(self, run_id: str, follow: bool = False) -> Iterator[str]:
        """The script's output; after a harvest, what was found wrong follows, with the names of files."""
        run = self._held(run_id)
        with disk(f"reading the log of {run_id}"), (run / "log").open("rb") as file:
            while True:
                going = follow and self.inspect(run_id).phase in (RunPhase.PREPARING, RunPhase.RUNNING)
                while line := file.readline(MAX_LINE):
                    while going and not line.endswith(b"\n") and len(line) < MAX_LINE:
                        threading.Event().wait(POLL_SECONDS)
                        line += file.readline(MAX_LINE - len(line))
                        going = self.inspect(run_id).phase is RunPhase.RUNNING
                    yield line.decode("utf-8", "replace").rstrip("\r\n")
                if not going:
                    break
                threading.Event().wait(POLL_SECONDS)
        if (run / "notes").exists():
            yield from (run / "notes").read_text(encoding="utf-8").splitlines()

    def harvest(self, run_id: str, outputs: Mapping[str, str]) -> Harvest:
        """Read what an ended run left, in a process of its own, inside the sandbox if there is one."""
        run = self._ended(run_id)
        with disk(f"reading the outputs of {run_id}"):
            sandbox = find(self._bwrap())
            limits = dict(_read(run / "spec.json")["bounded"])
            harvest, notes = read_outputs(
                run / "outputs",
                outputs,
                None if isinstance(sandbox, Absent) else sandbox,
                limits[str(run / "outputs")],
            )
            (run / "notes").write_text("".join(f"[edgetrain] {note}\n" for note in notes), encoding="utf-8")
            return harvest

    def examine(self, run_id: str, rules: EgressRules) -> Examination:
        """Compare what would leave with the run's inputs, inside the sandbox if there is one."""
        run = self._ended(run_id)
        with disk(f"checking the outputs of {run_id}"):
            sandbox = find(self._bwrap())
            inputs = dict(_read(run / "spec.json")["inputs"])
            return content.examine(run, inputs, rules, None if isinstance(sandbox, Absent) else sandbox)

    def fetch(self, run_id: str, path: str, into: Path) -> None:
        """Copy one output file."""
        run = self._ended(run_id)
        with disk(f"copying an output of {run_id}"), incoming(into.parent) as file:
            copy_out(run / "outputs", path, file.write)
            file.replace(into)

    def forget(self, run_id: str) -> None:
        """Remove all but a mark that the run was started. Raises Conflict while it runs."""
        run = self._folder(run_id)
        with disk(f"clearing run {run_id}"):
            if not run.exists():
                return
            if self.inspect(run_id).phase in (RunPhase.PREPARING, RunPhase.RUNNING):
                raise Conflict(f"{run_id} still runs", reason="StillRunning", fix="cancel it first")
            write(run / "forgotten", {"at": now()})
            for left in run.iterdir():
                if left.name not in ("forgotten", "lock"):
                    remove(left)

    def diagnose(self, sources: Sequence[DataSource] = (), cheap: bool = False) -> Sequence[Check]:
        """Look at all that a run needs; nothing of it takes long."""
        return diagnose(find(self._bwrap()), self.allow_unsandboxed, self.state, self.capacity, sources)

    def runs(self) -> Sequence[str]:
        """The ids of all runs that are still held here."""
        with disk("listing runs"):
            if not self._runs.is_dir():
                return []
            names = sorted(entry.name for entry in self._runs.iterdir() if ID.fullmatch(entry.name))
            return [name for name in names if not (self._runs / name / "forgotten").exists()]

    def environment(self, requirements: bytes, image: str | None = None, python: str = "") -> str:
        """The id of this lock's environment."""
        return environment_id(requirements, self.state)

    def environments(self) -> Sequence[StoredEnvironment]:
        """The site's environments."""
        with disk("listing environments"):
            return list(stored(self.state))

    def drop_environment(self, environment: str) -> None:
        """Remove it; killed in between, what is left is no environment and is built anew."""
        with disk("removing an environment"):
            if drop(self.state, environment):
                remove(self.state / "environments" / environment)

    def _folder(self, run_id: str) -> Path:
        if not ID.fullmatch(run_id):
            raise Rejected("the run's id is not fit for a file name", reason="InvalidRunId")
        return self._runs / run_id

    def _held(self, run_id: str) -> Path:
        run = self._folder(run_id)
        if not run.exists() or (run / "forgotten").exists():
            raise NotFound(f"{run_id} is not held here", fix="see `edgetrain runs`")
        return run

    def _ended(self, run_id: str) -> Path:
        run = self._held(run_id)
        phase = self.inspect(run_id).phase
        if phase is not RunPhase.ENDED or not (run / "outputs").is_dir():
            raise Conflict(f"{run_id} is {phase.value}: it has no outputs to read", fix="wait for its end")
        return run


def _cancelled(reason: str) -> dict[str, Any]:
    return {"phase": "ended", "ended_by": "cancel", "message": reason[:500], "ended": now()}


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found: dict[str, Any] = json.loads(file.read(CHUNK))
            return found
    except FileNotFoundError:
        return {}


def _state(phase: RunPhase, path: Path) -> RunState:
    found = _read(path)
    return RunState(
        phase=phase,
        exit_code=found.get("exit_code"),
        ended_by=found.get("ended_by", ""),
        message=found.get("message", ""),
        started=found.get("started"),
        ended=found.get("ended"),
        level=EgressLevel(found.get("level", EgressLevel.ADVISORY.value)),
        isolation=found.get("isolation", {}),
        usage=found.get("usage", {}),
    )


def from_settings(settings: TargetSettings) -> LocalCompute:
    """The runner itself."""
    return LocalCompute(
        name=settings.name,
        state=settings.state,
        allow_unsandboxed=settings.allow_unsandboxed,
        capacity=settings.capacity,
    )
