"""A credential made for each push or fetch: it reaches the server, and neither arguments nor errors."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgetrain.core.errors import RepositoryError, Transient
from edgetrain.repo import command
from edgetrain.repo.git import Git
from edgetrain.repo.ledger import Ledger, Machine

pytestmark = pytest.mark.needs("git>=2.34")

TOKEN = "dG9rZW46czNjcmV0"
FACT = {"experiments/mean/runs/a.json": b"{}\n"}


class Server(ThreadingHTTPServer):
    """Git over HTTP for one folder. `good` is the only header that is let in; `seen` are all that came."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.good = ""
        self.seen: list[list[str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Hands every request with the good header to git's own program."""

    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        given = self.headers.get_all("Authorization") or []
        self.server.seen.append(given)
        if given != [self.server.good]:
            self.send_error(401, f"not {given}")
            return
        path, _, query = self.path.partition("?")
        length = self.headers.get("Content-Length", "")
        body = self.rfile.read(int(length)) if length else self._chunks()
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "app",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(lines.pop("Status", "200").split()[0]))
        for name, value in {**lines, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def _chunks(self) -> bytes:
        """The body where git sends it in pieces."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        return found


@pytest.fixture
def server(remote: Path) -> Iterator[Server]:
    subprocess.run(["git", "config", "http.receivepack", "true"], cwd=remote, check=True)
    made = Server(remote.parent)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def checkout(make, remote, server):
    found = make("one", remote)
    found.sh("remote", "set-url", "origin", f"{server.url}/{remote.name}")
    return found


def ledger(git: Git) -> Ledger:
    return Ledger(git, "main", Machine("edgetrain", "edgetrain@example.org"), sleep=lambda seconds: None)


def test_each_push_and_fetch_has_a_credential_of_its_own(checkout, server, monkeypatch):
    arguments: list[str] = []
    popen = subprocess.Popen

    def watched(args, *more, **options):
        arguments.extend(args)
        return popen(args, *more, **options)

    monkeypatch.setattr(command.subprocess, "Popen", watched)
    made: list[str] = []

    def settings() -> dict[str, str]:
        made.append(f"basic {TOKEN}{len(made)}")
        server.good = made[-1]
        return {f"http.{server.url}/.extraheader": f"AUTHORIZATION: {made[-1]}"}

    # What a checkout left behind, long expired: it must not go along.
    checkout.sh("config", f"http.{server.url}/.extraheader", "AUTHORIZATION: basic b2xk")
    commit = ledger(Git(checkout.root, settings)).commit(FACT, "Record")
    assert len(made) == 2  # one fetch, one push
    assert server.seen
    assert all(len(given) == 1 and TOKEN in given[0] for given in server.seen)
    assert not any(TOKEN in argument for argument in arguments)
    bare = Git(server.folder / "hub.git")
    assert bare.ref("refs/heads/main") == commit
    assert TOKEN not in (checkout.root / ".git" / "config").read_text()


def test_a_refused_credential_is_in_no_message(checkout, server):
    server.good = "nobody's"
    settings = {f"http.{server.url}/.extraheader": f"AUTHORIZATION: basic {TOKEN}"}
    with pytest.raises(RepositoryError) as caught:
        ledger(Git(checkout.root, lambda: settings)).commit(FACT, "Record")
    assert server.seen[0] == [f"basic {TOKEN}"]
    assert caught.value.reason == "RemoteDenied"
    assert TOKEN not in str(caught.value)


def test_what_git_says_is_said_without_the_credential():
    done = command.Completed(128, b"out " + TOKEN.encode(), f"bad header AUTHORIZATION: basic {TOKEN}")
    told = command.hidden(done, [f"AUTHORIZATION: basic {TOKEN}"])
    assert (told.out, told.err) == (b"out ***", "bad header ***")


def test_a_credential_that_can_not_be_made_leaves_the_fact_undone(checkout, server):
    def settings() -> dict[str, str]:
        raise Transient("the forge does not answer")

    with pytest.raises(Transient):
        ledger(Git(checkout.root, settings)).commit(FACT, "Record")
    assert not server.seen
