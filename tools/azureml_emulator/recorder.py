"""Records real traffic in the emulator's own log format, secrets and identities removed, to check fidelity later.

It is a proxy like that of topology A, only that what comes in goes on to the real service. It reads the traffic by
means of a certificate of its own, which only a client that was told to trusts: see `environment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import re
import secrets
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3
import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as Incoming
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from azureml_emulator import certificates, routing
from azureml_emulator.message import Request
from azureml_emulator.proxy import MAX_HEAD, Proxy
from azureml_emulator.requestlog import RequestLog, body_shown, headers_shown, text_redacted
from azureml_emulator.server import import_routes

MAX_BODY = 1 << 28
WAIT = urllib3.Timeout(connect=30, read=300)
_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-encoding",
    "accept-encoding",
    "host",
}
_GUID = re.compile(r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_MAIL = re.compile(r"[A-Za-z0-9._%+#-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_ZERO = "00000000-0000-0000-0000-000000000000"
_PEOPLE = {"username", "displayname", "givenname", "surname", "email", "upn", "userprincipalname"}


class Pseudonyms:
    """Puts another name in the place of each subscription, tenant, user and mail address: always the same one
    within a recording, and nobody can lead it back, for the key is thrown away."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, value: Any) -> Any:
        """The same JSON, nobody named."""
        if isinstance(value, dict):
            return {
                self._text(str(key)): self._person(item) if str(key).lower() in _PEOPLE else self.of(item)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.of(item) for item in value]
        return self._text(value) if isinstance(value, str) else value

    def _person(self, value: Any) -> Any:
        return f"person-{self._mark(value)[:8]}" if isinstance(value, str) and value else self.of(value)

    def _text(self, text: str) -> str:
        hidden = _GUID.sub(lambda found: self._guid(found[0]), text)
        return _MAIL.sub(lambda found: f"{self._mark(found[0])[:8]}@example.org", hidden)

    def _guid(self, guid: str) -> str:
        return guid if guid == _ZERO else str(uuid.UUID(self._mark(guid)[:32], version=4))

    def _mark(self, text: str) -> str:
        return hmac.digest(self._key, text.lower().encode(), "sha256").hex()


class Recorder:
    """The ASGI application. `port` is where it listens, `log` what it wrote; `upstream` is a proxy on the way to
    the service and `authorities` a PEM file to trust there, where needed."""

    def __init__(self, folder: Path, upstream: str = "", authorities: str = "") -> None:
        import_routes()  # the recording names the route that would serve
        self.port = 0
        self.log = RequestLog(folder)
        self.certificates = certificates.ensure(folder)
        self._names = Pseudonyms()
        trust: dict[str, Any] = {"ca_certs": authorities} if authorities else {}
        settings: dict[str, Any] = {**trust, "timeout": WAIT, "retries": False}
        self._pool = urllib3.ProxyManager(upstream, **settings) if upstream else urllib3.PoolManager(**settings)

    @staticmethod
    def time() -> str:
        """Now, in the log's form."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def environment(self, proxy_port: int) -> dict[str, str]:
        """What a client must be told so that it comes this way."""
        proxy = f"http://127.0.0.1:{proxy_port}"
        bundle = str(self.certificates.bundle)
        return {"HTTPS_PROXY": proxy, "https_proxy": proxy, "REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: passed on, answered with what came back, written down."""
        if scope["type"] != "http":
            return
        incoming = Incoming(scope, receive)
        body = await self._body(incoming)
        if body is None:
            await Response(b"", 413)(scope, receive, send)
            return
        began = time.monotonic()
        answer = await run_in_threadpool(self._forward, incoming, body)
        if answer is None:
            await Response(b"", 502)(scope, receive, send)
            return
        status, headers, data = answer
        await asyncio.to_thread(self._write, incoming, body, status, headers, data, time.monotonic() - began)
        kept = {name: value for name, value in headers.items() if name.lower() not in _HOP}
        await Response(data, status, kept)(scope, receive, send)

    @staticmethod
    async def _body(incoming: Incoming) -> bytes | None:
        found = bytearray()
        async for part in incoming.stream():
            found += part
            if len(found) > MAX_BODY:
                return None
        return bytes(found)

    def _forward(self, incoming: Incoming, body: bytes) -> tuple[int, Mapping[str, str], bytes] | None:
        raw = incoming.scope["raw_path"].decode("ascii")
        query = incoming.scope["query_string"].decode("ascii")
        url = f"https://{incoming.headers['host']}{raw}{f'?{query}' if query else ''}"
        # Unpacked, so that it can be read and written down.
        headers = {name: value for name, value in incoming.headers.items() if name.lower() not in _HOP}
        headers["Accept-Encoding"] = "identity"
        try:
            answer = self._pool.request(incoming.method, url, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            self.log.failed(f"{incoming.method} {incoming.headers['host']}: {type(error).__name__}")
            return None
        return answer.status, answer.headers, answer.data

    def _write(
        self, incoming: Incoming, body: bytes, status: int, headers: Mapping[str, str], data: bytes, took: float
    ) -> None:
        asked = {name.lower(): value for name, value in incoming.headers.items()}
        said = {name.lower(): value for name, value in headers.items()}
        path = re.sub(r"/{2,}", "/", incoming.scope["path"])
        request = Request(incoming.method, asked.get("host", ""), path, {}, asked, b"")
        found = routing.find(request)
        entry = {
            "time": self.time(),
            "method": incoming.method,
            "host": asked.get("host", ""),
            "path": text_redacted(path),
            "query": {
                key: "REDACTED" if key.lower() == "sig" else text_redacted(value)
                for key, value in incoming.query_params.items()
            },
            "headers": headers_shown(asked),
            "body": body_shown(body, asked.get("content-type", "")),
            "route": found[0].name if found else "",
            "status": status,
            "answerHeaders": headers_shown(said),
            "answer": body_shown(data, said.get("content-type", "")),
            "milliseconds": round(took * 1000, 1),
        }
        self.log.add(self._names.of(entry))


async def serve(recorder: Recorder, front: socket.socket, stop: asyncio.Event) -> None:
    """Record what comes through the proxy that listens at `front`, until `stop`."""
    with socket.create_server(("127.0.0.1", 0)) as inner:
        recorder.port = int(inner.getsockname()[1])
        config = uvicorn.Config(
            recorder,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            ssl_certfile=str(recorder.certificates.certificate),
            ssl_keyfile=str(recorder.certificates.key),
        )
        server = uvicorn.Server(config)
        proxy = Proxy(recorder, recorder.certificates.authority, onward=True)
        entrance = await asyncio.start_server(proxy.serve, sock=front, limit=MAX_HEAD)
        # Not `serve`: that would take over the signals of whoever called.
        working = asyncio.create_task(server._serve(sockets=[inner]))
        with contextlib.suppress(asyncio.CancelledError):
            await stop.wait()
        server.should_exit = True
        entrance.close()
        await proxy.close()
        await working


def read(path: Path) -> list[dict[str, Any]]:
    """The requests of a log or recording. Raises ValueError with the line that is none."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            raise ValueError(f"{path}, line {number}: not JSON") from None
        if isinstance(entry, dict) and "method" in entry:
            found.append(entry)
    return found
