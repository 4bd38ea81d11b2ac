"""The stand-in's Python API: `GithubServer`, with what people and GitHub itself do on github.com."""

from __future__ import annotations

from pathlib import Path

from testbed.ca import Authority
from testbed.github.app import API, App
from testbed.github.faults import Faults, Rates, Request
from testbed.github.jobs import Checks, Jobs
from testbed.github.listener import Listener
from testbed.github.openapi import Description, Violation, committed
from testbed.github.people import People
from testbed.github.settings import Settings
from testbed.github.store import Event, Store
from testbed.github.work import Work
from testbed.part import Part, remove

__all__ = ["Event", "GithubServer"]


class GithubServer(People, Work, Jobs, Settings, Part):
    """GitHub for one test: a context manager. `folder` keeps its data; without it they go with the server.

    Every method takes a repository as `owner/name` and people as logins; an account comes into being when it is
    named first. `start` after `stop` goes on with the same data, addresses and tokens.

    `violations`: what GitHub's description of its API does not allow, in requests and in answers, since the start.
    `requests`: what was answered. `faults`, `rates`: see there. `checks`: results of checks.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            super().__init__("github")
        else:
            self.folder = folder
            folder.mkdir(parents=True, exist_ok=True)
        self._own = folder is None
        self._authority = Authority(self.folder / "ca", "github stand-in")
        self._certificate = self._authority.issue("localhost", "127.0.0.1")
        self.ca: Path = self._authority.bundle
        self.store = Store(self.folder)
        self._app = App(self.store, Description(committed()))
        self._ports = (0, 0)
        self._listener: Listener | None = None
        self.checks = Checks(self.store)

    # Running

    def start(self) -> None:
        """Listen; at once usable."""
        if self._listener is not None:
            return
        with self.store.lock:
            self._listener = Listener(self._app, self._certificate, self._ports)
            self._ports = self._listener.ports[0], self._listener.ports[1]
            self.store.web = f"https://localhost:{self._ports[0]}"
            self.store.api = self.store.web + API
            self.store.blobs = f"https://127.0.0.1:{self._ports[1]}"
            self._app.blobs_port = self._ports[1]

    def stop(self) -> None:
        """Listen no more; what was stored stays."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    def close(self) -> None:
        """Stop; without a folder of one's own the data go."""
        try:
            self.stop()
        finally:
            if self._own:
                remove(self.folder)

    @property
    def url(self) -> str:
        """The address of pages and of git: `https://localhost:PORT`."""
        return self.store.web

    @property
    def api(self) -> str:
        """The address of the REST API, as on GitHub Enterprise Server: `https://localhost:PORT/api/v3`."""
        return self.store.api

    @property
    def faults(self) -> Faults:
        """Faults to come; `match` is sought in `METHOD /api/v3/PATH?QUERY`, or `METHOD /owner/name.git/...`."""
        return self._app.faults

    @property
    def rates(self) -> Rates:
        """The limits of requests."""
        return self._app.rates

    @property
    def requests(self) -> list[Request]:
        """What was answered since the start; may be cleared."""
        return self._app.requests

    @property
    def violations(self) -> list[Violation]:
        """What broke GitHub's description of its API; may be cleared."""
        return self._app.violations

    def events(self, since: int = 0) -> list[Event]:
        """What happened after the event of this number: `push`, `pull_request`, `pull_request_review`, `issues`,
        `issue_comment`, `workflow_run`; in order."""
        with self.store.lock:
            return self.store.events[since:]

    def wait_for_event(self, since: int, timeout: float) -> bool:
        """Whether there is an event after this number, at latest after so many seconds."""
        with self.store.news:
            return self.store.news.wait_for(lambda: len(self.store.events) > since, timeout)
