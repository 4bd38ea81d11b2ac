"""The stand-in as an ASGI application: who answers, faults, what was asked, checks by GitHub's description."""

from __future__ import annotations

import hmac
import json
import threading
import time
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as Asking
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from testbed.github import routes_actions, routes_apps, routes_groups, routes_issues, routes_pulls, routes_settings
from testbed.github.access import ANONYMOUS, Actor
from testbed.github.faults import Fault, Faults, Rates, Request
from testbed.github.githttp import Backend
from testbed.github.openapi import Description, Violation
from testbed.github.rest import ROUTES, Answer, Asked, Rest
from testbed.github.store import Store

API = "/api/v3"
TOLD = ("accept", "if-none-match", "user-agent", "x-github-api-version", "git-protocol", "content-encoding")
MODULES = (routes_actions, routes_apps, routes_groups, routes_issues, routes_pulls, routes_settings)


class App:
    """Answers all hosts: `blobs_port` is the one of stored artifacts, every other that of pages, API and git."""

    def __init__(self, store: Store, description: Description) -> None:
        self.store, self.description = store, description
        self.faults, self.rates = Faults(), Rates()
        self.requests: list[Request] = []
        self.violations: list[Violation] = []
        self.blobs_port = 0
        self._rest = Rest(store, self.faults, self.rates, description)
        self._git = Backend(store)
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError("HTTP only")
        asking = Asking(scope, receive)
        path, query = asking.url.path, asking.url.query
        fault = self.faults.take(f"{asking.method} {path}{'?' if query else ''}{query}")
        # The body is read even where nothing is done with it: else the peer could not send it.
        if fault and not fault.after:
            body = await asking.body()
            await self._fail(asking, scope, receive, send, fault, ANONYMOUS, body)
            return
        if scope["server"][1] == self.blobs_port:
            actor, response, body = ANONYMOUS, await run_in_threadpool(self._blob, asking), b""
        elif path.startswith(f"{API}/") or path == API:
            body = await asking.body()
            actor, response = await run_in_threadpool(self._api, asking, body)
        else:
            actor, response = await self._git(asking)
            body = b""
        if fault:
            if isinstance(response, StreamingResponse):
                async for _ in response.body_iterator:
                    pass
            await self._fail(asking, scope, receive, send, fault, actor, body)
            return
        self._note(asking, response.status_code, actor, body)
        await response(scope, receive, send)

    async def _fail(
        self, asking: Asking, scope: Scope, receive: Receive, send: Send, fault: Fault, actor: Actor, body: bytes
    ) -> None:
        self._note(asking, 0 if fault.reset else fault.status, actor, body)
        if fault.reset:
            scope["state"]["transport"].abort()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        headers = {"content-type": "application/json; charset=utf-8", **fault.headers}
        await Response(fault.content(), fault.status, headers)(scope, receive, send)

    def _note(self, asking: Asking, status: int, actor: Actor, body: bytes) -> None:
        told = {name: asking.headers[name] for name in TOLD if name in asking.headers}
        told |= {"authorization": "***"} if "authorization" in asking.headers else {}
        request = Request(
            asking.method,
            asking.url.path.removeprefix(API),
            asking.url.query,
            status,
            actor.kind,
            actor.login,
            actor.permissions,
            told,
            _json(body),
        )
        with self._lock:
            self.requests.append(request)

    def _api(self, asking: Asking, body: bytes) -> tuple[Actor, Response]:
        asked = Asked(
            asking.method, asking.url.path.removeprefix(API), asking.url.query, dict(asking.headers), body
        )
        answer = self._rest.answer(asked)
        content = answer.body if isinstance(answer.body, bytes) else b""
        self._check(asked, answer, content)
        response = Response(content, answer.status, dict(answer.headers))
        return asked.actor, response

    def _check(self, asked: Asked, answer: Answer, content: bytes) -> None:
        call = f"{asked.method} {asked.path}"
        found = [
            Violation("request", call, answer.status, problem)
            for problem in self.description.request(asked.method, asked.path, asked.query, asked.body)
        ]
        if answer.headers.get("content-type", "").startswith("application/json") or not content:
            found += [
                Violation("answer", call, answer.status, problem)
                for problem in self.description.answer(asked.method, asked.path, answer.status, content)
            ]
        with self._lock:
            self.violations += found

    def _blob(self, asking: Asking) -> Response:
        """A stored artifact, as the blob store of GitHub serves it: for the signature alone."""
        if "authorization" in asking.headers:
            told = "<Error><Code>InvalidAuthenticationInfo</Code></Error>"
            return PlainTextResponse(told, 400, media_type="application/xml")
        number = Path(asking.url.path).stem
        query = asking.query_params
        expires = query.get("se", "")
        right = hmac.compare_digest(routes_actions.signature(self.store, number, expires), query.get("sig", ""))
        if asking.method != "GET" or not right or not expires.isdigit() or int(expires) < time.time():
            told = "<Error><Code>AuthenticationFailed</Code></Error>"
            return PlainTextResponse(told, 403, media_type="application/xml")
        data = Path(routes_actions.artifact_file(self.store, int(number))).read_bytes()
        return Response(data, 200, media_type="application/zip")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


def calls() -> set[tuple[str, str]]:
    """Method and path of every call that is served."""
    assert MODULES
    return {(one.method, one.template) for one in ROUTES}
