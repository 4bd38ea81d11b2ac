"""A run in a pod: everything is made here, as on a runner that trains by itself.

`task` has beside what the package says: `work` (folder of the runs), `command` and `env` (in which `mark` stands
for the place of the run's folders), `inputs` (name to `location`, `single`), `limits`, `python` (minor version),
`enforced` (refuse to run without a sandbox). The packages' lock lies in the snapshot as `requirements.lock`.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any, BinaryIO

from .. import ONSITE, sandbox
from ..supervisor.folder import write
from ..vm.fault import Fault
from ..vm.main import Machine
from ..vm.runs import Runs
from ..vm.tell import CHUNK, open_output
from .listing import copy

BUILD_SECONDS = 3600
OPEN_FILES = 4096
MAX_FILES = 10_000
SCRATCH = 64 * 2**20
# What builds of environments need to find the way to the package index; nothing of Azure ML's.
KEPT = {"HOME", "TMPDIR", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}


def facts() -> dict[str, Any]:
    """What a run finds here: Python, platform, and what the sandbox was seen to keep it from."""
    found = sandbox.find(shutil.which("bwrap"))
    machine = platform.machine().lower()
    told = {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "platform": f"{sys.platform}/{({'x86_64': 'amd64', 'aarch64': 'arm64'}).get(machine, machine)}",
    }
    if isinstance(found, sandbox.Absent):
        isolation = dict.fromkeys(sandbox.ISOLATION, False)
        return {**told, "level": "advisory", "isolation": isolation, "message": found.message}
    return {**told, "level": "enforced", "isolation": dict(found.isolation), "message": ""}


def builders() -> dict[str, str]:
    """The environment of the supervisor and of builds."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.upper() in PROXIES or name.startswith("UV_")
    }
    for theirs, ours in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX")):
        if theirs in os.environ:
            found.setdefault(ours, os.environ[theirs])
    found.setdefault("UV_SYSTEM_CERTS", "true")
    return {**found, "LANG": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)}


class Pod:
    """The run of `task`, from the snapshot in `snapshot`."""

    def __init__(self, task: dict[str, Any], snapshot: Path) -> None:
        self.task, self.snapshot = task, snapshot
        self.work = Path(task["work"])
        self.machine = Machine(self.work, io.BytesIO(), io.BytesIO())
        self.machine.runs = Runs(self.work / "runs", sandbox.python(), builders())
        self.run = self.machine.runs.run(task["id"])

    def ask(self, verb: str, within: float | None = None, **request: Any) -> Any:
        """The answer of a verb; `within` is not needed here. Raises Fault."""
        return getattr(self.machine, verb)(**request)

    def copy(self, path: str, into: BinaryIO) -> None:
        """Write an output file's bytes. Raises Fault."""
        with open_output(self.machine.runs.ended(self.task["id"]) / "outputs", path) as file:
            shutil.copyfileobj(file, into, CHUNK)

    def prepare(self) -> None:
        """Make the run's folder, or let the run be ended that can't be made here. Raises Fault."""
        self.work.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = self.work.lstat()
        if self.work.is_symlink() or there.st_uid != os.geteuid() or there.st_mode & 0o022:
            raise Fault(
                "Denied",
                "the work folder is a link, is another account's, or others can write to it",
                "WorkFolderUnsafe",
            )
        found = sandbox.find(shutil.which("bwrap"))
        held = None if isinstance(found, sandbox.Absent) else found
        barred = self._barred(found.message if isinstance(found, sandbox.Absent) else None)
        if barred:
            self.machine.bar(self.task["id"], *barred)
            return
        spec = self.instructions(held)

        def fill(fresh: Path) -> None:
            (fresh / "code").mkdir(mode=0o755)
            copy(self.snapshot / "code", self.task["code"], fresh / "code")
            for name in ("outputs", "home", "tmp"):
                (fresh / name).mkdir(mode=0o700)
            (fresh / "inputs").mkdir(mode=0o755)
            if held is None:
                for name, mount in self.task["inputs"].items():
                    place = fresh / "inputs" / name
                    if mount["single"]:
                        place.mkdir()
                        place = place / Path(mount["location"]).name
                    place.symlink_to(mount["location"])
            shutil.copyfile(self.snapshot / "requirements.lock", fresh / "requirements.lock")
            write(fresh / "spec.json", spec)

        self.machine.runs.create(self.task["id"], fill)

    def _barred(self, no_sandbox: str | None) -> tuple[str, str] | None:
        """Why the run can't be made here: by what it ends, and in words."""
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if here != self.task["python"]:
            return "environment", f"the pod has Python {here}, the experiment asks for {self.task['python']}"
        if no_sandbox is not None and self.task["enforced"]:
            return "sandbox", f"the pod has no sandbox: {no_sandbox}"
        if _uv() is None:
            return "environment", "uv is not installed in the pod's image"
        for name, mount in self.task["inputs"].items():
            place = Path(mount["location"])
            if not (place.is_file() if mount["single"] else place.is_dir()):
                return (
                    "environment",
                    f"input {name} is not mounted in the pod at the path that it has for the runner",
                )
        return None

    def instructions(self, held: sandbox.Sandbox | None) -> dict[str, Any]:
        """The contents of the run's `spec.json`: see `supervisor/main.py` and `vm/main.py`."""
        task, run, limits = self.task, self.run, self.task["limits"]
        outputs = str(run / "outputs")
        environment = self.environment()
        top = sandbox.ROOT if held else str(run)
        env = {name: value.replace(task["mark"], top) for name, value in task["env"].items()}
        packages = f"{sandbox.ROOT}/environment" if held else environment["folder"]
        env["PATH"] = f"{packages}/bin:{env['PATH']}"
        if library := sandbox.library_path():
            env["LD_LIBRARY_PATH"] = library
        write_places = {outputs: f"{sandbox.ROOT}/outputs"}
        read = {
            str(run / "code"): f"{sandbox.ROOT}/code",
            environment["folder"]: f"{sandbox.ROOT}/environment",
            str(sandbox.LAUNCHER): f"{sandbox.ROOT}/launch.py",
        }
        seen = {}
        for name, mount in task["inputs"].items():
            last = f"/{Path(mount['location']).name}" if mount["single"] else ""
            # One place may be two inputs; each gets a mount of its own path inside.
            seen[name] = f"{sandbox.ROOT}/inputs/{name}{last}" if held else mount["location"]
        launcher = read[str(sandbox.LAUNCHER)] if held else str(sandbox.LAUNCHER)
        argv = [sandbox.python(), "-I", "-S", launcher]
        mounts = list(read.items())
        mounts += [(task["inputs"][name]["location"], place) for name, place in seen.items()]
        bounded = {outputs: limits["outputs"]}
        if held:
            devices = sorted(map(str, Path("/dev").glob("nvidia*"))) if limits["gpus"] else []
            argv[:0] = sandbox.arguments(
                held.program,
                held.flags,
                read=mounts,
                write=write_places,
                chdir=f"{sandbox.ROOT}/code",
                tmp=limits["tmp"],
                shm=limits["shm"],
                devices=devices,
            )
        else:
            bounded |= {str(run / "tmp"): limits["tmp"], str(run / "home"): limits["tmp"]}
        rlimits = {"CORE": 0, "NOFILE": OPEN_FILES, "FSIZE": max(limits["outputs"], limits["tmp"], limits["shm"])}
        if limits["memory"]:
            rlimits["DATA"] = limits["memory"]
        return {
            "id": task["id"],
            "level": "enforced" if held else "advisory",
            "argv": argv,
            "launch": {
                "command": task["command"].replace(task["mark"], top),
                "limits": rlimits,
                "writable": sandbox.writable(write_places),
                "hidden": sandbox.hidden(run, self.snapshot),
                "guard": held is None,
            },
            "env": env,
            "cwd": "/" if held else str(run / "code"),
            "require": list(sandbox.ISOLATION) if held else [],
            "environment": environment,
            "bounded": bounded,
            "limits": {
                "timeout": limits["timeout"],
                "grace": limits["grace"],
                "build": BUILD_SECONDS,
                "memory": limits["memory"],
                "log": limits["log"],
                "pids": limits["pids"],
                "files": MAX_FILES,
            },
            "stop": [],
            "harvest": self.reader(
                held, {outputs: f"{sandbox.ROOT}/outputs"}, sandbox.HARVESTER, "outputs", outputs
            ),
            **self.checker(held, outputs, seen),
        }

    def environment(self) -> dict[str, str]:
        """What the supervisor needs to build the environment of the lock, once for all runs that have it."""
        base = sandbox.python()
        lock = (self.snapshot / "requirements.lock").read_bytes()
        key = b"\0".join([facts()["platform"].encode(), self.task["python"].encode(), os.fsencode(base), lock])
        folder = self.work / "environments" / hashlib.sha256(key).hexdigest()
        return {"folder": str(folder), "uv": _uv() or "uv", "python": base}

    def reader(
        self, held: sandbox.Sandbox | None, read: dict[str, str], program: Path, name: str, place: str
    ) -> dict[str, Any]:
        """The command of a program that reads what the run left, and where it sees it."""
        inside = f"{sandbox.ROOT}/{program.name}"
        return {
            "argv": [*self.closed(held, [*read.items(), (str(program), inside)]), inside if held else str(program)],
            name: read[place] if held else place,
        }

    def checker(self, held: sandbox.Sandbox | None, outputs: str, seen: dict[str, str]) -> dict[str, Any]:
        """The command of the content check, and what it sees where."""
        log = str(self.run / "log")
        program = ONSITE / "content"
        inputs = [(self.task["inputs"][name]["location"], place) for name, place in seen.items()]
        root = sandbox.ROOT
        if held is None:
            places = {"outputs": outputs, "inputs": seen, "log": log}
            return {"examine": [*self.closed(None, []), str(program)], "seen": places}
        own = [(outputs, f"{root}/outputs"), (log, f"{root}/log"), (str(program), f"{root}/content")]
        places = {"outputs": f"{root}/outputs", "inputs": seen, "log": f"{root}/log"}
        return {"examine": [*self.closed(held, [*own, *inputs]), f"{root}/content"], "seen": places}

    @staticmethod
    def closed(held: sandbox.Sandbox | None, read: list[tuple[str, str]]) -> list[str]:
        """The command up to the program, with the least environment: it reads what hostile scripts wrote."""
        command = ["env", "-i", *(f"{name}={value}" for name, value in sandbox.bare().items())]
        if held:
            command += sandbox.arguments(
                held.program, held.flags, read=read, write={}, chdir="/", tmp=SCRATCH, shm=SCRATCH
            )
        return [*command, sandbox.python(), "-I", "-S"]


def _uv() -> str | None:
    """Where uv is: beside this Python, or on the path."""
    return shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
