"""The REST API: finds the call, says who asks, and answers as GitHub does, errors, pages and limits included."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from testbed.github.access import ANONYMOUS, Actor, BadCredentials, find_app, identify, may, visible
from testbed.github.bare import Bare
from testbed.github.faults import Faults, Rates, exceeded
from testbed.github.openapi import Description
from testbed.github.pulls import Invalid, NotMergeable
from testbed.github.store import Record, Store

REPO = "/repos/{owner}/{repo}"
VERSIONS = ("2022-11-28", "2026-03-10")
MOST_PER_PAGE = 100
NO_AGENT = (
    b"Request forbidden by administrative rules. Please make sure your request has a User-Agent header "
    b"(https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required). "
    b"Check https://developer.github.com for other possible causes.\n"
)


class Refused(Exception):
    """The request is answered with this status and message."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.more = status, message, more


@dataclass(frozen=True)
class Answer:
    """What goes back. `body` is JSON, or bytes, or None for none."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One call, as its handler sees it."""

    store: Store
    actor: Actor
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    rates: Rates
    url: str
    _repository: Record | None = None

    @property
    def repository(self) -> Record:
        """The repository that the path names; the actor may see it."""
        if self._repository is None:
            raise Refused(404, "Not Found")
        return self._repository

    @property
    def bare(self) -> Bare:
        """Its git repository."""
        return self.store.bare(self.repository)

    @property
    def wakes(self) -> bool:
        """Whether what is done here wakes workflows: not what a job's own token does."""
        return self.actor.kind != "job"

    def may(self, permission: str, level: str, rank: str) -> bool:
        """Whether the actor has this right in the repository."""
        return may(self.store, self.actor, self.repository, permission, level, rank)

    def issue(self, name: str = "issue_number", *, pull: bool = False) -> Record:
        """The issue, or the pull request, that the path names. Raises Refused."""
        found: Record | None = self.repository["issues"].get(self.path[name])
        if found is None or (pull and not found["pull"]):
            raise Refused(404, "Not Found")
        return found

    def page(self, items: Sequence[Any], shape: Callable[[Any], Any], key: str | None = None) -> Answer:
        """One page of the items, with `Link`; `key`: in an object that counts them."""
        size = min(max(_number(self.query.get("per_page"), 30), 1), MOST_PER_PAGE)
        page = max(_number(self.query.get("page"), 1), 1)
        last = max(1, -(-len(items) // size))
        shown = [shape(one) for one in items[(page - 1) * size : page * size]]
        links = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        if page <= 1:
            del links["prev"], links["first"]
        if page >= last:
            del links["next"], links["last"]
        query = {name: value for name, value in self.query.items() if name != "page"}
        link = ", ".join(
            f'<{self.url}?{urlencode({**query, "page": number})}>; rel="{name}"' for name, number in links.items()
        )
        body: Any = shown if key is None else {"total_count": len(items), key: shown}
        return Answer(200, body, {"Link": link} if link else {})


def _number(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text) else default


Handler = Callable[[Call], Answer]


@dataclass(frozen=True)
class Route:
    """One call's handler and what it asks for."""

    method: str
    pattern: re.Pattern[str]
    template: str
    handler: Handler
    permission: str
    level: str
    role: str
    app: bool


ROUTES: list[Route] = []


def route(
    method: str, template: str, permission: str = "", *, role: str = "", app: bool = False
) -> Callable[[Handler], Handler]:
    """Register a handler. `permission` is `name:level`; `role` what a person needs instead (by default `read` to
    read and `write` to write); `app`: it takes the App's own assertion."""

    def register(handler: Handler) -> Handler:
        name, _, level = permission.partition(":")
        # Only a branch's name and a ref may have slashes in them.
        parts = [
            (f"(?P<{part[1:-1]}>.+)" if part in ("{branch}", "{ref}") else f"(?P<{part[1:-1]}>[^/]+)")
            if part.startswith("{")
            else re.escape(part)
            for part in re.split(r"(\{\w+\})", template)
        ]
        rank = role or ("read" if level == "read" else "write")
        pattern = re.compile("".join(parts))
        ROUTES.append(Route(method, pattern, template, handler, name, level, rank, app))
        return handler

    return register


def credential(header: str) -> str:
    """The token in an `Authorization` header; of basic ones it is the password. Raises BadCredentials."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() in ("bearer", "token"):
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            raise BadCredentials("Bad credentials") from None
    if header:
        raise BadCredentials("Bad credentials")
    return ""


@dataclass
class Asked:
    """A request as it came: the path is below the API's root."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    actor: Actor = ANONYMOUS


class Rest:
    """Answers requests one at a time, on the store."""

    def __init__(self, store: Store, faults: Faults, rates: Rates, description: Description) -> None:
        self.store, self.faults, self.rates, self.description = store, faults, rates, description

    def answer(self, asked: Asked) -> Answer:
        """The answer, with GitHub's headers. `asked.actor` is set on the way."""
        with self.store.lock:
            if "user-agent" not in asked.headers:
                return Answer(403, NO_AGENT, {"content-type": "text/plain; charset=utf-8"})
            try:
                asked.actor = identify(self.store, credential(asked.headers.get("authorization", "")))
            except BadCredentials as bad:
                answer = self._error(asked, 401, str(bad))
                return self._finished(asked, answer, self.rates.spend("bad credentials", 0)[1])
            who = asked.actor.login or "anonymous"
            allowed, figures = self.rates.spend(who, 0 if asked.path == "/rate_limit" else 1)
            if not allowed:
                return self._finished(asked, Answer(403, exceeded(who)), figures)
            return self._finished(asked, self._served(asked), figures)

    def _served(self, asked: Asked) -> Answer:
        try:
            version = asked.headers.get("x-github-api-version", VERSIONS[0])
            if version not in VERSIONS:
                raise Refused(400, f'"{version}" is not a supported version.')
            found, path = self._found(asked)
            call = self._call(asked, found, path)
            if asked.method == "GET":
                return found.handler(call)
            with self.store.changing():
                return found.handler(call)
        except Refused as refused:
            return self._error(asked, refused.status, refused.message, **refused.more)
        except Invalid as invalid:
            more = {"errors": invalid.errors} if invalid.errors else {}
            return self._error(asked, 422, invalid.message, **more)
        except NotMergeable as hindered:
            return self._error(asked, hindered.status, str(hindered))

    def _found(self, asked: Asked) -> tuple[Route, Mapping[str, str]]:
        found = [
            (one, match.groupdict())
            for one in ROUTES
            if one.method == asked.method and (match := one.pattern.fullmatch(asked.path))
        ]
        if not found:
            raise Refused(404, "Not Found")
        return min(found, key=lambda one: one[0].template.count("{"))

    def _call(self, asked: Asked, found: Route, path: Mapping[str, str]) -> Call:
        if found.app != (asked.actor.kind == "app"):
            told = (
                "A JSON web token could not be decoded" if found.app else "Integration must generate a public key"
            )
            raise Refused(
                401 if found.app else 403, told if found.app else "Resource not accessible by integration"
            )
        repository = None
        if "repo" in path:
            name = f"{path['owner']}/{path['repo']}"
            try:
                repository = self.store.repository(name)
            except LookupError:
                raise Refused(404, "Not Found") from None
            if not found.app and not visible(self.store, asked.actor, repository):
                raise Refused(404, "Not Found")
            if found.permission and not may(
                self.store, asked.actor, repository, found.permission, found.level, found.role
            ):
                raise _forbidden(asked.actor)
        problems = self.description.request(asked.method, asked.path, "", asked.body)
        if "Problems parsing JSON" in problems:
            raise Refused(400, "Problems parsing JSON")
        wrong = [one for one in problems if not one.startswith("unknown key")]
        if wrong:
            raise Refused(422, "Invalid request.\n\n" + "\n".join(wrong))
        query = dict(parse_qsl(asked.query, keep_blank_values=True))
        body = json.loads(asked.body) if asked.body else {}
        url = f"{self.store.api}{asked.path}"
        return Call(self.store, asked.actor, path, query, body, self.rates, url, repository)

    def _error(self, asked: Asked, status: int, message: str, **more: Any) -> Answer:
        found = self.description.find(asked.method, asked.path)
        url = found[1]["externalDocs"]["url"] if found else "https://docs.github.com/rest"
        return Answer(status, {"message": message, **more, "documentation_url": url, "status": str(status)})

    def _finished(self, asked: Asked, answer: Answer, figures: Mapping[str, int]) -> Answer:
        headers = {
            "x-github-media-type": "github.v3; format=json",
            "x-github-request-id": secrets.token_hex(8).upper(),
            **{f"x-ratelimit-{name}": str(value) for name, value in figures.items()},
            "x-ratelimit-resource": "core",
            **answer.headers,
        }
        if answer.body is None:
            return Answer(answer.status, None, headers)
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        headers.setdefault("content-type", "application/json; charset=utf-8")
        if asked.method == "GET" and answer.status == 200:
            # What one may see differs by who asks, so the tag does too.
            mixed = hashlib.sha256(content + asked.actor.token.encode()).hexdigest()
            headers |= {"etag": f'W/"{mixed}"', "cache-control": "private, max-age=60, s-maxage=60"}
            if _same(asked.headers.get("if-none-match", ""), headers["etag"]):
                del headers["content-type"]
                # What has not changed costs nothing.
                headers["x-ratelimit-remaining"] = str(self.rates.refund(asked.actor.login or "anonymous"))
                return Answer(304, None, headers)
        return Answer(answer.status, content, headers)


def _same(sent: str, tag: str) -> bool:
    return any(one.strip().removeprefix("W/") == tag.removeprefix("W/") for one in sent.split(","))


def _forbidden(actor: Actor) -> Refused:
    if actor.kind == "anonymous":
        return Refused(401, "Requires authentication")
    if actor.machine:
        return Refused(403, "Resource not accessible by integration")
    if actor.permissions is not None:
        return Refused(403, "Resource not accessible by personal access token")
    return Refused(403, "Must have admin rights to Repository.")


def app_record(call: Call) -> Record:
    """The App that signed the request. Raises Refused."""
    record = find_app(call.store, str(call.actor.app))
    if record is None:
        raise Refused(404, "Integration not found")
    return record
