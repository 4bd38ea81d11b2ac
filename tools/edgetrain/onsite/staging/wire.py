"""One keep-alive HTTP/1.1 connection.

The standard library connects (TLS, proxies); answers are read here, because parsing headers as e-mail costs more
than fetching a small blob. RFC 9112: Content-Length or chunked bodies; all sizes are bounded.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import struct
import urllib.parse
from collections.abc import Mapping

from .errors import Failure, Passing, bad_request

LINE = 2**16
HEADERS = 200
BUFFER = 2**16
CONNECT, READ = 15, 60
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |\r?\n)")


class Address:
    """Where requests go. `base` is the path of the URL; the environment's proxies are ignored, `proxy` is used."""

    def __init__(self, url: str, bundle: str = "", proxy: str = "") -> None:
        parts = _parse(url)
        self.secure, self.host, self.base = parts.scheme == "https", str(parts.hostname), parts.path.rstrip("/")
        self.port = parts.port or (443 if self.secure else 80)
        self.netloc = parts.netloc
        self.proxy = _parse(proxy) if proxy else None
        self.context: ssl.SSLContext | None = None
        if self.secure:
            try:
                self.context = ssl.create_default_context(cadata=bundle or None)
            except (ssl.SSLError, ValueError):
                fix = "give PEM certificates as the site's caBundle"
                raise Failure("Rejected", "BadCaBundle", "the CA bundle can't be read", fix) from None

    def open(self) -> socket.socket:
        """A connected socket. Raises Passing; Failure for an untrusted certificate."""
        host, port = (self.proxy.hostname, self.proxy.port or 80) if self.proxy else (self.host, self.port)
        kind = http.client.HTTPConnection
        connection = kind(str(host), port, timeout=CONNECT)
        if self.context:
            connection = http.client.HTTPSConnection(str(host), port, timeout=CONNECT, context=self.context)
        if self.proxy and self.secure:
            connection.set_tunnel(self.host, self.port)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            fix = "give the store's authority as the site's caBundle; check the VM's clock"
            message = f"the blob store's certificate is not trusted: {error.verify_message}"
            raise Failure("Rejected", "CertificateUntrusted", message, fix) from None
        except (OSError, http.client.HTTPException) as error:
            raise Passing(f"no connection ({type(error).__name__})") from None
        sock: socket.socket = connection.sock
        # The kernel's own time-out: Python's would cost a poll before each read and write.
        sock.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", READ, 0))
        return sock

    def target(self, path: str) -> str:
        """The request target of a path below the URL; whole for a proxy of plain HTTP (RFC 9112, 3.2.2)."""
        origin = f"http://{self.netloc}" if self.proxy and not self.secure else ""
        return f"{origin}{self.base}{path}"


class Wire:
    """Sends one request at a time; an answer that was not read to its end costs the connection."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.sock: socket.socket | None = None
        self.file: io.BufferedReader | None = None
        self.pending = False

    def get(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Send a GET; `path` is quoted and below the URL. Raises Passing, Failure."""
        if self.pending:
            self.close()
        if self.sock is None:
            self.sock = self.address.open()
            self.file = io.BufferedReader(self.sock.makefile("rb", 0), BUFFER)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"GET {self.address.target(path)} HTTP/1.1\r\nHost: {self.address.netloc}\r\n{lines}\r\n"
        self.pending = True
        try:
            self.sock.sendall(head.encode("latin-1"))
            return Answer(self)
        except (OSError, ValueError) as error:
            self.close()
            raise Passing(f"no answer ({type(error).__name__})") from None

    def close(self) -> None:
        """Drop the connection; safe to call twice."""
        self.pending = False
        if self.file is not None:
            self.file.close()
        if self.sock is not None:
            self.sock.close()
        self.sock = self.file = None

    def abort(self) -> None:
        """From another thread: whoever waits on this connection fails at once."""
        sock = self.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it was closed already


class Answer:
    """Status, headers (names in lower case) and body of one answer."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        file = wire.file
        if file is None:
            raise ValueError("not connected")
        self.file = file
        found = STATUS.match(file.readline(LINE))
        if not found:
            raise ValueError("not HTTP")
        self.status = int(found[1])
        self.headers: dict[str, str] = {}
        for _ in range(HEADERS):
            line = file.readline(LINE)
            if line in (b"\r\n", b"\n"):
                break
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError("bad header")
            self.headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        else:
            raise ValueError("too many headers")
        self.keep = self.headers.get("connection", "").lower() != "close"
        self.chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        length = self.headers.get("content-length", "")
        if not self.chunked and not (length.isascii() and length.isdigit()):
            raise ValueError("no length")
        self.left = 0 if self.chunked else int(length)
        self.ended = False
        if not self.chunked:
            self._end_if_read()

    @property
    def length(self) -> int | None:
        """Bytes of the body that are still to come, or None if the server did not say."""
        return None if self.chunked else self.left

    def readinto(self, buffer: memoryview) -> int:
        """Read into the buffer, at most its size; 0 at the end. Raises Passing if the connection breaks."""
        try:
            if self.chunked and not self.left and not self.ended:
                self._next_chunk()
            if self.ended:
                return 0
            count = self.file.readinto(buffer[: self.left])
            if not count:
                raise ValueError("cut short")
            self.left -= count
            self._end_if_read()
            return count
        except (OSError, ValueError) as error:
            self.wire.close()
            raise Passing(f"the answer broke off ({type(error).__name__})") from None

    def read(self, limit: int) -> bytes:
        """The body's first bytes; what is beyond `limit` is dropped with the connection."""
        buffer, taken = memoryview(bytearray(limit)), 0
        while taken < limit:
            count = self.readinto(buffer[taken:])
            if not count:
                break
            taken += count
        return bytes(buffer[:taken])

    def _next_chunk(self) -> None:
        line = self.file.readline(LINE)
        self.left = int(line.split(b";")[0].strip() or b"-", 16)
        if self.left < 0:
            raise ValueError("bad chunk")
        if self.left == 0:
            for _ in range(HEADERS):
                if self.file.readline(LINE) in (b"\r\n", b"\n"):
                    self._end()
                    return
            raise ValueError("bad trailer")

    def _end_if_read(self) -> None:
        if self.left == 0:
            if self.chunked:
                self.file.readline(LINE)
            else:
                self._end()

    def _end(self) -> None:
        self.ended, self.wire.pending = True, False
        if not self.keep:
            self.wire.close()


def _parse(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise bad_request("an address is not a URL") from None
    plain = parts.scheme in ("http", "https") and parts.hostname and port != 0 and "@" not in parts.netloc
    if not plain or not url.isascii() or not url.isprintable() or " " in url or parts.query or parts.fragment:
        raise bad_request("an address is not a plain http or https URL")
    return parts
