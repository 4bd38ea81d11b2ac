"""Hosts reached over SSH: one connection for each machine and account, opened again when it is lost.

The machine need not reach the emulator: over the same connection a port of its own loopback leads here. Its host
key must be the one that it showed when it was attached.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shlex
import threading
from collections.abc import Callable, Coroutine
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from azureml_emulator.computes import Reach
from azureml_emulator.executor.host import FOLDER, LONG, SHORT, Facts, Unfit, Unreachable
from azureml_emulator.store import Store

if TYPE_CHECKING:
    import asyncssh

ROOT = ".azureml-emulator"
KEEP_ALIVE, LOST_AFTER = 5, 3  # seconds between signs of life, and how many may stay out
CONNECT_SECONDS = 20.0
SESSION = "session"  # kind of document: the server's process of our last connection to a host
_T = TypeVar("_T")


def identity(reach: Reach) -> str:
    """The same for the same machine, account and secret."""
    return hashlib.sha256(json.dumps(astuple(reach)).encode()).hexdigest()


class Links:
    """All connections of an emulator, and the event loop that serves them in a thread of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._hosts: dict[str, tuple[SshHost, int]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def host(self, reach: Reach) -> SshHost:
        """The host that is reached so; each taker closes it once."""
        with self._lock:
            host, takers = self._hosts.get(identity(reach)) or (SshHost(self, reach), 0)
            self._hosts[host.id] = (host, takers + 1)
            return host

    def give_back(self, host: SshHost) -> None:
        """One taker fewer; the last one's connection ends."""
        with self._lock:
            _, takers = self._hosts[host.id]
            if takers > 1:
                self._hosts[host.id] = (host, takers - 1)
                return
            del self._hosts[host.id]
        host.drop()

    def wait(self, work: Coroutine[Any, Any, _T], seconds: float) -> _T:
        """The result of what the loop does. Raises TimeoutError."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="emulator-ssh", daemon=True).start()
            loop = self._loop
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), loop)
        try:
            return future.result(seconds + 5)
        except BaseException:
            future.cancel()
            raise

    def later(self, work: Callable[[], object]) -> None:
        """Call `work` in the loop, and don't wait."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(work)

    def drop(self) -> None:
        """End all connections: calls that are under way fail."""
        for host, _ in list(self._hosts.values()):
            host.drop()

    def stop(self) -> None:
        """End the loop; nothing is asked after this."""
        self.drop()
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)


class SshHost:
    """One machine; any number of threads may ask it."""

    private_home = False

    def __init__(self, links: Links, reach: Reach) -> None:
        self.id = identity(reach)
        self.name = f"{reach.host}:{reach.port}"
        self._reach = reach
        self._links = links
        self._opening = threading.RLock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._agent = f"agent-{hashlib.sha256((FOLDER / 'agent.py').read_bytes()).hexdigest()[:16]}.py"
        self._ways: dict[int, int] = {}  # port there: port here
        self._facts: dict[str, Any] = {}

    def ask(self, verb: str, *words: str, order: Any = None, send: Path | None = None) -> dict[str, Any]:
        """See Host."""
        connection = self._connected()
        stdin: dict[str, Any] = {"input": json.dumps(order).encode()} if send is None else {"stdin": send}
        seconds = SHORT if send is None and verb != "image" else LONG
        answer: dict[str, Any] = json.loads(self._run(connection, self._line(verb, *words), seconds, **stdin))
        return answer

    def fetch(self, verb: str, *words: str, into: Path) -> None:
        """See Host."""
        self._run(self._connected(), self._line(verb, *words), LONG, input=b"", stdout=into)

    def facts(self) -> Facts:
        """See Host."""
        self._connected()
        found = self._facts
        return Facts(*(found[name] for name in Facts.__dataclass_fields__))

    def way_back(self, port: int, wanted: int = 0) -> int:
        """See Host."""
        with self._opening:
            connection = self._connected()
            for there, here in self._ways.items():
                if here == port and wanted in (0, there):
                    return there
            there = self._listen(connection, wanted or port, port, free=not wanted)
            self._ways[there] = port
            return there

    def close(self) -> None:
        """See Host."""
        self._links.give_back(self)

    def drop(self) -> None:
        """End the connection; the next call opens another."""
        with self._opening:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(Exception):
                    self._links.wait(_ended(connection), SHORT)

    def _line(self, verb: str, *words: str) -> str:
        return f'exec python3 -I "$HOME/{ROOT}/{self._agent}" {shlex.join([f"~/{ROOT}", verb, *words])}'

    def _connected(self) -> asyncssh.SSHClientConnection:
        with self._opening:
            if self._connection is None or self._connection.is_closed():
                self._connection = None
                connection = self._told(lambda: self._links.wait(_connect(self._reach), CONNECT_SECONDS + 5))
                try:
                    self._settle(connection)
                except BaseException:
                    self._links.later(connection.abort)
                    raise
                self._connection = connection
            return self._connection

    def _settle(self, connection: asyncssh.SSHClientConnection) -> None:
        """Bring the agent, end what is left of the last connection, and open the ways back again."""
        place = f"$HOME/{ROOT}/{self._agent}"
        bring = f'umask 077; mkdir -p "$HOME/{ROOT}" && cat > "{place}.$$" && mv "{place}.$$" "{place}"'
        self._run(connection, bring, SHORT, input=(FOLDER / "agent.py").read_bytes())
        # A connection that broke without a word lives on at the server, and holds the ports that are wanted now.
        last = self._links.store.get(SESSION, self.id)
        if last:
            self._run(connection, self._line("release", str(last)), SHORT, input=b"")
        self._facts = json.loads(self._run(connection, self._line("facts"), SHORT, input=b""))
        self._links.store.put(SESSION, self.id, self._facts["session"])
        for there, here in self._ways.items():
            self._listen(connection, there, here, free=False)

    def _listen(self, connection: asyncssh.SSHClientConnection, there: int, here: int, *, free: bool) -> int:
        """A port there that leads to this machine's `here`: that one, or another if that is taken and `free`."""
        import asyncssh

        for port in (there, 0) if free else (there,):
            try:
                return self._told(lambda port=port: self._links.wait(_listen(connection, port, here), SHORT))  # type: ignore[misc]
            except asyncssh.ChannelListenError:
                continue
        if free:
            raise Unfit(f"{self.name} forwards no ports (AllowTcpForwarding of its sshd)")
        raise Unreachable(f"port {there} of {self.name} is taken")

    def _run(self, connection: asyncssh.SSHClientConnection, line: str, seconds: float, **streams: Any) -> bytes:
        try:
            done = self._told(
                lambda: self._links.wait(connection.run(line, encoding=None, check=False, **streams), seconds)
            )
        except Unreachable:
            # It may be dead without a word: the next call finds out on a new one.
            self._links.later(connection.abort)
            raise
        if done.exit_status is None or done.exit_status < 0:
            raise Unreachable(f"the connection to {self.name} was lost")
        if done.exit_status == 127:
            raise Unfit(f"{self.name} has no python3")
        if done.exit_status != 0:
            said = _bytes(done.stderr)[-400:].decode("utf-8", "replace").strip()
            raise Unfit(f"{self.name} refused: {said}")
        return _bytes(done.stdout)

    def _told(self, call: Callable[[], _T]) -> _T:
        """What `call` answers; its failures in the executor's words."""
        import asyncssh

        try:
            return call()
        except asyncssh.PermissionDenied:
            raise Unfit(f"{self._reach.username} can't sign in to {self.name} with the attached secret") from None
        except asyncssh.ChannelListenError:
            raise
        except asyncssh.HostKeyNotVerifiable:
            raise Unfit(f"{self.name} shows another host key than when it was attached") from None
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            raise Unfit("the attached private key can't be read") from None
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise Unreachable(f"{self.name} does not answer: {type(error).__name__}") from None


def _bytes(said: bytes | str | None) -> bytes:
    return said if isinstance(said, bytes) else b""


async def _connect(reach: Reach) -> asyncssh.SSHClientConnection:
    import asyncssh

    keys = None
    if reach.private_key:
        keys = [asyncssh.import_private_key(reach.private_key, reach.passphrase or None)]
    shown = [asyncssh.import_public_key(reach.host_key)] if reach.host_key else []
    return await asyncssh.connect(
        reach.host,
        reach.port,
        username=reach.username,
        client_keys=keys,
        password=reach.password or None,
        known_hosts=(shown, [], []) if shown else None,
        config=None,
        agent_path=None,
        gss_host=None,
        connect_timeout=CONNECT_SECONDS,
        login_timeout=CONNECT_SECONDS,
        keepalive_interval=KEEP_ALIVE,
        keepalive_count_max=LOST_AFTER,
    )


async def _listen(connection: asyncssh.SSHClientConnection, there: int, here: int) -> int:
    listener = await connection.forward_remote_port("127.0.0.1", there, "127.0.0.1", here)
    return listener.get_port()


async def _ended(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    await connection.wait_closed()
