"""A server on loopback that answers what a test tells it to, well or badly; and forges that talk to it."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from edgetrain.core.errors import NotFound
from edgetrain.core.ports import Outbound, Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.github.provider import GithubForge
from testbed.ca import Certificate

REPO = "/repos/hosp/models"
GRANTED = {
    "actions": "read",
    "checks": "read",
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
}
USER_TOKEN = "ghp_" + "u" * 36


@dataclass(frozen=True)
class Request:
    """What was asked; `path` with its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def token(self) -> str:
        """What it was signed with."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass(frozen=True)
class Reply:
    """What to answer. `reset` breaks the connection instead; `cut` breaks it after so many bytes of the body."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    reset: bool = False
    cut: int = -1

    @property
    def bytes(self) -> bytes:
        """The body as sent."""
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


Rule = Callable[[Request], Reply | None]


class Scripted:
    """Asks `rule` first, then answers as a GitHub where the App is installed, with tokens `ghs_1...` and on."""

    def __init__(self, rule: Rule | None = None, certificate: Certificate | None = None) -> None:
        self.rule = rule
        self.requests: list[Request] = []
        self.permissions: dict[str, str] = dict(GRANTED)
        self.lasts = 3600.0
        self.minted: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self, part: str) -> list[Request]:
        """The requests whose `METHOD path` holds this."""
        return [one for one in self.requests if part in f"{one.method} {one.path}"]

    def answer(self, request: Request) -> Reply:
        """What to answer now."""
        self.requests.append(request)
        return (self.rule(request) if self.rule else None) or self._usual(request)

    def _usual(self, request: Request) -> Reply:
        match f"{request.method} {request.path.partition('?')[0]}":
            case "GET /repos/hosp/models/installation":
                return Reply(body={"id": 7, "permissions": self.permissions, "suspended_at": None})
            case "POST /app/installations/7/access_tokens":
                token = f"ghs_{len(self.minted) + 1}" + "x" * 30
                self.minted.append(token)
                ends = datetime.fromtimestamp(datetime.now(UTC).timestamp() + self.lasts, UTC)
                found = {"token": token, "expires_at": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}
                return Reply(201, {**found, "permissions": request.body["permissions"]})
            case "GET /app":
                return Reply(body={"id": 4242, "slug": "edgetrain-app"})
            case "GET /users/edgetrain-app%5Bbot%5D":
                return Reply(body={"id": 99, "login": "edgetrain-app[bot]", "type": "Bot"})
            case "GET /repos/hosp/models":
                return Reply(body={"full_name": "hosp/models", "private": True})
        return Reply(404, {"message": "Not Found"})


def _handler(server: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            data = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(data) if data else None
            reply = server.answer(Request(self.command, self.path, headers, body))
            if reply.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            content = reply.bytes
            if "Date" in reply.headers:
                self.send_response_only(reply.status)
            else:
                self.send_response(reply.status)
            given = {"content-type": "application/json; charset=utf-8", **reply.headers}
            if reply.status != 304:
                given.setdefault("content-length", str(len(content)))
            for name, value in given.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content if reply.cut < 0 else content[: reply.cut])
            if reply.cut >= 0:
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = do_CONNECT = answer

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is written of it."""

    return Handler


@cache
def private_key() -> str:
    """The App's key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()


class Pauses:
    """The sleep of a test: no time passes."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


APP = {"app": {"id": "4242", "privateKey": {"secret": "app-key"}}}
TOKEN = {"token": {"secret": "token"}}


def forge_at(
    api: str,
    *,
    block: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    outbound: Outbound | None = None,
    pauses: Pauses | None = None,
    **clock: Any,
) -> GithubForge:
    """The provider as the App (or as `block` and `secrets` say); it never waits."""
    held = {"app-key": private_key()} if secrets is None else secrets

    def secret(name: str) -> Secret:
        if name not in held:
            raise NotFound(f"secret {name} has no readable file on this machine", reason="SecretMissing")
        return Secret(held[name])

    settings = Settings(
        name="forge",
        block={"type": "github", "repository": "hosp/models", "api": api, **(APP if block is None else block)},
        state=Path("unused"),
        outbound=outbound or Outbound(),
        secret=secret,
    )
    return GithubForge(settings, sleep=pauses or Pauses(), **clock)


def with_token(api: str, token: str = USER_TOKEN, **more: Any) -> GithubForge:
    """The provider with a given token."""
    return forge_at(api, block=TOKEN, secrets={"token": token}, **more)
