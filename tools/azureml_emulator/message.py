"""What comes in, what goes out, and the refusals that the service words in its several ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

MAX_JSON = 32 * 2**20


@dataclass(frozen=True)
class Principal:
    """Who asks. `role` is `contributor`, `reader`, or `run` (then `run` names the one run it may write to)."""

    name: str
    role: str
    run: str = ""


@dataclass(frozen=True)
class Request:
    """One request. Header names are in lower case; `path` is decoded, without doubled slashes; `query` keys keep
    their case, and of several equal ones the last counts: `query_string` has all as they came."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    principal: Principal | None = None
    id: str = ""
    query_string: str = ""

    def json(self) -> Any:
        """The body as JSON; an empty one is an empty object. Raises Refused."""
        if not self.body:
            return {}
        try:
            return json.loads(self.body[:MAX_JSON])
        except ValueError:
            raise Refused(400, "UserError", "the body is not JSON") from None

    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(frozen=True)
class FilePart:
    """A part of a file as a body; `length` in bytes."""

    path: Path
    start: int
    length: int


@dataclass(frozen=True)
class Answer:
    """`body` is JSON (a dict or a list), bytes, a `FilePart`, or None for an empty one."""

    status: int = 200
    body: dict[str, Any] | list[Any] | bytes | FilePart | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The service says no. The route's `shape` words it (see `errors.py`); `headers` go with the answer."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers: Mapping[str, str] = headers or {}


def insensitive(value: Any) -> Any:
    """The same JSON with every key in lower case: the service ignores the case of most keys."""
    if isinstance(value, dict):
        return {str(key).lower(): insensitive(item) for key, item in value.items()}
    if isinstance(value, list):
        return [insensitive(item) for item in value]
    return value
