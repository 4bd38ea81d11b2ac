"""One job under act, on the host: a workspace and a token of its own, and nothing of it left at the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from testbed.part import LIFELINE, until

STEPS = Path(__file__).with_name("steps")
TRACKING = "RUNNER_TRACKING_ID"
HOOK = "ACTIONS_RUNNER_HOOK_JOB_STARTED"
# Of this machine's environment: how packages are reached. Everything else a runner has of its own.
PASSED = ("PIP_", "UV_")
_ADDRESSES = count(1)


@dataclass(frozen=True)
class Annotation:
    """An `::error ...::` or its like, as the page of a run shows it."""

    level: str
    message: str
    where: Mapping[str, str]


@dataclass
class Log:
    """What a job said. `summary` is what its steps wrote for the page of the run."""

    lines: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    summary: str = ""
    result: str = "skipped"

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.lines)


class Machine:
    """A runner's host: its home, the tool cache, temporary files. Jobs that run on it leave nothing else behind."""

    def __init__(self, folder: Path, *, ca: Path, tools: Path, **environment: str) -> None:
        self.home, self.cache = folder / "home", folder / "act"
        programs = folder / "bin"
        for made in (self.home, self.cache, programs):
            made.mkdir(parents=True)
        (self.cache / "tool_cache").symlink_to(tools)
        # The machine's own Python, in the version that the packages are for.
        (programs / "python3").symlink_to(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
        self._environment = {
            **{name: value for name, value in os.environ.items() if name.startswith(PASSED)},
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
            # What the system's own list of authorities is elsewhere.
            "GIT_SSL_CAINFO": str(ca),
            "SSL_CERT_FILE": str(ca),
            **environment,
        }

    def environment(self) -> dict[str, str]:
        """What every process there has."""
        return dict(self._environment)


def tool_cache(folder: Path, packages: Mapping[str, Path]) -> Path:
    """A tool cache with virtual environments that the setup action finds ready, by the names it looks for."""
    (folder / "edgetrain").mkdir(parents=True)
    for name, target in packages.items():
        (folder / "edgetrain" / name).symlink_to(target)
        (folder / "edgetrain" / f"{name}.ready").touch()
    return folder


class Job:
    """One run of one job. `workflow` makes the text of a file with it, which writes its outputs to the given file;
    `token` is its GITHUB_TOKEN, `before` are the jobs in that file that stand for those it needs, `called` the
    texts of workflows that it may call, by path."""

    def __init__(
        self,
        machine: Machine,
        name: str,
        *,
        workflow: Callable[[Path], str],
        event: str,
        payload: Mapping[str, Any],
        token: str,
        context: Mapping[str, str],
        actor: str,
        variables: Mapping[str, str],
        actions: Mapping[str, Path],
        before: Collection[str] = (),
        called: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.log, self._before = name, Log(), set(before)
        self._machine, self._context = machine, {**context, "GITHUB_EVENT_NAME": event}
        self._folder = Path(tempfile.mkdtemp(prefix="job-", dir=machine.cache.parent))
        self._tracking = f"github_{self._folder.name}"
        self._artifacts = self._folder / "artifacts"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._killed = False
        files = {
            "workflow.yml": workflow(self._folder / "outputs"),
            "event.json": json.dumps(payload),
            "secrets": f"GITHUB_TOKEN={token}\n",
            "nothing": "",
            **{f"workspace/{path}": text for path, text in (called or {}).items()},
        }
        (self._folder / "workspace").mkdir()
        for file, text in files.items():
            (self._folder / file).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / file).touch(mode=0o600)
            (self._folder / file).write_text(text, encoding="utf-8")
        self._artifacts.mkdir()
        self._command = self._act(event, context, actor, variables, actions)

    def _act(
        self,
        event: str,
        context: Mapping[str, str],
        actor: str,
        variables: Mapping[str, str],
        actions: Mapping[str, Path],
    ) -> list[str]:
        address, number = os.getpid(), next(_ADDRESSES)
        environment = {**context, TRACKING: self._tracking}
        return [
            str(Path(sys.executable).with_name("act")),
            event,
            *("--job", self.name, "--directory", str(self._folder / "workspace")),
            *("--workflows", str(self._folder / "workflow.yml"), "--eventpath", str(self._folder / "event.json")),
            *("--secret-file", str(self._folder / "secrets"), "--env-file", str(self._folder / "nothing")),
            *("--var-file", str(self._folder / "nothing"), "--input-file", str(self._folder / "nothing")),
            *("--actor", actor, "--json", "--no-skip-checkout", "--no-cache-server"),
            *("--platform", "self-hosted=-self-hosted", "--platform", "ubuntu-latest=-self-hosted"),
            *("--action-cache-path", str(self._machine.cache), "--artifact-server-path", str(self._artifacts)),
            # A loopback address of its own: no other job, or worker of the tests, can have taken its port.
            "--artifact-server-addr",
            f"127.{64 + (address >> 8) % 128}.{address % 256}.{1 + number % 254}",
            *(part for name, value in environment.items() for part in ("--env", f"{name}={value}")),
            *(part for name, value in variables.items() for part in ("--var", f"{name}={value}")),
            *(part for name, folder in actions.items() for part in ("--local-repository", f"{name}={folder}")),
        ]

    def _admitted(self) -> bool:
        """Whether the machine's own hook, if it has one, lets the job begin."""
        environment = self._machine.environment()
        if HOOK not in environment:
            return True
        done = subprocess.run(
            [environment[HOOK]],
            env={**environment, **self._context},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.log.lines.append(done.stdout)
        return done.returncode == 0

    def run(self) -> str:
        """Run it to its end; how it ended."""
        if not self._admitted():
            self.log.result = "failure"
            return self.log.result
        with self._lock:
            if self._killed:
                return self.log.result
            self._process = subprocess.Popen(
                [sys.executable, "-ISs", str(LIFELINE), *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=self._machine.environment(),
                start_new_session=True,
            )
        with self._process as process:
            assert process.stdout is not None
            for line in process.stdout:
                self._read(line)
        self._end_processes()
        if self.log.result == "skipped" and process.returncode:
            self.log.result = "failure"
        return self.log.result

    def _read(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            self.log.lines.append(line)
            return
        if said.get("jobID", "") in self._before:
            return
        if "jobResult" in said:
            # Of the jobs of a called workflow one that fails is enough.
            self.log.result = "failure" if "failure" in (self.log.result, said["jobResult"]) else said["jobResult"]
        elif said.get("command") in ("error", "warning", "notice"):
            where = {name: str(value) for name, value in (said.get("kvPairs") or {}).items()}
            self.log.annotations.append(Annotation(said["command"], said.get("arg", ""), where))
        elif said.get("command") == "summary":
            # A composite action's last step and the action itself tell the same.
            self.log.summary = self.log.summary.removesuffix(said["content"]) + said["content"]
        if said.get("raw_output"):
            self.log.lines.append(said["msg"])
        elif not said.get("msg", "").startswith("LocalRepositoryCache"):
            self.log.lines.append(f"{said.get('msg', '')}\n")

    def outputs(self) -> dict[str, str]:
        """The job's outputs."""
        told = self._folder / "outputs"
        if not told.is_file():
            return {}
        pairs = (line.partition("=") for line in told.read_text(encoding="utf-8").splitlines())
        return {name: b64decode(value).decode() for name, _, value in pairs}

    def artifacts(self) -> dict[str, bytes]:
        """The zips that it uploaded, by name."""
        return {file.stem: file.read_bytes() for file in sorted(self._artifacts.glob("*/*/*.zip"))}

    def cancel(self) -> None:
        """As GitHub does: an interrupt, and what does not end on it is killed."""
        self._signal(signal.SIGINT)
        with contextlib.suppress(TimeoutError):
            until(lambda: not self._tracked(), "the steps to end", deadline=10)
        self.kill()

    def kill(self) -> None:
        """As if the power went: everything of it at once."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                for number in [*_children(self._process.pid), self._process.pid]:
                    _kill(number, signal.SIGKILL)
        self._end_processes()

    def close(self) -> None:
        """Remove its files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tracked(self) -> list[int]:
        """The processes that the runner would end with the job: those that have its mark in their environment."""
        mark, found = f"{TRACKING}={self._tracking}".encode(), []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (process / "environ").read_bytes().split(b"\0"):
                        found.append(int(process.name))
        return found

    def _signal(self, which: signal.Signals) -> None:
        for number in self._tracked():
            _kill(number, which)

    def _end_processes(self) -> None:
        while self._tracked():
            self._signal(signal.SIGKILL)


def _children(parent: int) -> Sequence[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def _kill(number: int, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, which)
