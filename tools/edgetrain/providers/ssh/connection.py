"""One kept connection to a target, opened again when it is lost, and the commands that are run over it."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgetrain.core.errors import ProviderError, Rejected, Transient
from edgetrain.providers.ssh.login import Route, sign_in, told
from edgetrain.providers.ssh.loop import later, wait

if TYPE_CHECKING:
    import asyncssh

CHUNK = 2**18
MAX_ANSWER = 64 * 2**20
MAX_ERRORS = 2**16
MAX_LINE = 8 * 2**20
# sshd allows 10 sessions on a connection unless its MaxSessions says otherwise.
SESSIONS = 8
ATTEMPTS, PATIENCE = 8, 30.0
LEAST_PAUSE, MOST_PAUSE = 0.5, 8.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code (negative: killed by a signal), its output, the end of its errors."""

    code: int
    stdout: bytes
    stderr: bytes


def retried(call: Callable[[], _T], *but: str) -> _T:
    """The answer of `call`, tried again while it raises Transient (for other reasons than `but`), within bounds
    and with pauses by chance."""
    import tenacity

    trying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, Transient) and e.reason not in but),
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_after_delay(PATIENCE),
        wait=tenacity.wait_random_exponential(multiplier=LEAST_PAUSE, max=MOST_PAUSE),
        reraise=True,
    )
    return trying(call)


class Session:
    """One command on the target while it runs: bytes in, bytes out. Raises Transient when the link is lost."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], fails: Callable[[BaseException], ProviderError]):
        self._process, self._fails = process, fails
        self._errors = bytearray()
        self._reading = wait(self._spawn(self._read_errors()))

    @staticmethod
    async def _spawn(work: Any) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    async def _read_errors(self) -> None:
        import asyncssh

        with contextlib.suppress(asyncssh.Error, OSError):  # a lost link is told by the output's end
            while part := await self._process.stderr.read(CHUNK):
                self._errors += part
                del self._errors[:-MAX_ERRORS]

    def _call(self, work: Any) -> Any:
        import asyncssh

        try:
            return wait(work)
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise self._fails(error) from None

    def write(self, data: bytes) -> None:
        """Send bytes; returns when there is room for more."""
        self._call(self._write(data))

    async def _write(self, data: bytes) -> None:
        self._process.stdin.write(data)
        await self._process.stdin.drain()

    def eof(self) -> None:
        """Nothing more will be sent."""
        self._call(self._eof())

    async def _eof(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write_eof()

    def read(self, most: int = CHUNK) -> bytes:
        """Some bytes; none at the end."""
        data: bytes = self._call(self._process.stdout.read(most))
        return data

    def lines(self) -> Iterator[bytes]:
        """The output's lines, without their ends. Raises Rejected for one that is too long."""
        rest = b""
        while data := self.read():
            *whole, rest = (rest + data).split(b"\n")
            yield from whole
            if len(rest) > MAX_LINE:
                raise Rejected(
                    "the target sent a line without end",
                    reason="AnswerTooLarge",
                    fix="see that the account's login shell prints nothing, then: edgetrain doctor TARGET",
                )
        if rest:
            yield rest

    def finish(self) -> Done:
        """Wait for the end. Raises Transient if the link was lost before."""
        code = self._call(self._finish())
        return Done(code, b"", bytes(self._errors))

    async def _finish(self) -> int:
        await self._reading
        await self._process.wait_closed()
        return _code(self._process)

    def close(self) -> None:
        """Let go of the command, wherever it stands."""
        later(self._close)

    def _close(self) -> None:
        self._reading.cancel()
        self._process.close()


def _code(process: asyncssh.SSHClientProcess[bytes]) -> int:
    import asyncssh

    code = process.returncode
    if code is None:
        raise asyncssh.ConnectionLost("the session ended without a status")
    return code


class Connection:
    """The connection to one target; many threads share it. Nothing is opened before it is needed."""

    def __init__(self, way: Route) -> None:
        self.way = way
        self._open: list[asyncssh.SSHClientConnection] = []
        self._opening = threading.Lock()
        self._sessions = threading.BoundedSemaphore(SESSIONS)

    def connect(self) -> asyncssh.SSHClientConnection:
        """The connection, made if there is none. One attempt; raises what `login.sign_in` raises."""
        with self._opening:
            if not self._open or any(part.is_closed() for part in self._open):
                self._drop()
                self._open = wait(sign_in(self.way))
            return self._open[-1]

    def close(self) -> None:
        """End it; the next call opens it again."""
        with self._opening:
            self._drop()

    def _drop(self) -> None:
        for part in reversed(self._open):
            later(part.abort)
        self._open = []

    def _fails(self, error: BaseException) -> ProviderError:
        return told(error, self.way.target)

    async def _start(self, link: asyncssh.SSHClientConnection, argv: Sequence[str]) -> Any:
        async with asyncio.timeout(self.way.connect_timeout):
            return await link.create_process(
                shlex.join(argv), encoding=None, request_pty=False, x11_forwarding=False, send_env=None, env=()
            )

    @contextmanager
    def open(self, argv: Sequence[str]) -> Iterator[Session]:
        """Start a command; it is let go of at the end of the block. One attempt."""
        import asyncssh

        link = self.connect()
        with self._sessions:
            try:
                session = Session(wait(self._start(link, argv)), self._fails)
            except (asyncssh.Error, OSError, TimeoutError) as error:
                raise self._fails(error) from None
            try:
                yield session
            finally:
                session.close()

    def run(
        self,
        argv: Sequence[str],
        stdin: bytes | Iterable[bytes] = b"",
        timeout: float = 120,
        limit: int = MAX_ANSWER,
    ) -> Done:
        """Run a command to its end. One attempt.

        Raises Transient if the link is lost or `timeout` (seconds) is over, Rejected if the output is larger
        than `limit` bytes."""
        import asyncssh

        link = self.connect()
        parts = iter([stdin] if isinstance(stdin, bytes) else stdin)
        with self._sessions:
            try:
                return wait(self._run(link, argv, parts, timeout, limit))
            except TimeoutError:
                # Perhaps the link is dead without a word: the next call is to find out on a new one.
                self.close()
                raise Transient(
                    f"{self.way.target.host} did not answer within {timeout:.0f} s",
                    reason="HostUnreachable",
                    fix="check the machine's load and the network, then apply again",
                ) from None
            except (asyncssh.Error, OSError) as error:
                raise self._fails(error) from None

    async def _run(
        self,
        link: asyncssh.SSHClientConnection,
        argv: Sequence[str],
        parts: Iterator[bytes],
        timeout: float,
        limit: int,
    ) -> Done:
        async with asyncio.timeout(timeout):
            process = await self._start(link, argv)
            try:
                feeding = asyncio.ensure_future(_feed(process, parts))
                try:
                    out, errors = await asyncio.gather(_read(process.stdout, limit), _tail(process.stderr))
                    await process.wait_closed()
                    return Done(_code(process), out, errors)
                finally:
                    feeding.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await feeding
            finally:
                process.close()


async def _feed(process: asyncssh.SSHClientProcess[bytes], parts: Iterator[bytes]) -> None:
    import asyncssh

    loop = asyncio.get_running_loop()
    with contextlib.suppress(BrokenPipeError, ConnectionError, asyncssh.Error):  # it ended without reading all
        while (part := await loop.run_in_executor(None, next, parts, None)) is not None:
            process.stdin.write(part)
            await process.stdin.drain()
        process.stdin.write_eof()


async def _read(stream: asyncssh.SSHReader[bytes], limit: int) -> bytes:
    found = bytearray()
    while part := await stream.read(CHUNK):
        found += part
        if len(found) > limit:
            raise Rejected(
                "the target's answer is too large",
                reason="AnswerTooLarge",
                fix="see what fills it there: edgetrain doctor TARGET",
            )
    return bytes(found)


async def _tail(stream: asyncssh.SSHReader[bytes]) -> bytes:
    found = bytearray()
    while part := await stream.read(CHUNK):
        found += part
        del found[:-MAX_ERRORS]
    return bytes(found)
