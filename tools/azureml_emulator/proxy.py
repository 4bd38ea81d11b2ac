"""The proxy of topology A: the service's own host names lead to the emulator, every other is refused and noted.

Its port also answers plain HTTP for the metadata service of a VM, which hands out managed identities' tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from azureml_emulator.requestlog import RequestLog

MAX_HEAD = 64 * 2**10
CHUNK = 64 * 2**10
PATIENCE = 30.0
TUNNELLED = re.compile(
    r"(management\.azure\.com|login\.microsoftonline\.com|ml\.azure\.com"
    r"|([a-z0-9-]+\.)+(api\.azureml\.ms|azurecr\.io)|[a-z0-9]+\.blob\.core\.windows\.net)"
)
IDENTITY = "/metadata/identity/"


class Behind(Protocol):
    """What the proxy leads to: the emulator, or the recorder. It listens on loopback at `port`."""

    port: int
    log: RequestLog

    @staticmethod
    def time() -> str:
        """Now, as the log has it."""


class Proxy:
    """The proxy in front of one server."""

    def __init__(self, behind: Behind, authority: Path, onward: bool = False) -> None:
        """With `onward` other hosts are reached as a site's proxy would, and not refused."""
        self._behind = behind
        self._onward = onward
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await self._serve(reader, writer)

    async def close(self) -> None:
        """Cut the connections that are open."""
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError
        ):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            method, _, rest = head.decode("latin-1").partition(" ")
            target = rest.partition(" ")[0]
            if method == "CONNECT":
                await self._tunnel(target, reader, writer)
            else:
                await self._identity(method, target, head, reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def _leads_here(self, target: str) -> bool:
        host, _, port = target.lower().rpartition(":")
        if host in {"localhost", "127.0.0.1"}:
            return port == str(self._behind.port)
        return port == "443" and TUNNELLED.fullmatch(host) is not None

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._leads_here(target):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._behind.port)
        elif self._onward:
            host, _, port = target.rpartition(":")
            there_reader, there_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        else:
            await self._refuse(target, writer)
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        await _both(reader, writer, there_reader, there_writer)

    async def _identity(
        self, method: str, target: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A plain request, as to a proxy or as to the metadata service itself."""
        parts = urlsplit(target)
        if parts.hostname not in {None, "169.254.169.254", "127.0.0.1", "localhost"} or (
            method != "GET" or not parts.path.startswith(IDENTITY)
        ):
            await self._refuse(target, writer)
            return
        there_reader, there_writer = await asyncio.open_connection(
            "127.0.0.1", self._behind.port, ssl=self._tls, server_hostname="localhost"
        )
        lines = head.decode("latin-1").split("\r\n")[1:-2]
        kept = [line for line in lines if not line.lower().startswith(("connection:", "proxy-"))]
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        request = "\r\n".join([f"GET {path} HTTP/1.1", *kept, "Connection: close", "", ""])
        there_writer.write(request.encode("latin-1"))
        await there_writer.drain()
        while data := await there_reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        there_writer.close()

    async def _refuse(self, target: str, writer: asyncio.StreamWriter) -> None:
        self._behind.log.refused(target)
        self._behind.log.add({"time": self._behind.time(), "refused": target})
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()


async def _both(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there_reader: asyncio.StreamReader,
    there_writer: asyncio.StreamWriter,
) -> None:
    """Carry bytes both ways until one side is done: then both are closed, as HTTP needs no half of one."""
    ways = {
        asyncio.create_task(_carry(reader, there_writer)),
        asyncio.create_task(_carry(there_reader, writer)),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        there_writer.close()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
