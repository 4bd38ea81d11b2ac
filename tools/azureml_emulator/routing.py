"""The one table of routes: method and path to handler, with whom it serves and how it words a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azureml_emulator.message import Answer, Request

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

Handler = Callable[..., Answer]

WORKSPACE = (
    r"/subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)"
    r"/providers/microsoft\.machinelearningservices/workspaces/(?P<workspace>[^/]+)"
)


@dataclass(frozen=True)
class Route:
    """`audience` is `arm`, `aml`, `acr`, `sas` (a signed address) or `anyone`; `shape` is that of `errors.py`.

    `writes` routes are refused to readers.
    """

    methods: frozenset[str]
    pattern: re.Pattern[str]
    handler: Handler
    audience: str
    shape: str
    writes: bool
    name: str


ROUTES: list[Route] = []


def route(
    methods: str,
    path: str,
    *,
    audience: str = "aml",
    shape: str = "history",
    writes: bool | None = None,
) -> Callable[[Handler], Handler]:
    """Put a handler into the table: `@route("GET", "/history/v1.0{WS}/experiments/{name}")`.

    `{WS}` is the workspace's resource path (any case): its parts are checked and not handed on. `{name}` is one
    segment, `{name*}` the rest of the path (may be empty). The handler gets `(emulator, request, **segments)`.
    More than one method: `"GET HEAD"`. Routes are tried in the order of the table. Unless said, every method but
    GET and HEAD writes.
    """

    def put(handler: Handler) -> Handler:
        wanted = frozenset(methods.split())
        changes = bool(wanted - {"GET", "HEAD"}) if writes is None else writes
        ROUTES.append(Route(wanted, compiled(path), handler, audience, shape, changes, handler.__name__))
        return handler

    return put


def compiled(path: str) -> re.Pattern[str]:
    """The template as a pattern: literal parts ignore case, as Resource Manager does."""
    found = ""
    for part in re.split(r"(\{[A-Za-z_]+\*?\})", path):
        if part == "{WS}":
            found += WORKSPACE
        elif part.endswith("*}"):
            found += f"(?P<{part[1:-2]}>.*)"
        elif part.startswith("{"):
            found += f"(?P<{part[1:-1]}>[^/]+)"
        else:
            found += re.escape(part)
    return re.compile(found, re.IGNORECASE)


def find(request: Request) -> tuple[Route, dict[str, str]] | None:
    """The first route that serves the request, and its segments."""
    for candidate in ROUTES:
        if request.method in candidate.methods:
            match = candidate.pattern.fullmatch(request.path)
            if match:
                return candidate, {key: value or "" for key, value in match.groupdict().items()}
    return None


def call(emulator: Emulator, found: Route, segments: dict[str, str], request: Request) -> Answer:
    """Serve it; the workspace's own parts were checked by the caller."""
    rest: dict[str, Any] = {k: v for k, v in segments.items() if k not in {"subscription", "group", "workspace"}}
    return found.handler(emulator, request, **rest)
