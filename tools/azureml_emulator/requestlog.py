"""The log of requests, one JSON line each, with nothing in it that opens anything."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

NAME = "requests.jsonl"
KEPT = 5000
MAX_FILE = 64 * 2**20
MAX_BODY = 64 * 2**10
REDACTED = "REDACTED"
_SECRET_KEYS = {
    "access_token",
    "accesstoken",
    "accountkey",
    "administratoraccount",
    "assertion",
    "client_assertion",
    "client_secret",
    "clientsecret",
    "credential",
    "identity_token",
    "id_token",
    "passphrase",
    "password",
    "passwords",
    "privatekeydata",
    "refresh_token",
    "sastoken",
    "secret",
    "secretkey",
    "sig",
    "token",
    "useraccountkey",
}
_SIGNATURE = re.compile(r"(?i)\b(sig(?:nature)?=)[^&\s\"'<>]+")
_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)
_HEADERS = (
    "accept",
    "azure-asyncoperation",
    "content-type",
    "content-length",
    "if-match",
    "if-none-match",
    "location",
    "range",
    "retry-after",
    "user-agent",
    "x-ms-blob-type",
    "x-ms-range",
    "x-ms-version",
)


def redacted(value: Any) -> Any:
    """The same JSON without secrets: by key, and by what a text looks like."""
    if isinstance(value, dict):
        return {
            key: _veiled(item) if str(key).lower() in _SECRET_KEYS else redacted(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return text_redacted(value) if isinstance(value, str) else value


def _veiled(value: Any) -> Any:
    """A secret in its own shape, so that the log still shows what was there and of what kind."""
    if isinstance(value, dict):
        return {key: _veiled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_veiled(item) for item in value]
    return value if value is None or value == "" or isinstance(value, bool) else REDACTED


def text_redacted(text: str) -> str:
    """The text without signatures, tokens and private keys."""
    return _KEY.sub(REDACTED, _TOKEN.sub(REDACTED, _SIGNATURE.sub(rf"\1{REDACTED}", text)))


def body_shown(data: bytes, content_type: str) -> Any:
    """A body as the log has it: JSON and forms without secrets, anything else by its length."""
    if not data:
        return None
    if len(data) <= MAX_BODY:
        if "json" in content_type:
            try:
                return redacted(json.loads(data))
            except ValueError:
                return f"{len(data)} bytes that are not JSON"
        if "x-www-form-urlencoded" in content_type:
            return redacted(dict(parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True)))
    return f"{len(data)} bytes"


def headers_shown(headers: Any) -> dict[str, str]:
    """The headers that the log has."""
    return {name: text_redacted(headers[name]) for name in _HEADERS if name in headers}


class RequestLog:
    """The file `requests.jsonl` in the data folder, the last requests, and what a test must not see."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._lock = threading.Lock()
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._unknown: list[str] = []
        self._failures: list[str] = []
        self._refused: list[str] = []

    def add(self, entry: dict[str, Any]) -> None:
        """One more line; the file begins anew when it has grown large, and the one before is kept."""
        line = json.dumps(entry, separators=(",", ":"), default=str) + "\n"
        with self._lock:
            self._last.append(entry)
            if self.path.is_file() and self.path.stat().st_size > MAX_FILE:
                self.path.replace(self.path.with_suffix(".jsonl.1"))
            with self.path.open("a", encoding="utf-8") as out:
                out.write(line)

    def unknown(self, line: str) -> None:
        """A route was asked for that the emulator does not have."""
        with self._lock:
            self._unknown.append(line)

    def failed(self, text: str) -> None:
        """The emulator itself failed."""
        with self._lock:
            self._failures.append(text)

    def refused(self, host: str) -> None:
        """The proxy was asked for a host that is none of the service's."""
        with self._lock:
            self._refused.append(host)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The last requests, oldest first."""
        with self._lock:
            return list(self._last)

    @property
    def unknown_routes(self) -> list[str]:
        """`METHOD /path` of each request without a route."""
        with self._lock:
            return list(self._unknown)

    @property
    def failures(self) -> list[str]:
        """Tracebacks of the emulator's own faults."""
        with self._lock:
            return list(self._failures)

    @property
    def refused_hosts(self) -> list[str]:
        """Hosts that the proxy turned away."""
        with self._lock:
            return list(self._refused)

    def clear(self) -> None:
        """Forget what is in memory; the file stays."""
        with self._lock:
            for kept in (self._last, self._unknown, self._failures, self._refused):
                kept.clear()
