"""A server that speaks List Blobs and Get Blob over real HTTP, and that a test can let misbehave.

For what Azurite can't be made to do: answers that change in the middle, a million names, broken connections.
"""

from __future__ import annotations

import hashlib
import re
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

PAGE = 5000
SAS = "sv=2019-07-07&sp=rl&sr=c&se=2099-01-01T00%3A00%3A00Z&sig=c2VjcmV0LWNhbmFyeQ%3D%3D"
CANARY = "c2VjcmV0LWNhbmFyeQ"
Names = Callable[[str, int, int], tuple[list[tuple[str, int, str]], bool]]


class Refuse(Exception):
    """A hook's answer instead of the server's: a status, an error code; status 0 drops the connection."""

    def __init__(self, status: int, code: str = "", **headers: str) -> None:
        super().__init__(status)
        self.status, self.code, self.headers = status, code, headers


class BlobServer:
    """`blobs` are its content; `names(prefix, first, count)` lists instead if given. `hook(kind, name, count)` is
    called for each request, `kind` being `list` or `get`, and may raise Refuse, or change the blobs."""

    def __init__(self, blobs: Mapping[str, bytes] | None = None) -> None:
        self.blobs = dict(blobs or {})
        self.names: Names | None = None
        self.hook: Callable[[str, str, int], None] = lambda kind, name, count: None
        self.served: Counter[str] = Counter()
        self.sent = 0
        self.lines: list[str] = []
        self.lock = threading.Lock()
        self.versions: set[str] = set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self.server.daemon_threads = True

    def source(self, path: str = "", **access: str) -> dict[str, Any]:
        """What a request says of it."""
        location = f"http://127.0.0.1:{self.server.server_address[1]}/account/data"
        return {"kind": "azure-blob", "location": location, "path": path, "access": {"sas": SAS, **access}}

    @contextmanager
    def running(self) -> Iterator[BlobServer]:
        """Serve meanwhile."""
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def page(self, prefix: str, first: int, count: int) -> tuple[list[tuple[str, int, str]], bool]:
        """Name, size and ETag of a page, and whether more come."""
        if self.names:
            return self.names(prefix, first, count)
        found = sorted((name for name in self.blobs if name.startswith(prefix)), key=str.encode)
        part = found[first : first + count]
        return [(name, len(self.blobs[name]), self.tag(name)) for name in part], first + count < len(found)

    def tag(self, name: str) -> str:
        """The ETag of a blob."""
        return "0x" + hashlib.md5(self.blobs[name]).hexdigest()[:15].upper()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16  # head and body in one packet, or the kernel waits 40 ms between them
    owner: BlobServer

    def do_GET(self) -> None:
        """Answer."""
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        name = urllib.parse.unquote(parts.path).removeprefix("/account/data").removeprefix("/")
        kind = "list" if query.get("comp") == "list" else "get"
        owner = self.owner
        with owner.lock:
            owner.served[kind] += 1
            owner.lines.append(self.path)
            owner.versions.add(self.headers["x-ms-version"])
        try:
            owner.hook(kind, name, owner.served[kind])
            if CANARY not in query.get("sig", ""):
                raise Refuse(403, "AuthenticationFailed")
            if kind == "list":
                self._list(query)
            else:
                self._get(name)
        except Refuse as refuse:
            if refuse.status:
                self._send(refuse.status, b"<Error/>", {"x-ms-error-code": refuse.code, **refuse.headers})
            else:
                self.close_connection = True
                self.connection.close()

    def _list(self, query: Mapping[str, str]) -> None:
        first = int(query.get("marker", "0"))
        count = int(query.get("maxresults", PAGE))
        found, more = self.owner.page(query.get("prefix", ""), first, count)
        blobs = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>Mon, 23 Nov 2026 10:00:00 GMT"
            f"</Last-Modified><Etag>{tag}</Etag><Content-Length>{size}</Content-Length><BlobType>BlockBlob"
            "</BlobType></Properties><Metadata/></Blob>"
            for name, size, tag in found
        )
        marker = f"<NextMarker>{first + count}</NextMarker>" if more else "<NextMarker/>"
        text = f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>{blobs}</Blobs>{marker}'
        self._send(200, f"{text}</EnumerationResults>".encode(), {"Content-Type": "application/xml"})

    def _get(self, name: str) -> None:
        owner = self.owner
        if name not in owner.blobs:
            raise Refuse(404, "BlobNotFound")
        content, tag = owner.blobs[name], f'"{owner.tag(name)}"'
        if self.headers["If-Match"] not in (None, tag):
            raise Refuse(412, "ConditionNotMet")
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        if not found:
            return self._send(200, content, {"ETag": tag})
        start, stop = int(found[1]), int(found[2]) + 1
        span = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}", "ETag": tag}
        return self._send(206, content[start:stop], span)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"x-ms-version": "2019-07-07", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        with self.owner.lock:
            self.owner.sent += len(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
