"""The run's environment: locked packages, installed once for all runs that have the same lock."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .folder import Ended, now, public, write

TICK = 0.1


class Build:
    """One build. `check` is called often and raises to stop it; `tell` gets what the tools say."""

    def __init__(
        self,
        run: Path,
        wanted: Mapping[str, str],
        seconds: int,
        check: Callable[[], None],
        tell: Callable[[bytes], None],
    ) -> None:
        self.run, self.wanted, self.seconds, self.check, self.tell = run, wanted, seconds, check, tell
        self.folder = Path(wanted["folder"])
        self.deadline = time.monotonic() + seconds

    def ensure(self) -> None:
        """Install the packages unless that was done; one builds at a time. Raises Ended by `environment`."""
        self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.folder.with_suffix(".lock").open("w") as guard:
            while True:
                try:
                    fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self.pause()
            if not (self.folder / "complete").exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                self.install()
                write(self.folder / "complete", {"built": now()})

    def install(self) -> None:
        """Make the folder, from the lock file's bytes."""
        uv, python, lock = self.wanted["uv"], self.wanted["python"], self.run / "requirements.lock"
        self.step([uv, "venv", "--quiet", "--relocatable", "--python", python, str(self.folder)])
        if lock.stat().st_size == 0:
            return
        inner = str(self.folder / "bin" / "python")
        hashed = ["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", str(lock)]
        self.step([uv, "pip", "install", "--python", inner, *hashed])
        # The environment is read-only for runs. With -S no package's code runs here, outside the sandbox.
        compiling = [python, "-I", "-S", "-m", "compileall", "-q", "-j", "0", str(self.folder / "lib")]
        self.step(compiling, may_fail=True)

    def step(self, command: list[str], may_fail: bool = False) -> None:
        """One step; what it says goes into the log, bounded."""
        output = self.run / "build"
        with output.open("w+b") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.run,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    self.pause()
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            file.seek(max(0, output.stat().st_size - 2**16))
            said = file.read()
        output.unlink()
        self.tell(said)
        if process.returncode != 0 and not may_fail:
            raise Ended("environment", f"the packages could not be installed: {public(said)}")

    def pause(self) -> None:
        """Wait a moment."""
        self.check()
        if time.monotonic() > self.deadline:
            raise Ended("environment", f"the packages were not installed in {self.seconds} s")
        time.sleep(TICK)
