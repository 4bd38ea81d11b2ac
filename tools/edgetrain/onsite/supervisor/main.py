"""One run, from its folder to its end.

`spec.json` holds: `argv` (all before the launcher's configuration), `launch` (that configuration, see
`launch.py`), `env` (null: the supervisor's own) and `cwd` of what `argv` starts, `require` (restrictions that must
be observed), `level` (the egress level if they are), `environment` (`folder`, `uv`, `python`) or null, `bounded`
(folder to bytes allowed) and `limits`: `timeout`, `grace`, `build` in seconds, `memory` (or null) and `log` in
bytes, `pids`, `files`. For a container also `channel` (`stdio`), `look`, `ask` and `stop` (see `container.py`),
`user` (who it runs as, see `container.give`) and `python` (the minor version that it must have).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .channel import Inherited, Stdio
from .container import ENDED, Container, give
from .environment import Build
from .folder import Ended, boot, now, public, write
from .log import Log
from .look import below, measure

TICK = 0.1
SAMPLE_EVERY = 0.25
MEASURE_EVERY = 1.0
REPORT_SECONDS = 60.0
KILL_SECONDS = 60.0
TIDY_SECONDS = 10.0
CHUNK = 65536
# What the sandbox program and the launcher need beside the command's own processes.
OWN_PROCESSES = 8
PR_SET_CHILD_SUBREAPER = 36


class Run:
    """One run. Everything happens in one thread: the sandbox dies with the thread that made it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        self.limits = self.spec["limits"]
        self.log = Log(folder / "log", self.limits["log"])
        self.state: dict[str, Any] = {"phase": "preparing", "level": "advisory", "isolation": {}}
        self.child: subprocess.Popen[bytes] | None = None
        self.channel: Inherited | Stdio | None = None
        self.container = Container(self.spec) if self.spec.get("channel") == "stdio" else None
        self.pipes: list[int] = []
        self.before: resource.struct_rusage | None = None
        self.top = {"maxMemoryBytes": 0.0, "cpuSeconds": 0.0}
        self.sampled = self.measured = 0.0

    def save(self, **changes: Any) -> None:
        """Note how the run is now."""
        self.state.update(changes)
        write(self.folder / "state.json", self.state)

    def supervise(self) -> None:
        """The whole life of the run."""
        try:
            self.save()
            self.check_cancel()
            if self.spec["environment"]:
                wanted, seconds = self.spec["environment"], self.limits["build"]
                Build(self.folder, wanted, seconds, self.check_cancel, self.log.write).ensure()
            self.check_cancel()
            end = self.watch(self.launch())
            self.kill()
            self.check_outputs()
        except Ended as found:
            end = found
        except OSError as error:
            end = Ended("sandbox", f"the run could not be supervised: {error.strerror or type(error).__name__}")
        finally:
            self.kill()
        self.drain()
        self.log.close()
        self.state.update(phase="ended", ended=now(), usage=self.used())
        self.state.update(ended_by=end.by, message=end.message, exit_code=end.code)
        write(self.folder / "ended.json", self.state)

    def used(self) -> dict[str, float]:
        """What the command used; without what the build of its environment did."""
        if self.before is None:
            return {}
        if self.container:  # what is not known, of a run of a moment, is left out
            return {name: round(value, 3) for name, value in self.top.items() if value}
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = spent.ru_utime + spent.ru_stime - self.before.ru_utime - self.before.ru_stime
        memory = spent.ru_maxrss * 1024.0 if spent.ru_maxrss > self.before.ru_maxrss else 0.0
        return {
            "cpuSeconds": round(max(self.top["cpuSeconds"], cpu), 3),
            "maxMemoryBytes": max(self.top["maxMemoryBytes"], memory),
        }

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the launcher, judge the isolation that it reports, and give it leave."""
        self.before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if self.container:
            give(self.spec["user"])
        channel = self.channel = (Stdio if self.container else Inherited)(self.spec)
        self.child, self.pipes = channel.child, channel.log
        try:
            self.judge(self.read_report(channel))
            self.save(phase="running", started=now(), level=self.spec["level"])
            channel.leave()
        finally:
            channel.close()
        if self.container:
            self.container.find()
        return self.child

    def judge(self, report: dict[str, Any]) -> None:
        """Raises Ended if what the launcher found is not what was asked for."""
        isolation = self.state["isolation"] = report["isolation"] if self.container else report
        if report.get("unexpected"):
            self.log.write(b"[edgetrain] mounted unasked: %s\n" % ", ".join(report["unexpected"]).encode())
        failed = [name for name in self.spec["require"] if isolation.get(name) is not True]
        if failed:
            raise Ended("sandbox", f"the sandbox does not hold: {', '.join(failed)}")
        wanted = self.spec.get("python")
        if wanted and wanted != report["python"]:
            raise Ended("environment", f"the image has Python {report['python']}, the experiment asks for {wanted}")

    def read_report(self, channel: Inherited | Stdio) -> dict[str, Any]:
        """What the launcher observed. Raises Ended by `sandbox` if it does not tell."""
        data = b""
        deadline = time.monotonic() + REPORT_SECONDS
        while time.monotonic() < deadline and not channel.whole(data):
            self.check_cancel()
            try:
                part = os.read(channel.report, CHUNK)
            except BlockingIOError:
                time.sleep(TICK / 10)
                continue
            if not part:
                break
            data += part
        try:
            found: dict[str, Any] = json.loads(data)
        except ValueError:
            # The command has not begun: this is what the sandbox program itself says.
            said = self.read_log(self.pipes[-1]) or data or b"no reason was given"
            raise Ended("sandbox", f"the sandbox could not be made: {public(said)}") from None
        return found

    def watch(self, child: subprocess.Popen[bytes]) -> Ended:
        """Until the command ends: keep its log, and hold it to its limits. Raises Ended if one is passed."""
        deadline = time.monotonic() + self.limits["timeout"]
        with selectors.DefaultSelector() as selector:
            for pipe in self.pipes:
                selector.register(pipe, selectors.EVENT_READ)
            while child.poll() is None:
                if selector.get_map():
                    for key, _ in selector.select(TICK):
                        if self.read_log(key.fd) == b"":
                            selector.unregister(key.fd)
                else:
                    time.sleep(TICK)
                self.tick(deadline)
        if (
            self.container
            and child.returncode != 0
            and self.container.look()[1:] not in [(status, child.returncode) for status in ENDED]
        ):
            return Ended("sandbox", f"the engine lost the container (its command ended with {child.returncode})")
        number = -child.returncode if child.returncode < 0 else child.returncode - 128
        if number == signal.SIGKILL:
            bound = f": {self.limits['memory']} bytes are allowed" if self.limits["memory"] else ""
            return Ended("memory", f"killed from outside, most likely for want of memory{bound}")
        if number in set(signal.Signals):
            return Ended("signal", f"ended by {signal.Signals(number).name}", number)
        return Ended("exit", "", child.returncode)

    def tick(self, deadline: float) -> None:
        """One look at the limits."""
        self.check_cancel()
        moment = time.monotonic()
        if moment > deadline:
            raise Ended("timeout", f"the time-out of {self.limits['timeout']} s is over")
        if moment - self.sampled > SAMPLE_EVERY:
            self.sample()
            self.sampled = time.monotonic()
        if moment - self.measured > MEASURE_EVERY:
            self.check_outputs()
            # A walk that takes long is made less often.
            self.measured = time.monotonic() + 4 * (time.monotonic() - moment)

    def sample(self) -> None:
        """Look at the processes of the run."""
        if self.container:  # its control group holds it to its limits
            memory, cpu = self.container.usage()
            self.top["maxMemoryBytes"] = max(self.top["maxMemoryBytes"], memory)
            self.top["cpuSeconds"] = max(self.top["cpuSeconds"], cpu)
            return
        processes = below(os.getpid())
        memory = float(sum(process.memory for process in processes))
        self.top["maxMemoryBytes"] = max(self.top["maxMemoryBytes"], memory)
        self.top["cpuSeconds"] = max(self.top["cpuSeconds"], sum(process.cpu for process in processes))
        if self.limits["memory"] and memory > self.limits["memory"]:
            raise Ended("memory", f"more than {self.limits['memory']} bytes of memory were used")
        if sum(process.threads for process in processes) > self.limits["pids"] + OWN_PROCESSES:
            raise Ended("signal", f"more than {self.limits['pids']} processes and threads were started")

    def check_outputs(self) -> None:
        """Raises Ended if the outputs, or scratch folders that nothing else bounds, are too large."""
        for name, bound in self.spec["bounded"].items():
            try:
                size = measure(Path(name), self.limits["files"])
            except OverflowError as error:
                raise Ended("outputs-limit", f"{Path(name).name}: {error}") from None
            if size > bound:
                raise Ended("outputs-limit", f"{Path(name).name}: {size} bytes, {bound} are allowed")

    def check_cancel(self) -> None:
        """Raises Ended if the run is to be cancelled."""
        try:
            reason = (self.folder / "cancel").read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        raise Ended("cancel", reason)

    def read_log(self, pipe: int) -> bytes | None:
        """Take what the command wrote: None if there is nothing now, empty if nothing can come any more."""
        try:
            data = os.read(pipe, CHUNK)
        except BlockingIOError:
            return None
        self.log.write(data)
        return data

    def drain(self) -> None:
        """Take all that is in the pipes now."""
        deadline = time.monotonic() + REPORT_SECONDS
        for pipe in self.pipes:
            while self.read_log(pipe) and time.monotonic() < deadline:
                continue

    def kill(self) -> None:
        """Ask the command to end, wait a little, then kill everything of the run."""
        if self.child is None:
            return
        if self.child.poll() is None:
            if self.container:
                self.container.ask()
            else:
                self.ask()
        deadline = time.monotonic() + self.limits["grace"]
        while self.child.poll() is None and time.monotonic() < deadline:
            self.drain()
            time.sleep(TICK / 5)
        deadline = time.monotonic() + KILL_SECONDS
        if self.container:
            while not self.container.stop() and time.monotonic() < deadline:
                self.drain()
                time.sleep(TICK * 10)
        # An engine's own processes tidy up after the container.
        patience = time.monotonic() + (TIDY_SECONDS if self.container else 0)
        while time.monotonic() < deadline:
            if time.monotonic() > patience:
                for process in below(os.getpid()):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(process.pid, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    continue
            except ChildProcessError:
                self.child = None
                return
            time.sleep(TICK / 10)

    def ask(self) -> None:
        """SIGTERM for the command's processes, but not yet for those whose end would end the others."""
        assert self.child is not None
        processes = below(self.child.pid)
        tops = {self.child.pid} | {process.pid for process in processes if process.inner == 1}
        parents = {process.parent for process in processes}
        for process in processes:
            if not (process.parent in tops and process.pid in parents):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the parent of all orphans below, so that none gets away; where the system allows it."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """Detach, take the run over, see it to its end. Arguments: the run's folder, the lock's descriptor."""
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(lock, False)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    if (folder / "ended.json").exists() or (folder / "started").exists():
        return
    write(folder / "started", {"pid": os.getpid(), "at": now(), "boot": boot()})
    adopt_orphans()
    Run(folder).supervise()
