"""Serves the application over TLS on two ports, in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from testbed.ca import Certificate

HERE = "127.0.0.1"
STARTED = 30.0
FAREWELL = 5


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


class Listener:
    """Listens from the start on; `ports` are those of the last time, taken again where they are free."""

    def __init__(self, app: Any, certificate: Certificate, ports: tuple[int, int]) -> None:
        self._sockets = [_listen(port) for port in ports]
        self.ports = tuple(one.getsockname()[1] for one in self._sockets)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=FAREWELL,
                ssl_certfile=str(certificate.certificate),
                ssl_keyfile=str(certificate.key),
            )
        )
        self._up = threading.Event()
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="github-stand-in", daemon=True)
        self._thread.start()
        if not self._up.wait(STARTED) or self._broken:
            raise RuntimeError("the stand-in did not start") from self._broken

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._broken = error
            self._up.set()

    async def _main(self) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=self._sockets))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.005)
        self._up.set()
        await serving

    def stop(self) -> None:
        """Stop; requests under way end first."""
        self._server.should_exit = True
        self._thread.join()
        for one in self._sockets:
            one.close()


def _listen(before: int) -> socket.socket:
    """On the port of the last time, or on any."""
    found = None
    if before:
        with contextlib.suppress(OSError):
            found = socket.create_server((HERE, before))
    found = found or socket.create_server((HERE, 0))
    # Inherited by what it accepts: else every answer waits 40 ms for the peer's kernel to acknowledge a part.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found
