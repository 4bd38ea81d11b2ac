"""One request, one answer: JSON on the first line of stdin, JSON out (for some verbs, bytes follow).

Every request has `verb` and `work`, the work folder. An answer is `{"ok": ...}` or `{"error": {kind, message,
reason, fix}}`. `create` reads the code as a tar stream after the request; after the answer of `logs` come lines,
after that of `fetch` one file (see `tell.give`).

    <work>/tools/<digest>/   these programs, as the runner of that version brought them
    <work>/runs/<run>/       see `runs.py`
    <work>/cache/            inputs, as `staging` keeps them

A run's `spec.json`, which the runner writes and the supervisor follows, holds for these verbs: `data`, digests of
its inputs; `stop`, commands that end what is left of its container when the supervisor is gone; `harvest`, `argv`
that reads the outputs inside a container (`harvest.py`'s configuration is added as the last argument, `outputs` is
their place in there); `examine`, the command of the content check, which gets `seen` and the rules on stdin.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ..supervisor.folder import now, write
from . import host
from .fault import Fault, of_disk
from .runs import Runs, read
from .tell import give, open_output
from .unpack import unpack

MAX_REQUEST = 16 * 2**20
MAX_REPORT = 64 * 2**20
# Exit codes by which docker and podman say that they, not the program in the container, failed.
ENGINE_FAILED = (125, 126, 127)
MAX_FILES = 10_000
FAILED = 1
GONE = "NeedsGone"
LEAST_SECONDS = 120
SLOWEST = 20 * 2**20  # bytes a second
# Of the session's own variables, those that engines need; the rest is of the connection, which ends before the run.
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR")
KEPT_PREFIXES = ("DOCKER_", "CONTAINER")


class Machine:
    """The verbs. `rest` is what follows the request on stdin."""

    def __init__(self, work: Path, rest: BinaryIO, out: BinaryIO) -> None:
        self.work, self.rest, self.out = work, rest, out
        self.spoken = False
        env = {name: v for name, v in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
        self.runs = Runs(work / "runs", sys.executable, env)

    def host(self) -> dict[str, Any]:
        """Facts about the machine; whoever asks goes on to use these programs."""
        with contextlib.suppress(OSError):
            os.utime(Path(__file__).parents[2])
        return host.facts(self.work)

    def create(
        self, id: str, spec: dict[str, Any], needs: list[str], code: str | None = None, begins: bool = True
    ) -> dict[str, Any]:
        """Make the run's folder, unless it is there, from the specification and the code, a tar stream in base64 or
        else what follows; then begin, unless somebody else will. `needs` are files that must be there."""
        stream = self.rest if code is None else io.BytesIO(base64.b64decode(code))

        def fill(fresh: Path) -> None:
            if not all(Path(path).exists() for path in needs):
                raise Fault("Conflict", "what the run needs was removed meanwhile", GONE, "apply again")
            (fresh / "code").mkdir(mode=0o755)
            unpack(stream, fresh / "code")
            for name in ("outputs", "home", "tmp"):
                (fresh / name).mkdir(mode=0o700)
            write(fresh / "spec.json", spec)
            if not begins:
                # In which whoever begins it asks; but for an engine's own passwords.
                kept = {name: value for name, value in self.runs.env.items() if "AUTH" not in name}
                write(fresh / "session.json", kept)

        self.runs.create(id, fill)
        return self.begin(id) if begins else self.runs.inspect(id)

    def bar(self, id: str, by: str, message: str) -> dict[str, Any]:
        """Let a run that never started be ended, so that it never starts; one that began goes on."""
        self.runs.bar(id, {"phase": "ended", "ended_by": by, "message": message[:500], "ended": now()})
        return self.runs.inspect(id)

    def begin(self, id: str) -> dict[str, Any]:
        """Start the run's supervisor, unless that was ever done, or there is no such run."""
        state = self.runs.inspect(id)
        if state["phase"] == "absent" and self.runs.run(id).exists():
            self.runs.begin(id)
            state = self.runs.inspect(id)
        return state

    def pinned(self) -> list[str]:
        """The digests of all inputs that runs held here have, or have yet to read."""
        specs = (read(self.runs.run(name) / "spec.json") for name in self.runs.names())
        return sorted({digest for spec in specs for digest in spec.get("data", [])})

    def inspect(self, ids: list[str]) -> dict[str, Any]:
        """How these runs are now."""
        return {one: self.runs.inspect(one) for one in ids}

    def cancel(self, id: str, reason: str) -> None:
        """End a run."""
        self.runs.cancel(id, reason)

    def names(self) -> list[str]:
        """All runs that are held."""
        return self.runs.names()

    def forget(self, id: str, retention: float) -> None:
        """Clear a run away, and those whose time is over."""
        self.runs.forget(id, keep=retention > 0)
        self.runs.sweep(retention)

    def harvest(self, id: str, outputs: list[str]) -> Any:
        """What the harvester tells; what it notes about names stays here."""
        run = self.runs.ended(id)
        spec = read(run / "spec.json")
        seconds = LEAST_SECONDS + spec["bounded"][str(run / "outputs")] // SLOWEST
        config = {"declared": outputs, "files": MAX_FILES, "cpu": seconds, "outputs": spec["harvest"]["outputs"]}
        report = self.limited(id, [*spec["harvest"]["argv"], json.dumps(config)], b"", 2 * seconds)
        found = json.loads(report)
        notes = found.pop("notes", []) if isinstance(found, dict) else []
        self.runs.note(id, [note for note in notes if isinstance(note, str)])
        return found

    def examine(self, id: str, rules: dict[str, Any], limit: float) -> Any:
        """What the content check tells."""
        spec = read(self.runs.ended(id) / "spec.json")
        config = {**spec["seen"], "rules": rules}
        return json.loads(self.limited(id, spec["examine"], json.dumps(config).encode(), limit))

    def limited(self, id: str, argv: list[str], stdin: bytes, seconds: float) -> bytes:
        """What a program that reads a run's hostile files says; nothing if it fails, or says too much.

        Raises Fault if the engine could not start it.
        """
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            try:
                code = subprocess.run(
                    argv,
                    stdin=given,
                    stdout=answer,
                    stderr=subprocess.DEVNULL,
                    env=dict(self.runs.env),
                    cwd="/",
                    timeout=seconds,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
                self.runs.stop(id)  # the client is gone, its container may not be
            if code in ENGINE_FAILED:
                fix = "look at the engine on the machine: edgetrain doctor"
                raise Fault("Transient", f"the engine started no container (exit code {code})", "EngineFailed", fix)
            size = answer.seek(0, os.SEEK_END)
            answer.seek(0)
            return answer.read() if code == 0 and size <= MAX_REPORT else b"null"

    def logs(self, id: str, follow: bool) -> None:
        """Answer, then the log's lines."""
        lines = self.runs.log(id, follow, self.left)
        first = next(lines, None)
        self.say({"ok": None})
        while first is not None:
            self.out.write(first.encode("utf-8", "replace") + b"\n")
            if follow:
                self.out.flush()
            first = next(lines, None)

    def left(self) -> bool:
        """Whether the runner has closed its end: there is nobody to tell any more."""
        return bool(select.select([self.rest], [], [], 0)[0])

    def fetch(self, id: str, path: str, offset: int) -> None:
        """Answer, then one output's bytes from `offset` on."""
        with open_output(self.runs.ended(id) / "outputs", path) as file:
            self.say({"ok": None})
            give(file, offset, self.out)

    def say(self, answer: dict[str, Any]) -> None:
        """One line."""
        self.spoken = True
        self.out.write(json.dumps(answer).encode() + b"\n")
        self.out.flush()


VERB_NAMES = "host create bar begin inspect pinned names cancel forget harvest examine logs fetch"
VERBS: dict[str, Callable[..., Any]] = {name: getattr(Machine, name) for name in VERB_NAMES.split()}


def answered(machine: Machine, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    try:
        return {"ok": VERBS[request.pop("verb")](machine, **request)}
    except BrokenPipeError:
        raise
    except (Fault, OSError) as error:
        fault = error if isinstance(error, Fault) else of_disk(error)
        return {"error": {name: getattr(fault, name) for name in ("kind", "message", "reason", "fix")}}


def main() -> None:
    """Answer the one request; after `serve`, those that follow, a line each, until the runner goes."""
    os.umask(0o077)
    stdin, out = sys.stdin.buffer, sys.stdout.buffer
    request = json.loads(stdin.readline(MAX_REQUEST))
    machine = Machine(Path(request.pop("work")).expanduser(), stdin, out)
    try:
        if request["verb"] == "serve":
            while line := stdin.readline(MAX_REQUEST):
                machine.say(answered(machine, json.loads(line)))
            return
        answer = answered(machine, request)
        if not machine.spoken:
            machine.say(answer)
        elif "error" in answer:
            sys.exit(FAILED)
        out.flush()
    except BrokenPipeError:  # the runner went; it asks again
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
