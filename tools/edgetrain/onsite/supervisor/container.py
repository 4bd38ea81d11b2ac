"""The container that a run is in, seen from its host: its processes are no children of the supervisor."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .look import Process, below

COMMAND_SECONDS = 60.0
CGROUPS = Path("/sys/fs/cgroup")
ENDED = ("exited", "stopped")


def engine(argv: Sequence[str], env: Mapping[str, str] | None) -> str | None:
    """What a command of the engine says; None if it fails or takes too long."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=None if env is None else dict(env),
            cwd="/",
            timeout=COMMAND_SECONDS,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


class Container:
    """The container of one run: `spec` holds `look` (tells pid, status and exit code), `ask` (hands SIGTERM to it)
    and `stop` (commands that end and remove it, whether it is there or not)."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.pid = 0
        self.files: dict[str, Path] = {}

    def look(self) -> tuple[int, str, int]:
        """The first process, the status and the exit code; (0, "", -1) if there is no container."""
        words = (engine(self.spec["look"], self.spec["env"]) or "").split()
        try:
            return int(words[0]), words[1], int(words[2])
        except (IndexError, ValueError):
            return 0, "", -1

    def find(self) -> None:
        """Find its first process and its control groups."""
        self.pid = self.look()[0]
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.pid}/cgroup").read_text(encoding="utf-8").splitlines():
                _, names, path = line.split(":", 2)
                if path == "/":  # where the kernel moves those that have ended: the machine's own figures
                    continue
                for name in names.split(",") if names else [""]:
                    self.files[name] = CGROUPS / name / path.lstrip("/")

    def _file(self, controller: str, old: str, new: str) -> dict[str, int]:
        """The numbers by name of a cgroup's file, `old` in version 1 and `new` in version 2; a lone one is ""."""
        for folder, name in ((self.files.get(controller), old), (self.files.get(""), new)):
            if folder is None:
                continue
            with contextlib.suppress(OSError):
                lines = [line.split() for line in (folder / name).read_text(encoding="ascii").splitlines()]
                return {words[0] if words[1:] else "": int(words[-1]) for words in lines if words[-1].isdigit()}
        return {}

    def usage(self) -> tuple[float, float]:
        """Bytes of memory now (without the page cache), and seconds of processor so far."""
        processes: list[Process] = below(self.pid) if self.pid else []
        told = self._file("memory", "memory.stat", "memory.stat")
        memory = [told[name] for name in ("total_rss", "total_shmem", "anon", "shmem") if name in told]
        if "total_rss" in told:  # version 1 tells of both `shmem` and `total_shmem`
            memory = [told["total_rss"], told.get("total_shmem", 0)]
        nanoseconds = self._file("cpuacct", "cpuacct.usage", "cpu.stat")
        cpu = nanoseconds.get("usage_usec", 0) / 1e6 or nanoseconds.get("", 0) / 1e9
        return (
            float(sum(memory)) if memory else float(sum(process.memory for process in processes)),
            cpu or sum(process.cpu for process in processes),
        )

    def ask(self) -> None:
        """SIGTERM for the command's processes; its first process hands it on."""
        engine(self.spec["ask"], self.spec["env"])

    def stop(self) -> bool:
        """End and remove it; whether that is sure."""
        said = [engine(argv, self.spec["env"]) for argv in self.spec["stop"]]
        return None not in said


def give(user: Mapping[str, Any]) -> None:
    """Let the container's user write to the folders `write`, and read `read` with all below: the run's own."""
    for place in user["read"]:
        inside = [Path(at, name) for at, folders, files in os.walk(place) for name in (*folders, *files)]
        for path in (Path(place), *inside):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    for place in user["write"]:
        os.chown(place, user["uid"], user["gid"], follow_symlinks=False)
