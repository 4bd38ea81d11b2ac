"""Typed calls of the machine's verbs over one connection; brings the programs there when they are missing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

from edgetrain.core.errors import KINDS, Denied, ProviderError, Transient, Unavailable
from edgetrain.core.problem import shown
from edgetrain.onsite.supervisor.folder import public
from edgetrain.providers.ssh import deploy
from edgetrain.providers.ssh.connection import Connection, Session, retried

VM = "vm.main"
SECONDS = 120.0
SERVERS = 4
# What a login shell may say before our program does.
MAX_GREETING = 100


@dataclass(frozen=True)
class _Server:
    """A session that answers one request after another."""

    stack: ExitStack
    session: Session
    lines: Iterator[bytes]


class Remote:
    """The programs on one machine. `work` is its work folder, absolute or below `~`."""

    def __init__(self, connection: Connection, work: str) -> None:
        self.connection, self.work = connection, work
        self._there = False
        self._idle: list[_Server] = []
        self._counting = threading.Lock()

    def ask(self, verb: str, **request: Any) -> Any:
        """The answer of a verb of the machine (`vm.main`) that takes nothing but the request; over sessions that
        are kept, so that it costs no start of a program there. Tried again while the link fails.

        Raises what the machine answers, and provider errors of the link."""
        return retried(lambda: self._ask(verb, request))

    def _ask(self, verb: str, request: dict[str, Any]) -> Any:
        server = self._server()
        try:
            server.session.write(json.dumps({"verb": verb, **request}).encode() + b"\n")
            line = next((found for found in server.lines if _answers(found)), None)
            if line is None:
                self.finish(server.session)
                raise no_answer(b"")
        except BaseException:
            # Whatever it was: the next answer on this session could be that to another question, and the others
            # have most likely gone the same way.
            with self._counting:
                gone, self._idle = [server, *self._idle], []
            for one in gone:
                one.stack.close()
            raise
        with self._counting:
            keep = len(self._idle) < SERVERS
            if keep:
                self._idle.append(server)
        if not keep:
            server.stack.close()
        return answer(iter([line]))

    def _server(self) -> _Server:
        with self._counting:
            if self._idle:
                return self._idle.pop()
        stack = ExitStack()
        try:
            session = stack.enter_context(self.session(VM))
            session.write(self._line("serve", {}))
        except BaseException:
            stack.close()
            raise
        return _Server(stack, session, session.lines())

    def call(
        self,
        verb: str,
        payload: Callable[[], Iterable[bytes]] | None = None,
        seconds: float = SECONDS,
        module: str = VM,
        **request: Any,
    ) -> Any:
        """The verb's answer; tried again while the link fails, for every verb can be.

        Raises what the machine answers, and provider errors of the link."""
        return retried(lambda: self.once(verb, payload, seconds, module, **request))

    def once(
        self,
        verb: str,
        payload: Callable[[], Iterable[bytes]] | None = None,
        seconds: float = SECONDS,
        module: str = VM,
        **request: Any,
    ) -> Any:
        """As `call`, with one attempt."""
        line = self._line(verb, request)
        argv = deploy.program(self.work, module)
        for last in (False, True):
            done = self.connection.run(argv, chain([line], payload() if payload else ()), timeout=seconds)
            if done.code != deploy.MISSING or last:
                break
            self.deliver()
        self._check(done.code, done.stderr)
        self._there = True
        return answer(iter(done.stdout.split(b"\n")))

    def _line(self, verb: str, request: dict[str, Any]) -> bytes:
        return json.dumps({"verb": verb, "work": self.work, **request}).encode() + b"\n"

    def deliver(self) -> None:
        """Bring the programs there."""
        argv, data = deploy.delivery(self.work)
        done = self.connection.run(argv, data)
        if done.code == deploy.DAMAGED:
            raise Transient(
                "the programs came to the machine incomplete", reason="HostUnreachable", fix="apply again"
            )
        self._check(done.code, done.stderr)

    @contextmanager
    def session(self, module: str) -> Iterator[Session]:
        """One program that is talked with, such as `staging.main`; what goes over it is between the two.
        One attempt."""
        if not self._there:
            self.once("inspect", ids=[])
        with self.connection.open(deploy.program(self.work, module)) as session:
            yield session

    @contextmanager
    def talk(self, verb: str, **request: Any) -> Iterator[tuple[Session, Iterator[bytes]]]:
        """A verb that answers with lines or bytes after its answer: the session, and its output in parts of
        which the first belong to what follows the answer. One attempt."""
        with self.session(VM) as session:
            session.write(self._line(verb, request))
            parts = _parts(session)
            yield session, parts

    def finish(self, session: Session) -> None:
        """Wait for the program's end. Raises if it failed."""
        done = session.finish()
        self._check(done.code, done.stderr)

    def _check(self, code: int, said: bytes) -> None:
        host = self.connection.way.target.host
        if code == 0:
            return
        if code in deploy.NOT_FOUND:
            fix = "install it there: `sudo apt install python3`"
            raise Unavailable(f"{host} has no Python 3", reason="PythonMissing", fix=fix)
        if code == deploy.TOO_OLD:
            raise Unavailable(f"{host} has a Python before 3.9", reason="PythonTooOld", fix="install Python 3.9+")
        if code == deploy.UNSAFE:
            raise Denied(
                f"the work folder on {host} is a link, is another account's, or others can write to it",
                reason="WorkFolderUnsafe",
                fix=f"as root there: chown the account on {self.work}, and chmod 700",
            )
        if code == deploy.FORBIDDEN:
            raise Denied(
                f"the account may not make the work folder on {host}",
                reason="NoPermission",
                fix=f"as root there: install -d -m 700 -o <account> {self.work}",
            )
        if code == deploy.MISSING:
            self._there = False
            raise Transient(f"the programs on {host} went away", reason="NoAnswer", fix="apply again")
        if code < 0:
            raise Transient(
                f"a program on {host} was killed",
                reason="Killed",
                fix="give the machine more memory, or end what uses it up, then apply again",
            )
        raise ProviderError(
            f"a program on {host} failed: {public(said)[-300:]}",
            reason="ProgramFailed",
            fix="see what the machine lacks: edgetrain doctor TARGET",
        )


def _parts(session: Session) -> Iterator[bytes]:
    """The output after the answer's line. Raises what the answer tells."""
    rest, skipped = b"", 0
    while data := session.read():
        rest += data
        while b"\n" in rest:
            line, _, rest = rest.partition(b"\n")
            if _answers(line):
                answer(iter([line]))
                if rest:
                    yield rest
                while data := session.read():
                    yield data
                return
            skipped += 1
            if skipped > MAX_GREETING:
                break
        if len(rest) > 2**20 or skipped > MAX_GREETING:
            break
    raise no_answer(rest)


def _answers(line: bytes) -> bool:
    return line.startswith((b'{"ok":', b'{"error":'))


def answer(lines: Iterator[bytes]) -> Any:
    """What the answer holds. Raises the error that it tells, Transient if there is none."""
    last = b""
    for line in lines:
        last = line or last
        if not _answers(line):
            continue
        try:
            found = json.loads(line)
        except ValueError:
            break
        if "ok" in found:
            return found["ok"]
        error = found["error"]
        kind = KINDS.get(str(error.get("kind")), ProviderError)
        text = {name: shown(error.get(name, ""), 500) for name in ("message", "reason", "fix")}
        raise kind(text["message"], reason=text["reason"] or None, fix=text["fix"])
    raise no_answer(last)


def no_answer(said: bytes) -> Transient:
    """The program ended without a word."""
    return Transient(
        f"the machine gave no answer: {public(said)[-200:]}",
        reason="NoAnswer",
        fix="see that it is up and has memory and disk left, then apply again",
    )
