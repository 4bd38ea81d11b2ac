"""Bubblewrap: what a run that is a process sees of its machine, and whether bubblewrap works here.

For runs on the runner itself, and for those in the pods of a cluster.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ONSITE

ROOT = "/edgetrain"
TMP = "/tmp"  # noqa: S108 - inside the sandbox: bounded, and thrown away
SHM = "/dev/shm"  # noqa: S108 - likewise
# A user without rights, also where whoever starts the run is root.
NOBODY = 65534
HOME_SIZE = 256 * 2**20
SYSTEM = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
SETTINGS = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")
HOST = ("/etc/passwd", "/etc/shadow", "/etc/ssh", "/var", "/run", "/sys", "/boot")
ISOLATION = ("network", "pidNamespace", "readOnly", "hostHidden", "noPrivileges")
SUPERVISOR = ONSITE / "supervisor"
LAUNCHER = SUPERVISOR / "launch.py"
HARVESTER = SUPERVISOR / "harvest.py"
PROBE_SECONDS = 30


def python() -> str:
    """The interpreter below any virtual environment; it brings its own prefix into the sandbox."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def library_path() -> str:
    """Where the interpreter's shared library is, if the system's loader would not find it."""
    folder = Path(sys.base_prefix) / "lib"
    name = sysconfig.get_config_var("INSTSONAME") or ""
    shared = sys.base_prefix != "/usr" and ".so" in name and (folder / name).exists()
    return str(folder) if shared else ""


@dataclass(frozen=True)
class Sandbox:
    """A bubblewrap that was seen to work: its program, the optional flags that it takes, what was observed."""

    program: str
    flags: tuple[str, ...]
    isolation: Mapping[str, bool]


@dataclass(frozen=True)
class Absent:
    """Why there is no sandbox."""

    message: str


def arguments(
    program: str,
    flags: Sequence[str],
    *,
    read: Mapping[str, str] | Sequence[tuple[str, str]],
    write: Mapping[str, str],
    chdir: str,
    tmp: int,
    shm: int,
    devices: Sequence[str] = (),
) -> list[str]:
    """The command line up to the program to run; `read` and `write` give a host path one inside, `devices` are
    given as they are."""
    found = [program, "--unshare-all", "--unshare-user", *flags, "--die-with-parent", "--new-session"]
    found += ["--cap-drop", "ALL", "--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "edgetrain"]
    found += ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM:
        path = Path("/") / name
        if path.is_symlink():
            found += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            found += ["--ro-bind", str(path), str(path)]
    for setting in SETTINGS:
        found += ["--ro-bind-try", setting, setting]
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        found += ["--ro-bind", sys.base_prefix, sys.base_prefix]
    found += ["--proc", "/proc", "--dev", "/dev"]
    for device in devices:
        found += ["--dev-bind", device, device]
    for size, place in ((shm, SHM), (tmp, TMP), (min(tmp, HOME_SIZE), f"{ROOT}/home")):
        found += ["--size", str(size), "--tmpfs", place]
    for outside, inside in read.items() if isinstance(read, Mapping) else read:
        found += ["--ro-bind", outside, inside]
    for outside, inside in write.items():
        found += ["--bind", outside, inside]
    # Where the runner is root, /proc/sys would be the host's own to write.
    for place in ("/proc", "/dev", "/"):
        found += ["--remount-ro", place]
    return [*found, "--chdir", chdir, "--"]


def writable(write: Mapping[str, str]) -> list[str]:
    """The mount points that may be written."""
    return [TMP, SHM, f"{ROOT}/home", *write.values()]


def hidden(*paths: Path) -> list[str]:
    """Host paths that must not be seen inside: these, and the classic ones (but for the way to Python)."""
    found = [*paths, *map(Path, HOST), Path("~/.ssh").expanduser() if "HOME" in os.environ else Path("/root/.ssh")]
    return [str(path) for path in found if not Path(sys.base_prefix).is_relative_to(path)]


def bare() -> dict[str, str]:
    """The least environment for a program of ours."""
    found = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    if library := library_path():
        found["LD_LIBRARY_PATH"] = library
    return found


@functools.cache
def probe(program: str) -> Sandbox | Absent:
    """Run the sandbox once, exactly as runs do, and look from inside. Cached: kernels don't change their mind."""
    message = "bubblewrap failed"
    for flags in (("--disable-userns",), ()):
        with tempfile.TemporaryDirectory(prefix="edgetrain-probe-") as name:
            folder = Path(name)
            (folder / "outputs").mkdir()
            (folder / "secret").touch()
            write = {str(folder / "outputs"): f"{ROOT}/outputs"}
            command = arguments(
                program,
                flags,
                read={str(LAUNCHER): f"{ROOT}/launch.py"},
                write=write,
                chdir="/",
                tmp=2**20,
                shm=2**20,
            )
            config = {"report": 1, "writable": writable(write), "hidden": hidden(folder / "secret")}
            command += [python(), "-I", "-S", f"{ROOT}/launch.py", json.dumps(config)]
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=PROBE_SECONDS,
                    env=bare(),
                    cwd="/",
                    check=False,
                )
                isolation = json.loads(done.stdout) if done.returncode == 0 else None
            except (OSError, ValueError, subprocess.TimeoutExpired) as error:
                message = f"bubblewrap could not be tried ({type(error).__name__})"
                continue
            if isolation is None:
                said = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
                message = f"bubblewrap is installed and does not work here: {said}"
                continue
            if failed := [name for name in ISOLATION if isolation.get(name) is not True]:
                message = f"bubblewrap works here and does not hold: {', '.join(failed)}"
                continue
            return Sandbox(program, flags, isolation)
    return Absent(message)


def find(program: str | None) -> Sandbox | Absent:
    """The sandbox of this machine, given where bubblewrap is."""
    return probe(program) if program else Absent("bubblewrap is not installed")
