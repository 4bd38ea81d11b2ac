"""A front before a real registry: passes requests on, counts bytes, and breaks what a test tells it to break."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import parse_qs, quote, urlsplit

from testbed.registry import Registry

BLOCK = 64 * 1024
_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass
class Request:
    """What a client asked; `body` counts the bytes of its body that came, `status` is what it was answered."""

    method: str
    path: str
    headers: Mapping[str, str]
    number: int
    body: int = 0
    status: int = 0


@dataclass(frozen=True)
class Reply:
    """Answer this instead of asking the registry; the request's body is read first."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Cut:
    """Break both connections after so many bytes of the request's body; or, with `answer`, of the answer's."""

    after: int
    answer: bool = False


Rule = Callable[[Request], Reply | Cut | None]


class Front:
    """A front on loopback, over http; `upstream` is the registry. `rule` may be changed at any time.

    `buffered` passes a request on once its body is there, as nginx does. `received` and `sent` are all bytes from
    and to clients, with their headers.
    """

    def __init__(self, upstream: Registry, rule: Rule | None = None, *, buffered: bool = False) -> None:
        self.upstream = upstream
        self.rule = rule
        self.buffered = buffered
        self.received = self.sent = 0
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of(self, method: str, part: str = "") -> list[Request]:
        """The requests of this method with `part` in their path."""
        return [one for one in self.requests if one.method == method and part in one.path]

    def own(self, request: Request, handler: Handler) -> Reply | None:
        """What a subclass answers by itself."""
        return None

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the registry."""
        host, port = "127.0.0.1", self.upstream.port
        if self.upstream.plain:
            return http.client.HTTPConnection(host, port, timeout=60)
        context = ssl.create_default_context(cafile=self.upstream.ca_bundle)
        return http.client.HTTPSConnection(host, port, timeout=60, context=context)


class Conforming(Front):
    """What the specification has and distribution lacks: uploads that outlive a connection, and referrers."""

    def __init__(self, upstream: Registry, rule: Rule | None = None) -> None:
        super().__init__(upstream, rule)
        self._uploads: dict[str, bytearray] = {}
        self._referrers: dict[str, list[dict[str, Any]]] = {}

    def own(self, request: Request, handler: Handler) -> Reply | None:
        """Uploads and referrers."""
        path = urlsplit(request.path).path
        if found := re.fullmatch(r"/v2/(.+)/referrers/(sha256:[0-9a-f]{64})", path):
            index = {"schemaVersion": 2, "manifests": self._referrers.get(found[1] + found[2], [])}
            kind = "application/vnd.oci.image.index.v1+json"
            return Reply(200, {"Content-Type": kind}, json.dumps({**index, "mediaType": kind}).encode())
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            return self._manifest(found[1], found[2], request, handler)
        if request.method == "POST" and path.endswith("/blobs/uploads/") and "mount=" not in request.path:
            name = f"{path}session-{len(self._uploads)}"
            self._uploads[name] = bytearray()
            return Reply(202, {"Location": name, "Range": "0-0"})
        if path in self._uploads:
            return self._upload(path, request, handler)
        return None

    def _upload(self, path: str, request: Request, handler: Handler) -> Reply:
        kept = self._uploads[path]
        place = {"Location": path, "Range": f"0-{max(len(kept) - 1, 0)}"}
        if request.method == "GET":
            return Reply(204, place)
        if request.method == "DELETE":
            del self._uploads[path]
            return Reply(204)
        start = request.headers.get("content-range", "0-").partition("-")[0]
        if int(start) != len(kept):
            return Reply(416, place)
        for block in handler.body(request):
            kept += block
        if request.method == "PATCH":
            return Reply(202, {"Location": path, "Range": f"0-{len(kept) - 1}"})
        digest = parse_qs(urlsplit(request.path).query)["digest"][0]
        link = self.connect()
        link.request("POST", path.rpartition("/")[0] + "/", headers={"Content-Length": "0"})
        begun = link.getresponse()
        begun.read()
        link.request("PUT", f"{begun.headers['Location']}&digest={quote(digest)}", body=bytes(kept))
        done = link.getresponse()
        return Reply(done.status, {"Docker-Content-Digest": digest}, done.read())

    def _manifest(self, repository: str, reference: str, request: Request, handler: Handler) -> Reply | None:
        if request.method != "PUT":
            return None
        data = b"".join(handler.body(request))
        manifest = json.loads(data)
        link = self.connect()
        link.request("PUT", request.path, body=data, headers={"Content-Type": request.headers["content-type"]})
        done = link.getresponse()
        body = done.read()
        subject = manifest.get("subject")
        if done.status != 201 or subject is None:
            return Reply(done.status, {}, body)
        entry = {
            "mediaType": manifest["mediaType"],
            "digest": "sha256:" + sha256(data).hexdigest(),
            "size": len(data),
            "artifactType": manifest["artifactType"],
            "annotations": manifest.get("annotations", {}),
        }
        self._referrers.setdefault(repository + subject["digest"], []).append(entry)
        return Reply(201, {"OCI-Subject": subject["digest"]})


class Handler(BaseHTTPRequestHandler):
    """One client connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    front: Front

    def setup(self) -> None:
        """Count what comes and goes."""
        super().setup()
        self.rfile = _Counted(self.rfile, self._came, "read", "readline")  # type: ignore[assignment]
        self.wfile = _Counted(self.wfile, self._went, "write")  # type: ignore[assignment]

    def _came(self, size: int) -> None:
        with self.front.lock:
            self.front.received += size

    def _went(self, size: int) -> None:
        with self.front.lock:
            self.front.sent += size

    def handle_one_request(self) -> None:
        """A client that goes away ends its connection only."""
        try:
            super().handle_one_request()
        except (OSError, http.client.HTTPException):
            self.close_connection = True

    def every(self) -> None:
        """Every method."""
        with self.front.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, len(self.front.requests))
            self.front.requests.append(request)
        act = self.front.rule(request) if self.front.rule else None
        if isinstance(act, Reply):
            for _ in self.body(request):
                pass
            self._reply(request, act)
        elif isinstance(act, Cut) and not act.answer and isinstance(self.front, Conforming):
            self.front.own(request, _Short(self, act.after))  # type: ignore[arg-type]
            self._break()
        elif mine := self.front.own(request, self):
            self._reply(request, mine)
        else:
            self._pass_on(request, act)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = every

    def body(self, request: Request) -> Any:
        """The request's body, block by block."""
        left = int(request.headers.get("content-length", 0))
        while left and (block := self.rfile.read(min(left, BLOCK))):
            left -= len(block)
            request.body += len(block)
            yield block
        if left:
            raise ConnectionError("the client went away")

    def _pass_on(self, request: Request, cut: Cut | None) -> None:
        link = self.front.connect()
        try:
            blocks = self.body(request)
            if self.front.buffered:
                if cut and not cut.answer and any(request.body > cut.after for _ in blocks):
                    self._break()
                    return
                blocks = list(blocks)
            link.putrequest(self.command, self.path, skip_accept_encoding=True, skip_host=True)
            link.putheader("Host", self.front.host)
            for name, value in self.headers.items():
                if name.lower() not in {*_HOP, "host"}:
                    link.putheader(name, value)
            link.endheaders()
            for block in blocks:
                if cut and not cut.answer and request.body > cut.after:
                    link.send(block[: len(block) - (request.body - cut.after)])
                    self._break()
                    return
                try:
                    link.send(block)
                except OSError:  # It has answered already, and hung up.
                    self.close_connection = True
                    for _ in blocks:
                        pass
            answer = link.getresponse()
            if cut and not cut.answer:
                self._break()
                return
            self._relay(request, answer, cut)
        finally:
            link.close()

    def _relay(self, request: Request, answer: http.client.HTTPResponse, cut: Cut | None) -> None:
        request.status = answer.status
        if cut and not cut.after:
            self._break()
            return
        head = self.command == "HEAD"
        length = answer.headers.get("Content-Length")
        data = answer.read() if length is None and not head else b""
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if length is None and answer.status >= 200 and answer.status != 204 and not head:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        left = cut.after if cut else 2**62
        while not head and left and (block := answer.read(min(BLOCK, left))):
            self.wfile.write(block)
            left -= len(block)
        if cut:
            self.wfile.flush()
            self._break()

    def _reply(self, request: Request, reply: Reply) -> None:
        request.status = reply.status
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _break(self) -> None:
        """Reset the connection, as a network that fails does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: `requests` keeps what tests ask about."""


class _Short:
    """A handler whose client goes away after some bytes."""

    def __init__(self, handler: Handler, after: int) -> None:
        self._handler, self._after = handler, after

    def body(self, request: Request) -> Any:
        """The first bytes."""
        left = self._after
        for block in self._handler.body(request):
            yield block[:left]
            left -= len(block)
            if left <= 0:
                return


class _Counted:
    """A stream that reports how much went through."""

    def __init__(self, stream: IO[bytes], count: Callable[[int], None], *methods: str) -> None:
        self._stream, self._count, self._methods = stream, count, methods

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._stream, name)
        if name not in self._methods:
            return act

        def counted(*arguments: Any) -> Any:
            done = act(*arguments)
            self._count(len(arguments[0]) if name == "write" else len(done))
            return done

        return counted


def _handler(front: Front) -> type[Handler]:
    return type("FrontHandler", (Handler,), {"front": front})
