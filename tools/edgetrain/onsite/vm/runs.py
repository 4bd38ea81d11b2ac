"""The runs that a machine holds, each a folder that tells everything about it, under a supervisor of its own.

Beside what the supervisor writes (see its package) a run's folder holds `lock`, and `forgotten` once all that the
run left was cleared away. Every operation can be killed and made again; none starts a run twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..supervisor import BOOTSTRAP
from ..supervisor.folder import boot, now, write
from .fault import Fault

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
POLL_SECONDS = 0.05
CANCEL_SECONDS = 90.0
LOCK_SECONDS = 30.0
STOP_SECONDS = 60.0
MAX_LINE = 64 * 1024
MAX_JSON = 2**22
DAY = 24 * 3600.0
PARENT = Path(__file__).resolve().parent.parent
# What stays of a run whose log is kept.
KEPT = ("log", "notes", "ended.json")
GOING = ("preparing", "running")
FACTS = ("exit_code", "ended_by", "message", "started", "ended", "level", "isolation", "usage")


class Runs:
    """The runs below `folder`. `python` is the interpreter that supervises, `env` its environment."""

    def __init__(self, folder: Path, python: str, env: Mapping[str, str]) -> None:
        self.folder, self.python, self.env = folder, python, env

    def run(self, run_id: str) -> Path:
        """Where the run lies, or would."""
        if not ID.fullmatch(run_id):
            raise Fault("Rejected", "the run's id is not fit for a file name", "InvalidRunId")
        return self.folder / run_id

    def create(self, run_id: str, fill: Callable[[Path], None]) -> None:
        """Make the run's folder, whole or not at all; of two callers at once, one wins. `fill` gets a new
        folder with an empty log."""
        run = self.run(run_id)
        if run.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        self._clear_new()
        fresh = self.folder / f".new-{secrets.token_hex(8)}"
        fresh.mkdir(mode=0o700)
        try:
            (fresh / "log").touch(0o600)
            fill(fresh)
            (fresh / "lock").touch(0o600)
            for path in fresh.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    sync(path)
            try:
                fresh.rename(run)
            except OSError:
                if not run.is_dir():
                    raise
            sync(self.folder)
            sync(self.folder.parent)
        finally:
            if fresh.exists():
                remove(fresh)

    def _clear_new(self) -> None:
        for left in self.folder.glob(".new-*"):
            with suppress(FileNotFoundError):  # another start made it a run meanwhile
                if time.time() - left.lstat().st_mtime > DAY:
                    remove(left)

    def begin(self, run_id: str) -> None:
        """Start the supervisor, unless one is at work or was: it inherits the lock, so there is no gap."""
        run = self.run(run_id)
        with self._lock(run, wait=True) as lock:
            if lock is None or begun(run):
                return
            command = [self.python, "-I", "-c", BOOTSTRAP, str(PARENT), str(run), str(lock)]
            with (run / "supervisor.log").open("ab") as log:
                # It forks and leaves at once; what goes on is no child of ours.
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(self.env),
                    cwd="/",
                    pass_fds=(lock,),
                    start_new_session=True,
                    timeout=60,
                    check=False,
                )
        with self._lock(run, wait=True):
            if not begun(run):
                raise Fault(
                    "Transient", f"the supervisor of {run_id} did not start", "", f"see {run}/supervisor.log"
                )

    def bar(self, run_id: str, ended: Mapping[str, Any]) -> None:
        """Let the run be ended so, unless it ever began: also if its folder was made for it to begin later."""
        self.create(run_id, lambda fresh: write(fresh / "ended.json", ended))
        run = self.run(run_id)
        with self._lock(run, wait=True) as lock:
            if lock is not None and not begun(run):
                write(run / "ended.json", ended)

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
                    if wait and not begun(run) and time.monotonic() < deadline:
                        time.sleep(POLL_SECONDS / 5)
                        continue
                    yield None
                else:
                    yield handle
                return
        finally:
            os.close(handle)

    def inspect(self, run_id: str) -> dict[str, Any]:
        """How the run is now: `phase` and what `RunState` has beside it, where known."""
        run = self.run(run_id)
        if not run.exists():
            return {"phase": "absent"}
        if (run / "forgotten").exists():
            return {"phase": "lost", "message": "the run was recorded and cleared away"}
        with self._lock(run, shared=True) as lock:
            if (run / "ended.json").exists():
                return state("ended", run / "ended.json")
            if lock is None:
                running = read(run / "state.json").get("phase") == "running"
                return state("running" if running else "preparing", run / "state.json")
            if (run / "started").exists():
                self._stop(run)
                other = read(run / "started").get("boot", "") not in ("", boot())
                message = "the machine was started anew" if other else "its supervisor is gone"
                return {**state("lost", run / "state.json"), "message": message}
            # Its supervisor never began: a crash within a start, which can be made again.
            return {"phase": "absent"}

    def _stop(self, run: Path) -> None:
        """See to it that nothing of a run without a supervisor goes on: its container is no child of it."""
        if (run / "stopped").exists():
            return
        self.stop(run.name)
        write(run / "stopped", {"at": now()})

    def stop(self, run_id: str) -> None:
        """End every container of the run, those of its readers too. Raises Fault if one stays."""
        run = self.run(run_id)
        for argv in read(run / "spec.json").get("stop", []):
            try:
                subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    env=dict(self.env),
                    cwd="/",
                    timeout=STOP_SECONDS,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                message = f"what is left of {run.name} could not be ended ({type(error).__name__})"
                raise Fault("Transient", message, "StillRunning", "look at its container on the machine") from None

    def cancel(self, run_id: str, reason: str) -> None:
        """End the run and everything it started; a run that never started is barred from starting."""
        run = self.run(run_id)
        ended = {"phase": "ended", "ended_by": "cancel", "message": reason[:500], "ended": now()}
        if not run.exists():
            self.create(run_id, lambda fresh: write(fresh / "ended.json", ended))
        deadline = time.monotonic() + CANCEL_SECONDS
        while not any((run / name).exists() for name in ("ended.json", "forgotten")):
            partial = run / f"cancel.{secrets.token_hex(4)}.partial"  # others may cancel it too
            partial.write_text(reason[:500], encoding="utf-8")
            partial.replace(run / "cancel")
            with self._lock(run) as lock:
                if lock is not None and not (run / "ended.json").exists():
                    self._stop(run)
                    write(run / "ended.json", {**read(run / "state.json"), **ended})
            if time.monotonic() > deadline:
                raise Fault("Conflict", f"{run_id} does not end", "", "look at its processes on the machine")
            time.sleep(POLL_SECONDS)

    def log(self, run_id: str, follow: bool = False, left: Callable[[], bool] = lambda: False) -> Iterator[str]:
        """The script's output; after a harvest, what was found wrong follows, with the names of files.
        With `follow` until the run ends, or `left()` says that nobody reads on."""
        run = self.run(run_id)
        if not (run / "log").exists():
            raise Fault(
                "NotFound", f"the log of {run_id} is not kept here any more", "LogGone", "see `edgetrain runs`"
            )
        with (run / "log").open("rb") as file:
            while True:
                going = follow and not left() and self.inspect(run_id)["phase"] in GOING
                while line := file.readline(MAX_LINE):
                    while going and not line.endswith(b"\n") and len(line) < MAX_LINE:
                        time.sleep(POLL_SECONDS)
                        line += file.readline(MAX_LINE - len(line))
                        going = not left() and self.inspect(run_id)["phase"] == "running"
                    yield line.decode("utf-8", "replace").rstrip("\r\n")
                if not going:
                    break
                time.sleep(POLL_SECONDS)
        if (run / "notes").exists():
            yield from (run / "notes").read_text(encoding="utf-8").splitlines()

    def note(self, run_id: str, notes: Sequence[str]) -> None:
        """Keep what was found wrong with the run's outputs: names of files are in it, so it stays at the site."""
        text = "".join(f"[edgetrain] {note}\n" for note in notes)
        (self.held(run_id) / "notes").write_text(text, encoding="utf-8")

    def forget(self, run_id: str, keep: bool = False) -> None:
        """Remove all but a mark that the run was started; with `keep` its log stays, too, until `sweep`.
        Raises Conflict while it runs."""
        run = self.run(run_id)
        if not run.exists():
            return
        if self.inspect(run_id)["phase"] in GOING:
            raise Fault("Conflict", f"{run_id} still runs", "StillRunning", "cancel it first")
        if not (run / "forgotten").exists():
            write(run / "forgotten", {"at": now(), "time": time.time()})
        self._clear(run, KEPT if keep else ())

    @staticmethod
    def _clear(run: Path, keep: Sequence[str] = ()) -> None:
        for left in run.iterdir():
            if left.name not in ("forgotten", "lock", *keep):
                remove(left)

    def sweep(self, retention: float) -> None:
        """Clear what was forgotten longer than `retention` seconds ago."""
        for run in self._all():
            if time.time() - read(run / "forgotten").get("time", time.time()) >= retention:
                self._clear(run)

    def _all(self) -> list[Path]:
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(run for run in found if ID.fullmatch(run.name))

    def names(self) -> list[str]:
        """The ids of all runs that are still held here."""
        return [run.name for run in self._all() if not (run / "forgotten").exists()]

    def held(self, run_id: str) -> Path:
        """The folder of a run that was not forgotten. Raises NotFound."""
        run = self.run(run_id)
        if not run.exists() or (run / "forgotten").exists():
            raise Fault("NotFound", f"{run_id} is not held here", "", "see `edgetrain runs`")
        return run

    def ended(self, run_id: str) -> Path:
        """The folder of a run that has outputs to read. Raises NotFound, Conflict."""
        run = self.held(run_id)
        phase = self.inspect(run_id)["phase"]
        if phase != "ended" or not (run / "outputs").is_dir():
            raise Fault("Conflict", f"{run_id} is {phase}: it has no outputs to read", "", "wait for its end")
        return run


def begun(run: Path) -> bool:
    """Whether the run was ever begun, or barred from it."""
    return any((run / name).exists() for name in ("started", "ended.json", "forgotten"))


def state(phase: str, path: Path) -> dict[str, Any]:
    """The state that a file holds, under this phase."""
    found = read(path)
    return {"phase": phase, **{name: found[name] for name in FACTS if name in found}}


def read(path: Path) -> dict[str, Any]:
    """A JSON object that we wrote; empty if it is not there."""
    try:
        with path.open("rb") as file:
            found: dict[str, Any] = json.loads(file.read(MAX_JSON))
            return found
    except FileNotFoundError:
        return {}


def remove(path: Path) -> None:
    """Remove a folder that a script may have filled: with deep nesting, or folders without rights."""
    arguments = ["--", str(path)]
    if path.is_dir() and not path.is_symlink():
        subprocess.run(["chmod", "-R", "u+rwX", *arguments], capture_output=True, check=False)
    done = subprocess.run(["rm", "-rf", *arguments], capture_output=True, check=False)
    if done.returncode != 0:
        raise OSError(f"could not remove {path.name}")


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
