"""The provider passes the contract with the testbed's GitHub, whose answers are checked by GitHub's description."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import pytest

from edgetrain.core.ports import Outbound
from edgetrain.core.ports.forge import ReviewState
from edgetrain.providers.github.app import CALLS
from edgetrain.providers.github.provider import GithubForge
from testbed.github import GithubServer
from tests.providers.github.scripted import forge_at

from .forge import ForgeContract, Seen, World

PEOPLE = ("ada", "grace", "mary")
_names = itertools.count(1)


@dataclass
class Hub:
    """The server, and an App that is installed on all of the owner's repositories."""

    server: GithubServer
    app: int
    key: str

    def forge(self, repository: str) -> GithubForge:
        """The provider as the App."""
        block = {
            "repository": repository,
            "server": self.server.url,
            "app": {"id": str(self.app), "privateKey": {"secret": "app-key"}},
        }
        return self._at(block, {"app-key": self.key})

    def by_job(self, repository: str) -> GithubForge:
        """The provider as a workflow's job, by its token."""
        block = {"repository": repository, "server": self.server.url, "token": {"secret": "token"}}
        return self._at(block, {"token": self.server.job_token(repository, CALLS)})

    def _at(self, block: Mapping[str, Any], secrets: Mapping[str, str]) -> GithubForge:
        outbound = Outbound(ca_bundle=str(self.server.ca))
        return forge_at(self.server.api, block=block, secrets=secrets, outbound=outbound)


class GithubWorld(World):
    """A repository of its own on the server."""

    def __init__(self, hub: Hub, make: Callable[[Hub, str], GithubForge]) -> None:
        self.server = hub.server
        self.name = f"hosp/models-{next(_names)}"
        self.server.create_repository(self.name, files={"README.md": "# Models"})
        # Else a job's own token opens no pull requests.
        self.server.actions(self.name, can_approve_pull_request_reviews=True)
        for login in PEOPLE:
            self.server.grant(self.name, login, "write")
        self.forge = make(hub, self.name)
        self._changes = itertools.count()

    def push(self, branch: str) -> str:
        return self.server.commit(self.name, branch, {f"{branch}.txt": f"{next(self._changes)}"}, by="ada")

    def open(self, branch: str, by: str, title: str = "A change", *, fork: bool = False) -> int:
        if not fork:
            return self.server.open_pull(self.name, branch, by=by, title=title)
        forked = self.server.fork(self.name, by)
        self.server.commit(forked, branch, {"forked.txt": "1"}, by=by)
        return self.server.open_pull(self.name, f"{by}:{branch}", by=by, title=title)

    def open_changing(self, added: str, old: str, new: str) -> int:
        self.server.commit(self.name, "changing", {added: "new: 1", old: None, new: "# Models"}, by="ada")
        return self.server.open_pull(self.name, "changing", by="ada")

    def review(self, number: int, by: str, state: ReviewState = "approved") -> None:
        given = cast(Literal["approved", "changes_requested", "commented"], state)
        self.server.review(self.name, number, by=by, state=given, body="Looked at.")

    def merge(self, number: int, by: str) -> str:
        return self.server.merge(self.name, number, by=by)

    def shut(self, number: int, by: str) -> None:
        self.server.close_issue(self.name, number, by=by)

    def say(self, number: int, by: str, body: str) -> None:
        self.server.say(self.name, number, body, by=by)

    def report(self, title: str, by: str, body: str) -> int:
        return self.server.open_issue(self.name, title, body, by=by)

    def check(self, commit: str, name: str, conclusion: str) -> None:
        self.server.checks.add(self.name, commit, name, conclusion or None)

    def run(self, head: str, branch: str) -> int:
        return self.server.add_workflow_run(
            self.name, workflow="pull-request", event="pull_request", head=head, branch=branch, conclusion="success"
        )

    def upload(self, run: int, name: str, data: bytes) -> None:
        self.server.upload_artifact(self.name, run, name, data)

    def comments(self, number: int) -> list[str]:
        return [one["body"] for one in self.server.comments(self.name, number)]

    def issue(self, number: int) -> Seen:
        (found,) = (one for one in self.server.issues(self.name) if one["number"] == number)
        mark, end, text = str(found["body"]).partition("-->\n")
        ours = found["user"]["type"] == "Bot"
        labels = {one["name"] for one in found["labels"]}
        return Seen(found["state"] == "open", found["title"], text if ours else mark + end + text, labels)

    def proposal(self, number: int) -> tuple[str, set[str], set[str]]:
        found = self.server.pull(self.name, number)
        asked = {one["login"] for one in found["requested_reviewers"]}
        return found["body"], {one["name"] for one in found["labels"]}, asked


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with GithubServer() as server:
        app, key = server.app("edgetrain-app", repositories=None)
        yield Hub(server, app, key)


class TestGithubForge(ForgeContract):
    @pytest.fixture
    def world(self, hub: Hub) -> Iterator[GithubWorld]:
        hub.server.violations.clear()
        yield GithubWorld(hub, Hub.forge)
        assert hub.server.violations == []


class TestByAJobsToken(ForgeContract):
    @pytest.fixture
    def world(self, hub: Hub) -> Iterator[GithubWorld]:
        hub.server.violations.clear()
        yield GithubWorld(hub, Hub.by_job)
        assert hub.server.violations == []
