"""A stand-in for each test, with a repository and two people; what it said must be as GitHub describes it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from testbed.github import GithubServer

REPOSITORY = "hosp/models"
Client = Callable[..., httpx.Client]


@pytest.fixture
def server() -> Iterator[GithubServer]:
    """With `hosp/models` (private), where ada and grace may write. None may break the description."""
    with GithubServer() as running:
        running.create_repository(REPOSITORY, files={"README.md": "# Models\n"})
        running.user("ada", {REPOSITORY: "write"})
        running.user("grace", {REPOSITORY: "write"})
        yield running
        assert running.violations == []


@pytest.fixture
def client(server: GithubServer) -> Iterator[Client]:
    """`client(login or token)`: an HTTP client that signs in so; without, one that does not."""
    opened: list[httpx.Client] = []

    def make(who: str = "", **more: Any) -> httpx.Client:
        token = who if who.startswith("gh") or who.count(".") == 2 or not who else server.user(who)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        context = ssl.create_default_context(cafile=str(server.ca))
        found = httpx.Client(base_url=server.api, headers=headers, verify=context, timeout=60, **more)
        opened.append(found)
        return found

    yield make
    for one in opened:
        one.close()
