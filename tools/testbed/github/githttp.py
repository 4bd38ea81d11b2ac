"""Git over HTTP: `git http-backend` behind GitHub's sign-in, its refusals and what a push sets in motion."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import tempfile
import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from testbed.github import protection, pulls
from testbed.github.access import Actor, BadCredentials, identify, may, visible
from testbed.github.bare import environment
from testbed.github.receive import Command, commands, report
from testbed.github.rest import credential
from testbed.github.store import Record, Store

PATH = re.compile(r"/([^/]+)/([^/]+?)(?:\.git)?/(info/refs|git-upload-pack|git-receive-pack)")
CHALLENGE = {"www-authenticate": 'Basic realm="GitHub"'}
PIECE = 64 * 1024
BAD_SIGN_IN = "Invalid username or token. Password authentication is not supported for Git operations."


class Backend:
    """Answers what git asks."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def __call__(self, request: Request) -> tuple[Actor, Response]:
        """Who asked, and the answer."""
        found = PATH.fullmatch(request.url.path)
        if found is None:
            return Actor(), PlainTextResponse("Not Found", 404)
        service = found[3] if found[3] != "info/refs" else request.query_params.get("service", "")
        if service not in ("git-upload-pack", "git-receive-pack"):
            return Actor(), PlainTextResponse("Please upgrade your git client.", 403)
        writes = service == "git-receive-pack"
        actor, answer = await run_in_threadpool(self._admitted, request, f"{found[1]}/{found[2]}", writes)
        if isinstance(answer, Response):
            return actor, answer
        body = await _body(request)
        if found[3] == "git-receive-pack":
            return actor, await self._receive(request, answer, actor, body)
        return actor, await self._run(request, answer, actor, found[3], body, {})

    def _admitted(self, request: Request, name: str, writes: bool) -> tuple[Actor, Record | Response]:
        """Who asks and the repository, or what to answer instead."""
        with self.store.lock:
            try:
                actor = identify(self.store, credential(request.headers.get("authorization", "")))
            except BadCredentials:
                return Actor(), PlainTextResponse(BAD_SIGN_IN, 401, CHALLENGE)
            try:
                repository = self.store.repository(name)
            except LookupError:
                repository = None
            readable = repository is not None and visible(self.store, actor, repository)
            if actor.kind in ("anonymous", "app") and (writes or not readable):
                return actor, PlainTextResponse(BAD_SIGN_IN, 401, CHALLENGE)
            if repository is None or not readable:
                return actor, PlainTextResponse("Repository not found.", 404)
            if writes and not may(self.store, actor, repository, "contents", "write", "write"):
                told = f"Permission to {repository['full_name']}.git denied to {actor.login}."
                told = "Write access to repository not granted." if actor.machine else told
                return actor, PlainTextResponse(told, 403)
            if not may(self.store, actor, repository, "contents", "read", "read"):
                return actor, PlainTextResponse("Write access to repository not granted.", 403)
            return actor, repository

    async def _receive(self, request: Request, repository: Record, actor: Actor, body: bytes) -> Response:
        """A push: decided by the hook, then carried on to pull requests and events."""
        try:
            asked = commands(body)
        except ValueError as error:
            return PlainTextResponse(str(error), 400)
        with tempfile.TemporaryDirectory() as folder:
            refusals = Path(folder) / "refusals"
            refusals.touch()
            rules = {
                "refs": protection.push_rules(self.store, repository, actor, self.store.web),
                "workflows": protection.workflow_refusal(actor),
                "refusals": str(refusals),
            }
            env = {"EDGETRAIN_STANDIN_RULES": json.dumps(rules)}
            answer = await self._run(request, repository, actor, "git-receive-pack", body, env)
            said = b"".join([piece async for piece in answer.body_iterator if isinstance(piece, bytes)])
            lines = refusals.read_text(encoding="utf-8").splitlines()
        reasons = dict(line.split("\t", 1) for line in lines)
        said, moved = report(said, reasons)
        done = [one for one in asked if one.ref in moved]
        if done:
            await run_in_threadpool(self._moved, repository, actor, done)
        headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
        return Response(said, answer.status_code, headers)

    def _moved(self, repository: Record, actor: Actor, done: list[Command]) -> None:
        with self.store.changing():
            for one in done:
                pulls.moved(self.store, repository, actor, one.ref, one.old, one.new, wakes=actor.kind != "job")

    async def _run(
        self, request: Request, repository: Record, actor: Actor, rest: str, body: bytes, env: Mapping[str, str]
    ) -> StreamingResponse:
        """git http-backend's answer to the request."""
        headers = request.headers
        cgi = {
            "GIT_PROJECT_ROOT": str(self.store.bares),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{repository['full_name'].lower()}.git/{rest}",
            "REMOTE_USER": actor.login or "anonymous",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
            **env,
        }
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env=environment(cgi),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None and process.stdout is not None
        feeding = asyncio.create_task(_feed(process.stdin, body))
        status, answered = 200, {"cache-control": "no-cache"}
        while line := (await process.stdout.readline()).decode("latin-1").rstrip("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "status":
                status = int(value.split()[0])
            else:
                answered[name.lower()] = value.strip()
        return StreamingResponse(_pieces(process, process.stdout, feeding), status, answered)


async def _body(request: Request) -> bytes:
    body = await request.body()
    if request.headers.get("content-encoding") in ("gzip", "x-gzip"):
        try:
            return gzip.decompress(body)
        except (OSError, EOFError, zlib.error):
            return b""
    return body


async def _feed(stdin: asyncio.StreamWriter, body: bytes) -> None:
    try:
        for at in range(0, len(body), PIECE):
            stdin.write(body[at : at + PIECE])
            await stdin.drain()
        stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        # git has read enough: it answers with what it found wrong.
        return


async def _pieces(
    process: asyncio.subprocess.Process, stdout: asyncio.StreamReader, feeding: asyncio.Task[None]
) -> AsyncIterator[bytes]:
    try:
        while piece := await stdout.read(PIECE):
            yield piece
        await feeding
        await process.wait()
    finally:
        feeding.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
