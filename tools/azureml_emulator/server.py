"""Starts and stops an emulator: TLS server, proxy and executor, in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib
import os
import pkgutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from azureml_emulator import assertions, certificates, executor, principals, routes
from azureml_emulator.app import App
from azureml_emulator.emulator import Emulator
from azureml_emulator.faults import Fault
from azureml_emulator.options import Options
from azureml_emulator.proxy import MAX_HEAD, Proxy
from azureml_emulator.settings import environment

HERE = "127.0.0.1"
STARTED = 30.0
FAREWELL = 5


class FolderInUse(RuntimeError):
    """Another emulator works in the data folder."""


class _Protocol(H11Protocol):
    """Lets the application see the connection, so that it can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}

    def shutdown(self) -> None:
        """The server stops: a connection that nobody waits on is cut, for the peer may be slow to say goodbye."""
        if self.cycle is None or self.cycle.response_complete:
            # Not closed before: a TLS transport that is closed a second time can't be cut any more.
            self.transport.abort()
        else:
            super().shutdown()


class RunningEmulator:
    """An emulator that serves. Use it as a context manager, or `stop()` it."""

    def __init__(self, options: Options) -> None:
        self._lock = _locked(options.folder)
        self.emulator = Emulator(options)
        self.folder = options.folder
        self.certificates = certificates.ensure(options.folder)
        principals.ensure(self.emulator)
        assertions.ensure(self.emulator)
        import_routes()
        with contextlib.ExitStack() as undo:
            undo.callback(self._release)
            kept = self.emulator.store.get("emulator", "ports") or {}
            self._socket = _listen(options.port, kept.get("port", 0))
            undo.callback(self._socket.close)
            self._proxy_socket = _listen(options.proxy_port, kept.get("proxy", 0))
            undo.callback(self._proxy_socket.close)
            self.port = int(self._socket.getsockname()[1])
            self.proxy_port = int(self._proxy_socket.getsockname()[1])
            self.emulator.port = self.port
            self.emulator.store.put("emulator", "ports", {"port": self.port, "proxy": self.proxy_port})
            self.emulator.executor = executor.make(self.emulator)
            undo.callback(self.emulator.executor.stop)
            self._serve()
            undo.pop_all()

    def _serve(self) -> None:
        config = uvicorn.Config(
            App(self.emulator),
            http=_Protocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=FAREWELL,
            ssl_certfile=str(self.certificates.certificate),
            ssl_keyfile=str(self.certificates.key),
        )
        self._server = uvicorn.Server(config)
        self._up = threading.Event()
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="azureml-emulator", daemon=True)
        self._thread.start()
        if not self._up.wait(STARTED) or self._broken:
            raise RuntimeError("the emulator did not start") from self._broken

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._broken = error
            self._up.set()

    async def _main(self) -> None:
        proxy = Proxy(self.emulator, self.certificates.authority, self.emulator.options.onward)
        front = await asyncio.start_server(proxy.serve, sock=self._proxy_socket, limit=MAX_HEAD)
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.005)
        self._up.set()
        await serving
        front.close()
        await proxy.close()

    @property
    def url(self) -> str:
        """Where topology B reaches it."""
        return f"https://localhost:{self.port}"

    @property
    def proxy_url(self) -> str:
        """The proxy of topology A."""
        return f"http://{HERE}:{self.proxy_port}"

    def environment(self, topology: str, config: Path | None = None) -> dict[str, str]:
        """The environment in which a client reaches it by topology `A` or `B`; `config` is a folder for the
        client's caches, else one in the data folder."""
        return environment(self.emulator, topology, self.proxy_port, self.certificates, config)

    def principal(self, name: str = "owner") -> dict[str, Any]:
        """A registered application: clientId, clientSecret, objectId, role."""
        return principals.named(self.emulator, name)

    def fault(self, match: str, status: int = 0, **more: Any) -> None:
        """Let the next requests that match fail; see `faults.Fault`."""
        self.emulator.faults.add(Fault(match, status, **more))

    def change(self, **options: Any) -> None:
        """Other options from now on, such as `slow=2` or `attach_by_address="allow"`."""
        self.emulator.options = replace(self.emulator.options, **options)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What was asked since the start, as the log has it."""
        return self.emulator.log.requests

    def stop(self) -> None:
        """Stop; a second time changes nothing."""
        if not self._thread.is_alive() and self._lock is None:
            return
        self.emulator.executor.stop()
        self._server.should_exit = True
        self._thread.join()
        self._release()

    def _release(self) -> None:
        self.emulator.store.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunningEmulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start(options: Options) -> RunningEmulator:
    """Start an emulator. Raises FolderInUse, or OSError for a port that is taken."""
    return RunningEmulator(options)


def import_routes() -> None:
    """Import every module of `routes`: each puts its own routes into the table."""
    for module in pkgutil.iter_modules(routes.__path__):
        importlib.import_module(f"{routes.__name__}.{module.name}")


def _locked(folder: Path) -> int | None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise FolderInUse(f"another emulator works in {folder}") from None
    return descriptor


def _listen(wanted: int, before: int) -> socket.socket:
    """The wanted port; else the one of the last start, where it is still free; else any."""
    for port in _ports(wanted, before):
        with contextlib.suppress(OSError):
            return _bound(port)
    return _bound(wanted)


def _bound(port: int) -> socket.socket:
    found = socket.create_server((HERE, port))
    # Inherited by what it accepts: asyncio sets it only where it is told the protocol, and else every answer waits
    # 40 ms for the peer's kernel to acknowledge its first part.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def _ports(wanted: int, before: int) -> Iterator[int]:
    if wanted == 0 and before:
        yield before
