"""The registry: asks for a token, then hands requests on to the real one, byte by byte, without holding them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

import h11

from azureml_emulator import manifests, registry_tokens, upstream
from azureml_emulator.message import Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

CHUNK = 64 * 1024
_CONNECT = 10.0
_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"host", b"authorization", b"expect", b"accept-encoding",
}  # fmt: skip
_PATH = re.compile(
    rf"/v2/(?P<name>{upstream.NAME})/(?:(?P<kind>manifests|blobs)/(?P<reference>{upstream.REFERENCE})"
    rf"|blobs/uploads/?(?P<upload>[A-Za-z0-9_=-]*)|tags/list|referrers/(?P<subject>{upstream.REFERENCE}))"
)
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers = list[tuple[bytes, bytes]]


def mine(path: str) -> bool:
    """Whether the registry serves this path itself."""
    return path == "/v2" or path.startswith("/v2/")


def authorise(emulator: Emulator, scope: MutableMapping[str, Any], host: str, authorization: str) -> None:
    """Raises Refused unless the token allows this request."""
    path, method = scope["path"], scope["method"]
    need: tuple[str, str, tuple[str, ...]] | None = None
    asks = ""
    if path == "/v2/_catalog":
        need = ("registry", "catalog", ("*",))
    elif path not in ("/v2", "/v2/"):
        match = _PATH.fullmatch(path)
        if match is None:
            raise Refused(404, "NAME_INVALID", "that is not a path of a registry")
        name = match["name"]
        if method in ("GET", "HEAD"):
            need = ("repository", name, ("pull", "metadata_read") if path.endswith("/tags/list") else ("pull",))
        elif method == "DELETE" and match["kind"]:
            need = ("repository", name, ("delete",))
        else:
            need, asks = ("repository", name, ("push",)), "pull,push"
    registry_tokens.allow(emulator, host, authorization, need, asks)
    _mounted(emulator, scope, host, authorization)


def _mounted(emulator: Emulator, scope: MutableMapping[str, Any], host: str, authorization: str) -> None:
    """Who takes a blob over from another repository must be allowed to read that."""
    if scope["method"] == "POST":
        for key, name in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            if key == "from":
                registry_tokens.allow(emulator, host, authorization, ("repository", name, ("pull",)))


class Outcome:
    """What was answered, for the log."""

    status = 0
    headers: dict[str, str]

    def __init__(self) -> None:
        self.headers = {}


async def serve(emulator: Emulator, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> Outcome:
    """Check the token, and hand the request on. Raises Refused while nothing was answered yet."""
    given = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
    host = given.get(b"host", "")
    if scope["method"] not in _METHODS:
        raise Refused(405, "UNSUPPORTED", "the method is not served")
    known = registry_tokens.service(emulator, host)
    if known.endswith(".azurecr.io") and host.lower() != known.lower():
        raise Refused(404, "NAME_UNKNOWN", f"{host} is no registry of this workspace")
    await asyncio.to_thread(authorise, emulator, scope, host, given.get(b"authorization", ""))
    outcome = Outcome()
    where = upstream.base(emulator)
    try:
        async with asyncio.timeout(_CONNECT):
            reader, writer = await asyncio.open_connection(*where)
    except (OSError, TimeoutError):
        raise Refused(503, "UNAVAILABLE", "the registry behind this one does not answer") from None
    try:
        link = _Link(reader, writer)
        await link.begin(scope, where)
        up = asyncio.create_task(link.upload(receive))
        try:
            status, headers = await link.head()
            outcome.status = status
            headers = _rewritten(emulator, host, where, headers)
            outcome.headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in headers}
            if scope["method"] == "PUT" and status == 201:
                await asyncio.to_thread(manifests.pushed, emulator, scope["path"], outcome.headers)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            while data := await link.piece():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            up.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, h11.ProtocolError):
                await up
    except (OSError, h11.RemoteProtocolError):
        if outcome.status == 0:
            raise Refused(502, "UNAVAILABLE", "the registry behind this one broke off") from None
        # Half an answer must not look like a whole one: without its end the server closes the connection.
    finally:
        writer.close()
    return outcome


class _Link:
    """One request to the real registry, over a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._state = h11.Connection(h11.CLIENT)
        self._sized = False

    async def begin(self, scope: MutableMapping[str, Any], where: tuple[str, int]) -> None:
        target = quote(scope["path"], safe="/:+=@")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("ascii", "replace")
        headers = [(key, value) for key, value in scope["headers"] if key.lower() not in _HOP]
        self._sized = any(key.lower() == b"content-length" for key, _ in headers)
        chunked = any(key.lower() == b"transfer-encoding" for key, _ in scope["headers"])
        headers.append((b"host", f"{where[0]}:{where[1]}".encode()))
        if chunked and not self._sized:
            headers.append((b"transfer-encoding", b"chunked"))
        elif not self._sized and scope["method"] in ("POST", "PUT", "PATCH"):
            headers.append((b"content-length", b"0"))
        request = h11.Request(method=scope["method"], target=target, headers=headers)
        self._writer.write(self._state.send(request) or b"")

    async def upload(self, receive: Receive) -> None:
        """The body, as it comes. A client that goes away ends the connection: half a blob is none."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._writer.transport.abort()
                return
            if self._state.our_state is not h11.SEND_BODY:
                return
            if data := message.get("body"):
                self._writer.write(self._state.send(h11.Data(data=data)) or b"")
                await self._writer.drain()
            if not message.get("more_body"):
                self._writer.write(self._state.send(h11.EndOfMessage()) or b"")
                await self._writer.drain()
                return

    async def head(self) -> tuple[int, Headers]:
        """Status and headers of the answer."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event.status_code, [
                    (bytes(key), bytes(value))
                    for key, value in event.headers
                    if key not in (b"connection", b"date")
                ]
            if not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("no answer")

    async def piece(self) -> bytes:
        """The next part of the answer, empty at its end."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return b""
            else:
                raise h11.RemoteProtocolError("half an answer")

    async def _event(self) -> Any:
        while True:
            event = self._state.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._state.receive_data(await self._reader.read(CHUNK))


def _rewritten(emulator: Emulator, host: str, where: tuple[str, int], headers: Headers) -> Headers:
    """The headers for the asker: addresses of the real registry become addresses of this one."""
    base = emulator.urls(host).registry
    behind = f"http://{where[0]}:{where[1]}".encode()
    changed = []
    for key, value in headers:
        if key == b"location":
            parts = urlsplit(value.decode("latin-1"))
            there = f"{base}{parts.path}{'?' + parts.query if parts.query else ''}"
            changed.append((key, there.encode("latin-1")))
        elif key == b"link":
            changed.append((key, value.replace(behind, base.encode())))
        elif key != b"transfer-encoding":
            changed.append((key, value))
    return changed
