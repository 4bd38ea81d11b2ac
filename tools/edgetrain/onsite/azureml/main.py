"""One run under Azure ML: begins it, waits, checks what it left, and gives Azure ML what may leave.

What it prints is progress in our own words: Azure ML shows it to whoever may see the run. What the script says
stays at the site. How the run ended is its exit code: the script's own, or one of `CODES`; 0 only if all was
accepted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from ..supervisor.folder import now, write
from ..vm.fault import Fault
from . import accept
from .listing import differences, digest, listing
from .tracking import Tracking

PR_SET_DUMPABLE = 4
MAX_TASK = 2**26
SPARE_SECONDS = 120.0
# Longer than the reader of the outputs may take by its own limits.
HARVEST_SECONDS = 24 * 3600.0
LEAST_PAUSE, MOST_PAUSE = 0.2, 5.0
# Transient faults of the machine's programs are borne this often in a row.
BORNE = 20
CODES = {"timeout": 124, "cancel": 130, "memory": 137, "signal": 143, "outputs-limit": 71, "environment": 72}
CODES |= {"sandbox": 73, "data": 74}
REFUSED, LOST, FAULT = 75, 76, 70
RESULT = "outputs/edgetrain/result.json"
PARTIAL = ".edgetrain-partial"


class Place(Protocol):
    """Where the run is made: `vm.Prepared` or `pod.Pod`."""

    def prepare(self) -> None:
        """See to it that the run can begin. Raises Fault."""

    def ask(self, verb: str, within: float | None = ..., **request: Any) -> Any:
        """The answer of a verb of `onsite/vm/main.py`. Raises Fault."""

    def copy(self, path: str, into: Any) -> None:
        """Write an output file's bytes. Raises Fault."""


def say(line: str) -> None:
    """One line of progress."""
    print(f"{now()} edgetrain: {line}", flush=True)


class Wrapper:
    """The run of `task` at `place`. `here` is the snapshot's folder, where Azure ML collects `outputs`."""

    def __init__(self, task: dict[str, Any], place: Place, here: Path) -> None:
        self.task, self.place, self.here = task, place, here
        self.id = str(task["id"])
        self.asked = threading.Event()
        self.cancelled = False
        self.ended: dict[str, Any] | None = None

    def stop(self, *_: Any) -> None:
        """Asked to end, by Azure ML: the run is cancelled at the site."""
        self.asked.set()

    def run(self) -> int:
        """The whole run; the exit code."""
        differ = differences(self.task["code"], listing(self.here / "code"), modes=False)
        if differ:
            say(f"the snapshot's code is not what was submitted ({len(differ)} files differ); nothing is run")
            return FAULT
        tracking = Tracking(say)
        self.place.prepare()
        state = self.place.ask("begin", id=self.id)
        self.ended = self.wait(state)
        return self.finish(self.ended, tracking)

    def wait(self, state: dict[str, Any]) -> dict[str, Any]:
        """Until the run has ended or is lost; hands a request to end it on."""
        shown, pause, faults = "", LEAST_PAUSE, 0
        while True:
            if state["phase"] != shown:
                shown = state["phase"]
                say(f"the run is {shown}")
            if shown in ("ended", "lost", "absent"):
                return state
            if self.asked.wait(pause) and not self.cancelled:
                say("asked to end: the run is cancelled")
            try:
                if self.asked.is_set() and not self.cancelled:
                    self.place.ask("cancel", id=self.id, reason="cancelled in Azure ML")
                    self.cancelled = True
                state = self.place.ask("inspect", ids=[self.id])[self.id]
                faults = 0
            except Fault as fault:
                faults += 1
                if fault.kind != "Transient" or faults > BORNE:
                    raise
            if self.cancelled:
                threading.Event().wait(LEAST_PAUSE)
            pause = min(pause * 1.2, MOST_PAUSE)

    def finish(self, state: dict[str, Any], tracking: Tracking) -> int:
        """Check what the run left and hand out what may leave."""
        if state["phase"] != "ended":
            say(f"the run is gone without a trace of how it ended: {state.get('message', '')}")
            return LOST
        ended_by, code = str(state["ended_by"]), int(state.get("exit_code") or 0)
        result: dict[str, Any] = {"version": 1, "id": self.id, "state": state}
        if (ended_by, code) != ("exit", 0):
            say(f"the run ended by {ended_by}" + (f" with exit code {code}" if ended_by == "exit" else ""))
            self.give(result)
            return code if code and ended_by == "exit" and 0 < code < 256 else CODES.get(ended_by, FAULT)
        leaving = self.task["leaving"]
        harvest = self.place.ask("harvest", within=HARVEST_SECONDS, id=self.id, outputs=self.task["outputs"])
        if not isinstance(harvest, dict):
            harvest = {"files": [], "metrics": {}, "history": [], "faults": ["the outputs could not be read"]}
        refused = accept.faults(leaving, harvest)
        if not refused:
            rules = accept.rules(leaving, harvest)
            say(f"the outputs are checked: {len(rules['files'])} files")
            limit = rules["seconds"] + SPARE_SECONDS
            found = self.place.ask("examine", within=2 * limit, id=self.id, rules=rules, limit=limit)
            result |= {"rules": rules, "examination": found}
            if not accept.passes(found):
                refused = ["the content check did not let the outputs go"]
                # The rules hold the names and numbers that stay.
                del result["rules"]
                result["examination"] = accept.placed(leaving, found)
        if refused:
            for line in refused:
                say(f"not accepted: {line}")
            self.give({**result, "accepted": False, "harvest": accept.withheld(leaving, harvest)})
            return REFUSED
        told = accept.told(leaving, harvest)
        given = [] if leaving.get("stay") else told["files"]
        for file in given:
            self.take(file)
        self.give({**result, "accepted": True, "harvest": told})
        say(f"{len(given)} files are given to Azure ML")
        points: dict[str, list[tuple[float, int]]] = {}
        for name, value, step in told["history"]:
            points.setdefault(name, []).append((value, step))
        for name, value in told["metrics"].items():
            # The final number, where the history does not end with it.
            series = points.setdefault(name, [])
            if not series or series[-1][0] != value:
                series.append((value, series[-1][1] + 1 if series else 0))
        if tracking.tell(points) and points:
            say(f"{len(points)} metrics were told")
        return 0

    def broken(self, error: OSError) -> int:
        """The machine does not do what it should, mostly because its disk is full: whoever records the run is told
        how the script ended if it failed, and else that what it left is lost."""
        why = error.strerror or type(error).__name__  # not the path: it may name an output
        say(f"the wrapper can't go on: {why}")
        state = self.ended
        if state is None or (state.get("ended_by"), state.get("exit_code")) == ("exit", 0):
            state = {"phase": "lost", "message": f"what the run left could not be handed over: {why}"}
        with contextlib.suppress(OSError):
            (self.here / PARTIAL).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.give({"version": 1, "id": self.id, "state": state})
        return FAULT

    def take(self, file: dict[str, Any]) -> None:
        """Copy one accepted output below `outputs/`, whole or not at all. Raises Fault if it is another by now."""
        target = self.here / "outputs" / file["path"]
        partial = self.here / PARTIAL
        with partial.open("wb") as into:
            self.place.copy(file["path"], into)
        if f"sha256:{digest(partial)}" != file["digest"]:
            raise Fault("Rejected", "an output changed after it was checked", "OutputChanged")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)

    def give(self, result: dict[str, Any]) -> None:
        """Write the result for whoever records the run."""
        target = self.here / RESULT
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = self.here / ".edgetrain-result"
        write(partial, result)
        partial.replace(target)


def probe(here: Path) -> int:
    """Tell what a run would find here."""
    from .pod import facts

    target = here / RESULT
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, {"version": 1, "probe": facts()})
    say("looked at the sandbox")
    return 0


def undumpable() -> None:
    """Let no process of the same account read this one's memory or first environment: the token is there."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def main(folder: str) -> int:
    """The run of the snapshot in `folder`; the exit code."""
    os.umask(0o077)
    undumpable()
    try:
        return started(Path(folder))
    except OSError as error:
        say(f"the run can't be begun: {error.strerror or type(error).__name__}")
        return FAULT


def started(here: Path) -> int:
    """As `main`. Raises OSError as long as there is no run yet."""
    with (here / "run.json").open("rb") as file:
        task = json.loads(file.read(MAX_TASK))
    if task["kind"] == "probe":
        return probe(here)
    if task["kind"] == "vm":
        from .vm import Prepared

        place: Place = Prepared(task)
    else:
        from .pod import Pod

        place = Pod(task, here)
    wrapper = Wrapper(task, place, here)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, wrapper.stop)
    began = time.monotonic()
    try:
        code = wrapper.run()
    except Fault as fault:
        say(f"{fault.message} ({fault.reason or fault.kind}) {fault.fix}".rstrip())
        code = FAULT
    except OSError as error:
        code = wrapper.broken(error)
    say(f"ends with {code} after {time.monotonic() - began:.0f} s")
    sys.stdout.flush()
    return code
