"""An HTTP proxy that records what goes over the wire, and breaks it where a test says so."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Request:
    """One request as it came: `path` without host and query; header names in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """What to do instead of forwarding: answer `status`; or, without one, cut the answer after `keep` bytes;
    with `lose` the request is carried out, and the connection closed without an answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    keep: int = 0
    lose: bool = False


class RecordingProxy:
    """Forwards plain HTTP, whatever the host to the address `to` if that is given.

    `meddle` sees each request first, in a thread of the proxy, and may answer a fault."""

    def __init__(self, meddle: Callable[[Request], Fault | None] = lambda _: None, to: str = "") -> None:
        self.requests: list[Request] = []
        self.meddle = meddle
        self.to = to
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                proxy._answer(self)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

            def log_message(self, format: str, *args: object) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        target = urllib.parse.urlsplit(handler.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", "0")))
        request = Request(handler.command, target.path, dict(urllib.parse.parse_qsl(target.query)), headers)
        self.requests.append(request)
        fault = self.meddle(request)
        if fault is not None and fault.status:
            handler.send_response_only(fault.status)
            for name, value in {"Content-Length": "0", **fault.headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            return
        there = http.client.HTTPConnection(self.to or target.netloc, timeout=30)
        try:
            sent = {name: value for name, value in handler.headers.items() if name.lower() != "proxy-connection"}
            there.request(handler.command, f"{target.path}?{target.query}".rstrip("?"), body or None, sent)
            answer = there.getresponse()
            data = answer.read()
        finally:
            there.close()
        if fault is not None and fault.lose:
            handler.close_connection = True
            return
        handler.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else str(len(data))
        handler.send_header("Content-Length", length or "0")
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data[: fault.keep] if fault else data)
        if fault:
            handler.wfile.flush()
            handler.close_connection = True
