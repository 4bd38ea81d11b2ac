"""What every part of the testbed stands on: scratch folders that are swept, processes that end with their owner."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PREFIX = "edgetrain-testbed-"
CGROUPS = Path("/sys/fs/cgroup")
LIFELINE = Path(__file__).with_name("lifeline.py")
READY = 60.0  # seconds a part may take to answer; a deadline, not a wait
ATTEMPTS = 5  # a free port may be taken by another process before the part listens on it


class PartFailed(RuntimeError):
    """A part did not start or stop; the message ends with the last of its log."""


def cache_folder() -> Path:
    """Where things are kept that take long to make: outside the checkout, as XDG says."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetrain-testbed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def scratch_folder(name: str) -> Path:
    """A new folder that carries its owner's pid; folders of owners that are dead are removed first."""
    sweep()
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-{name}-"))


def sweep() -> None:
    """Remove scratch folders of dead owners. Processes need no sweep: they ended with their owner."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            sweep_cgroups(folder / "disk")
            remove(folder)


def sweep_cgroups(disk: Path) -> None:
    """Remove the groups that the containers of a VM's disk leave behind when the VM is powered off."""
    for stored in disk.glob("containers/storage/overlay-containers/*"):
        for pattern in (f"libpod_parent/*{stored.name}*", f"*/libpod_parent/*{stored.name}*"):
            for group in CGROUPS.glob(pattern):
                inner = sorted((folder for folder in group.rglob("*") if folder.is_dir()), reverse=True)
                for folder in [*inner, group]:
                    with contextlib.suppress(OSError):  # a process may just be ending in it
                        folder.rmdir()


def remove(folder: Path) -> None:
    """Remove a scratch folder with all in it, whatever modes a container left there."""

    def loosen(function: Callable[..., object], path: str, error: BaseException) -> None:
        if isinstance(error, FileNotFoundError):
            return  # somebody else removes it, too
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            if function in (os.unlink, os.rmdir):
                function(path)
            else:  # a folder that can't be looked into
                Path(path).chmod(0o700)
                shutil.rmtree(path, ignore_errors=True)

    if sys.version_info >= (3, 12):
        shutil.rmtree(folder, onexc=loosen)
    else:
        shutil.rmtree(folder, onerror=lambda function, path, info: loosen(function, path, info[1]))


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nothing listens on just now."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


def answers(host: str, port: int) -> bool:
    """Whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def until(condition: Callable[[], object], what: str, deadline: float = READY) -> None:
    """Wait until the condition is true. Raises TimeoutError, saying `what`, after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline:g} s for {what}")
        time.sleep(0.02)


class Process:
    """A process that ends with its owner; its output goes to a log file."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        """Start the command. `env` is added to the own environment."""
        self.log = log
        with log.open("ab") as output:
            self._lifeline = subprocess.Popen(
                [sys.executable, "-ISs", str(LIFELINE), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._lifeline.poll() is None

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it in time."""
        if self._lifeline.stdin is not None:
            self._lifeline.stdin.close()
        self._lifeline.wait(READY)

    def tail(self) -> str:
        """The last of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


class Part(ABC):
    """One part: a context manager with a scratch folder. Subclasses say how to start and stop."""

    def __init__(self, name: str) -> None:
        self.folder = scratch_folder(name)

    @abstractmethod
    def start(self) -> None:
        """Start, and wait until it answers. Raises PartFailed."""

    @abstractmethod
    def stop(self) -> None:
        """Stop; what was stored stays, so `start` goes on from there."""

    def close(self) -> None:
        """Stop and remove the scratch folder."""
        try:
            self.stop()
        finally:
            remove(self.folder)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(launch: Callable[[int], Process], host: str, port: int | None) -> tuple[Process, int]:
    """Launch a server on the port, or on a free one, and wait until it answers at `host`. Raises PartFailed."""
    tail = ""
    for _ in range(1 if port else ATTEMPTS):
        chosen = port or free_port()
        process = launch(chosen)
        with contextlib.suppress(TimeoutError):
            until(lambda: answers(host, chosen) or not process.running(), "the server")  # noqa: B023
            # Another process could have taken the port in between: then ours has ended.
            if process.running():
                return process, chosen
        process.stop()
        tail = process.tail()
    raise PartFailed(f"the server did not start:\n{tail}")
