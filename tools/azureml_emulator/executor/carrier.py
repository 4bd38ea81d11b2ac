"""One run from its submission to its end; killed at any point, the next carrier goes on from there."""

from __future__ import annotations

import contextlib
import logging
import tarfile
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from azureml_emulator import runs
from azureml_emulator.executor import definition, preparing
from azureml_emulator.executor.environments import NotBuilt
from azureml_emulator.executor.host import Host, Unfit, Unreachable
from azureml_emulator.executor.variables import by_proxy, variables
from azureml_emulator.message import Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

ORDER = ("NotStarted", "Preparing", "Provisioning", "Queued", "Starting", "Running", "Finalizing")
ENDED = ("Completed", "Failed", "Canceled")
USER_LOG, SYSTEM_LOG = "user_logs/std_log.txt", "system_logs/executor.log"
KIND = "execution"  # kind of document: how far a run is, what of its output was taken
SOON, LATER = 0.2, 1.5  # seconds between looks: at first, and when nothing happens for long
PIECE = 4 * 2**20
NEVER = 2**62
_T = TypeVar("_T")
log = logging.getLogger("azureml_emulator.executor")


class _Stopped(Exception):
    """The emulator stops: the run goes on without it."""


class _Over(Exception):
    """The run is to end here: somebody cancelled it, or ended its record."""


class Carrier:
    """Carries one run; `carry` is the body of a thread."""

    def __init__(self, emulator: Emulator, run_id: str, take: Callable[[str], Host]) -> None:
        self._emulator, self._id, self._take = emulator, run_id, take
        self._name = preparing.folder_name(emulator, run_id)
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._host: Host | None = None

    def wake(self) -> None:
        """Something about the run has changed."""
        self._wake.set()

    def stop(self) -> None:
        """Leave the run as it is, soon."""
        self._stopping.set()
        self._wake.set()

    def carry(self) -> None:
        """Bring the run to its end, or as far as it gets before `stop`."""
        try:
            self._try()
        except _Stopped:
            return
        except Exception as error:
            if not self._stopping.is_set():
                log.exception("run %s", self._id)
                self._end("Failed", "ServiceError", f"the executor failed: {type(error).__name__}")
        finally:
            if self._host is not None:
                self._host.close()

    def _try(self) -> None:
        """All of it, but for what nobody thought of."""
        try:
            self._host = self._take(str(self._run()["target"]))
            if self._run()["status"] in ENDED:
                self._clear()
            else:
                self._carry()
        except _Over:
            with contextlib.suppress(Unreachable, Unfit):
                self._halt()
            self._end("Canceled")
        except (Unfit, definition.Unusable, Refused) as error:
            self._end("Failed", "UserError", str(error))
        except NotBuilt as error:
            self._say(str(error))
            self._end("Failed", "UserError", f"the environment could not be built; see {SYSTEM_LOG}")
        except Unreachable as error:
            self._end("Failed", "ServiceError", f"the compute target can't be reached: {error}")

    def _carry(self) -> None:
        mine = self._mine()
        if not mine.get("begun"):
            with tempfile.TemporaryDirectory(prefix="emulator-run-") as scratch:
                self._start(Path(scratch))
        else:
            self._retried(lambda: self._way(int(mine["port"])))
        ended = self._watch()
        self._finish(ended)

    # The way to the program's start

    def _start(self, scratch: Path) -> None:
        host = self._known()
        self._advance("Preparing")
        self._keep(begun=False)
        job = definition.parse(self._run()["_definition"])
        self._pause()
        prepared = self._retried(lambda: preparing.prepare(self._emulator, self._id, job, host, self._say, scratch))
        for status in ("Queued", "Starting"):
            self._advance(status)
            self._pause()
        port = self._retried(lambda: self._way(int(self._mine().get("port") or 0)))
        self._keep(port=port)
        environ = variables(
            self._emulator, self._run(), job.variables, port, f"{prepared.folder}/setup/authorities.pem"
        )
        order = preparing.order(self._name, job, prepared, host, environ)
        self._checked()
        self._retried(lambda: host.ask("begin", self._name, order=order))
        self._keep(begun=True)

    def _way(self, wanted: int) -> int:
        here = self._proxy() if by_proxy(self._run()) else self._emulator.port
        return self._known().way_back(here, wanted)

    def _proxy(self) -> int:
        return int((self._emulator.store.get("emulator", "ports") or {})["proxy"])

    # While it runs

    def _watch(self) -> dict[str, Any]:
        """Look until the program has ended, taking what it says; answer how it ended."""
        host, asked, pause = self._known(), False, SOON
        while True:
            found = self._retried(lambda: host.ask("look", self._name))
            if found["state"] in ("running", "ended"):
                self._advance("Running", quiet=True)
            news = self._take_output(int(found["output"])) + self._take_logs(found["files"])
            if found["state"] != "running":
                return found
            status = str(self._run()["status"])
            if not asked and (status == "CancelRequested" or status in ENDED):
                self._retried(lambda: host.ask("stop", self._name))
                asked = True
            pause = SOON if news or asked else min(pause * 1.3, LATER)
            self._wait(pause)

    def _take_output(self, size: int) -> int:
        return self._follow("output", USER_LOG, size)

    def _take_logs(self, files: dict[str, int]) -> int:
        logs = [(path, size) for path, size in files.items() if path.startswith("logs/")]
        return sum(self._follow(f"code/{path}", path, size) for path, size in logs)

    def _follow(self, source: str, path: str, size: int) -> int:
        """Append to a log what has come since the last time; how many bytes."""
        taken = int(self._mine().get("taken", {}).get(path, 0))
        if size <= taken:
            return 0
        with tempfile.NamedTemporaryFile() as piece:
            into = Path(piece.name)
            self._retried(lambda: self._known().fetch("read", self._name, source, str(taken), into=into))
            got = 0
            with into.open("rb") as file:
                while data := file.read(PIECE):
                    got += len(data)
                    self._append(path, data, taken + got)
        return got

    def _append(self, path: str, data: bytes, taken: int) -> None:
        # Together, so that no piece is taken twice or never.
        with self._emulator.store.transaction():
            try:
                runs.append_log(self._emulator, self._id, path, data)
            except Refused:
                taken = NEVER  # the script has uploaded a file of this name itself
            self._keep(taken={**self._mine().get("taken", {}), path: taken})

    # The end

    def _finish(self, found: dict[str, Any]) -> None:
        why, code = found.get("why"), found.get("code")
        if str(self._run()["status"]) not in (*ENDED, "CancelRequested"):
            self._advance("Finalizing", quiet=True)
            self._wait(self._emulator.options.slow)
        if found["state"] in ("ended", "lost"):
            self._collect()
        if why == "canceled" or str(self._run()["status"]) == "CancelRequested":
            self._end("Canceled")
        elif found["state"] != "ended":
            self._end("Failed", "ServiceError", "the program vanished from its machine, which perhaps restarted")
        elif why == "timeout":
            self._end("Failed", "UserError", "the run took longer than its maxRunDurationSeconds")
        elif why in ("unstartable", "executor"):
            self._end("Failed", "UserError", f"the program could not be started: {found.get('message')}")
        elif code == 0:
            self._end("Completed")
        else:
            how = f"exited with code {code}" if int(code or 0) > 0 else f"was ended by signal {-int(code or 0)}"
            self._end("Failed", "UserError", f"User program failed: it {how}; see {USER_LOG}")

    def _collect(self) -> None:
        """Make artifacts of what lies in `outputs`; what the script uploaded itself stays as it is."""
        with tempfile.TemporaryDirectory(prefix="emulator-run-") as scratch:
            packed = Path(scratch) / "packed.tar"
            self._retried(lambda: self._known().fetch("pack", self._name, into=packed))
            with tarfile.open(packed) as archive:
                for entry in archive:
                    data = archive.extractfile(entry) if entry.name.startswith("outputs/") else None
                    if data is None:
                        continue
                    file = Path(scratch) / "file"
                    with file.open("wb") as out:
                        while part := data.read(PIECE):
                            out.write(part)
                    self._add(entry.name, file)

    def _add(self, path: str, file: Path) -> None:
        try:
            runs.add_artifact(self._emulator, self._id, path, file)
        except Refused as refused:
            if refused.status != 409:
                self._say(f"{path!r} is left out: {refused.message}")

    def _halt(self) -> None:
        """End the program, if it may have been started. Raises Unreachable, Unfit."""
        if "port" not in self._mine():
            return
        host = self._known()
        while host.ask("look", self._name)["state"] == "running":
            host.ask("stop", self._name)
            self._wait(SOON)

    def _end(self, status: str, code: str = "", message: str = "") -> None:
        """The last status, unless the record has one; then nothing of the run is left on its host."""
        more: dict[str, Any] = {}
        if code:
            self._say(message)
            more["error"] = self._error(code, message[:2000])
        with self._emulator.store.transaction():
            now = str(self._run()["status"])
            if now not in ENDED:
                if now == "CancelRequested":
                    status, more = "Canceled", {}
                runs.set_status(self._emulator, self._id, status, **more)
        self._clear()

    def _clear(self) -> None:
        """Leave nothing of the run on its host; what can't be done now is left to the next start."""
        if self._host is not None and self._mine():
            try:
                self._halt()
                self._host.ask("remove", self._name)
            except (Unreachable, Unfit) as error:
                log.warning("run %s: its folder stays on its host: %s", self._id, error)
                return
        self._emulator.store.delete(KIND, self._id)

    def _error(self, code: str, message: str) -> dict[str, Any]:
        return {
            "error": {"code": code, "message": message, "details": []},
            "correlation": {"operation": self._id, "request": self._id},
            "environment": self._emulator.options.region,
            "location": self._emulator.options.region,
            "time": self._emulator.time(),
            "componentName": "execution",
        }

    # Small things

    def _run(self) -> dict[str, Any]:
        found = runs.get(self._emulator, self._id)
        if found is None:
            raise _Stopped  # the record was deleted
        return found

    def _known(self) -> Host:
        assert self._host is not None
        return self._host

    def _mine(self) -> dict[str, Any]:
        return dict(self._emulator.store.get(KIND, self._id) or {})

    def _keep(self, **more: Any) -> None:
        with self._emulator.store.transaction():
            self._emulator.store.put(KIND, self._id, {**self._mine(), **more})

    def _say(self, line: str) -> None:
        runs.append_log(self._emulator, self._id, SYSTEM_LOG, f"{self._emulator.time()} {line}\n".encode())

    def _advance(self, status: str, *, quiet: bool = False) -> None:
        """On to the status, if the run is not there yet. Raises _Over if it is to end (not if `quiet`)."""
        with self._emulator.store.transaction():
            now = str(self._run()["status"])
            if now in ORDER:
                if ORDER.index(now) < ORDER.index(status):
                    runs.set_status(self._emulator, self._id, status)
                return
        if not quiet:
            raise _Over

    def _checked(self) -> None:
        if self._stopping.is_set():
            raise _Stopped
        if str(self._run()["status"]) not in ORDER:
            raise _Over

    def _pause(self) -> None:
        """As long as an intermediate state lasts. Raises _Over, _Stopped."""
        self._checked()
        self._wait(self._emulator.options.slow)
        self._checked()

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()
        if self._stopping.is_set():
            raise _Stopped

    def _retried(self, call: Callable[[], _T]) -> _T:
        """What `call` answers, tried again while the host is unreachable, as long as patience lasts."""
        last, pause = self._emulator.now() + self._emulator.options.patience, SOON
        while True:
            try:
                return call()
            except Unreachable as error:
                if self._emulator.now() > last:
                    raise
                log.info("run %s: %s", self._id, error)
            self._wait(pause)
            if not self._mine().get("begun"):
                self._checked()
            pause = min(pause * 2, 5.0)
