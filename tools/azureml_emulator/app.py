"""The ASGI application: finds the route, checks who asks, lets the handler answer, and logs."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import struct
import time
import traceback
import uuid
from collections.abc import Iterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Incoming
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from azureml_emulator import registry, routing
from azureml_emulator.access import authorise
from azureml_emulator.emulator import Emulator
from azureml_emulator.errors import refusal
from azureml_emulator.faults import Fault
from azureml_emulator.message import Answer, FilePart, Refused, Request
from azureml_emulator.requestlog import body_shown, headers_shown, text_redacted

MAX_BODY = 1 << 30
CHUNK = 1 << 20
CONTROL = "/_emulator/"
JSON = "application/json; charset=utf-8"


class App:
    """Serves one emulator; all route modules are imported before the first request."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._served = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        if registry.mine(scope["path"]):
            await self._registry(scope, receive, send)
            return
        began = time.monotonic()
        incoming = Incoming(scope, receive)
        body, request = await self._read(incoming)
        control = request.path.startswith(CONTROL)
        fault = None if control else self._emulator.faults.take(_asked(request, scope))
        route = ""
        if body is None:
            answer = Answer(413, b"")
        elif fault and not fault.after:
            answer = _of(fault, request, self._emulator)
        else:
            answer, route = await run_in_threadpool(self._serve, request)
            if fault:
                answer = _of(fault, request, self._emulator)
        if not control:
            self._log(request, answer, route, fault, began)
        if fault and fault.reset:
            await _reset(scope, send)
            return
        await self._send(request, answer, scope, receive, send)

    async def _registry(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request for the real registry: bodies pass through unread and are not logged."""
        began = time.monotonic()
        request = _request(Incoming(scope), b"")
        fault = self._emulator.faults.take(_asked(request, scope))
        body = _Body(receive)
        answer: Answer | None = None
        try:
            if fault and not fault.after:
                answer = _of(fault, request, self._emulator)
            else:
                self._throttle(request, "registry")
                outcome = await registry.serve(self._emulator, scope, body.receive, _nowhere if fault else send)
                answer = _of(fault, request, self._emulator) if fault else None
        except Refused as refused:
            answer = refusal("registry", refused, request, self._emulator.time())
        logged = answer or Answer(outcome.status, None, outcome.headers)
        self._log(request, logged, "registry", fault, began)
        if fault and fault.reset:
            await _reset(scope, send)
        elif answer is not None:
            # A client that still sends would take an answer and an end for a broken connection.
            await body.drain()
            await self._send(request, answer, scope, receive, send)

    async def _read(self, incoming: Incoming) -> tuple[bytes | None, Request]:
        parts: list[bytes] | None = []
        length = 0
        try:
            async for part in incoming.stream():
                length += len(part)
                if length > MAX_BODY:
                    parts = None
                elif parts is not None:
                    parts.append(part)
        except ClientDisconnect:
            parts = None
        body = None if parts is None else b"".join(parts)
        return body, _request(incoming, body or b"")

    def _serve(self, request: Request) -> tuple[Answer, str]:
        """The answer, and the name of the route that gave it."""
        emulator = self._emulator
        found = routing.find(request)
        if found is None:
            emulator.log.unknown(f"{request.method} {request.path}")
            refused = Refused(404, "NotFound", f"no route serves {request.method} {request.path}")
            return refusal(_shape_of(request), refused, request, emulator.time()), ""
        route, segments = found
        try:
            self._throttle(request, route.shape)
            allowed = authorise(emulator, route, segments, request)
            return routing.call(emulator, route, segments, allowed), route.name
        except Refused as refused:
            return refusal(route.shape, refused, request, emulator.time()), route.name
        except Exception:
            # The service would say as little; what went wrong is told where tests and people look.
            emulator.log.failed(f"{request.method} {request.path}\n{traceback.format_exc()}")
            failure = Refused(500, "InternalServerError", "the emulator failed; its log says how")
            return refusal(route.shape, failure, request, emulator.time()), route.name

    def _throttle(self, request: Request, shape: str) -> None:
        every = self._emulator.options.throttle
        if not every or request.path.startswith(CONTROL):
            return
        if next(self._served) % every == 0:
            if shape == "blob":
                raise Refused(503, "ServerBusy", "The server is busy.")
            raise Refused(429, "TooManyRequests", "too many requests", {"Retry-After": "1"})

    def _log(self, request: Request, answer: Answer, route: str, fault: Fault | None, began: float) -> None:
        types = {name.lower(): value for name, value in answer.headers.items()}
        said = answer.body if isinstance(answer.body, bytes) else b""
        if isinstance(answer.body, dict | list):
            said, types = json.dumps(answer.body).encode(), {"content-type": JSON, **types}
        entry: dict[str, Any] = {
            "time": self._emulator.time(),
            "id": request.id,
            "method": request.method,
            "host": request.host,
            "path": text_redacted(request.path),
            "query": {
                key: "REDACTED" if key.lower() == "sig" else text_redacted(value)
                for key, value in request.query.items()
            },
            "headers": headers_shown(request.headers),
            "body": body_shown(request.body, request.headers.get("content-type", "")),
            "route": route,
            "status": 0 if fault and fault.reset else answer.status,
            "answerHeaders": headers_shown(types),
            "answer": body_shown(said, types.get("content-type", "")),
            "milliseconds": round((time.monotonic() - began) * 1000, 1),
        }
        if fault:
            entry["fault"] = "reset" if fault.reset else fault.status
        if isinstance(answer.body, FilePart):
            entry["answer"] = f"{answer.body.length} bytes"
        self._emulator.log.add(entry)

    async def _send(self, request: Request, answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            "x-ms-request-id": request.id,
            "x-ms-correlation-request-id": request.headers.get("x-ms-correlation-request-id", request.id),
            "x-request-id": request.id,
            **answer.headers,
        }
        client = request.headers.get("x-ms-client-request-id")
        if client:
            headers["x-ms-client-request-id"] = client
        typed = any(name.lower() == "content-type" for name in headers)
        body = answer.body
        response: Response
        if isinstance(body, FilePart):
            sized = any(name.lower() == "content-length" for name in headers)
            headers |= {} if sized else {"Content-Length": str(body.length)}
            kind = None if typed else "application/octet-stream"
            # Nobody reads the file for a HEAD.
            source = iter(()) if request.method == "HEAD" else _pieces(body)
            response = StreamingResponse(source, answer.status, headers, media_type=kind)
        elif isinstance(body, bytes) or body is None:
            response = Response(body or b"", answer.status, headers)
        else:
            data = json.dumps(body).encode()
            response = Response(data, answer.status, headers, media_type=None if typed else JSON)
        await response(scope, receive, send)


class _Body:
    """A request's body, and whether it is over."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._over = False

    async def receive(self) -> Message:
        """The next part of it."""
        message = await self._receive()
        self._over = not message.get("more_body")
        return message

    async def drain(self) -> None:
        """Let the rest of it go by."""
        while not self._over:
            await self.receive()


async def _nowhere(message: Message) -> None:
    """Where an answer goes that the client is not to get."""


def _request(incoming: Incoming, body: bytes) -> Request:
    return Request(
        method=incoming.method,
        host=incoming.headers.get("host", ""),
        path=re.sub(r"/{2,}", "/", incoming.scope["path"]),
        query=dict(incoming.query_params),
        headers={name.lower(): value for name, value in incoming.headers.items()},
        body=body,
        id=str(uuid.uuid4()),
        query_string=incoming.scope["query_string"].decode("latin-1"),
    )


def _asked(request: Request, scope: Scope) -> str:
    return f"{request.method} {request.path}?{scope['query_string'].decode('ascii', 'replace')}"


def _pieces(part: FilePart) -> Iterator[bytes]:
    with part.path.open("rb") as source:
        source.seek(part.start)
        left = part.length
        while left > 0 and (piece := source.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece


def _of(fault: Fault, request: Request, emulator: Emulator) -> Answer:
    if fault.reset:
        return Answer(500, b"")
    if fault.body is None:
        found = routing.find(request)
        shape = found[0].shape if found else _shape_of(request)
        refused = Refused(fault.status, "InjectedFault", "a fault that was asked for", fault.headers)
        return refusal(shape, refused, request, emulator.time())
    body = fault.body.encode() if isinstance(fault.body, str) else fault.body
    return Answer(fault.status, body, fault.headers)


def _shape_of(request: Request) -> str:
    """How the service that owns such a path words its refusals."""
    path = request.path.lower()
    if path.startswith(("/subscriptions", "/rp/", "/providers")):
        return "arm"
    if path.startswith("/modelmanagement"):
        return "models"
    return "registry" if path.startswith(("/v2/", "/acr/")) else "history"


async def _reset(scope: Scope, send: Send) -> None:
    """Cut the connection as a dead peer or a firewall does: by a reset, with no farewell of TLS."""
    transport: asyncio.Transport = scope["state"]["transport"]
    plain = transport.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    # For the server's own books: the answer is complete, and nobody is there to read it.
    await send({"type": "http.response.start", "status": 500, "headers": []})
    await send({"type": "http.response.body", "body": b""})
