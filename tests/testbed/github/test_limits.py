"""Pages, tags, limits of requests, and faults that a test asks for."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from testbed.github import GithubServer
from tests.testbed.github.checkout import Checkout
from tests.testbed.github.conftest import REPOSITORY, Client

REPO = f"/repos/{REPOSITORY}"


def test_pages_are_linked(server: GithubServer, client: Client) -> None:
    number = server.open_issue(REPOSITORY, "Many", by="ada")
    for one in range(7):
        server.say(REPOSITORY, number, f"{one}", by="ada")
    ada, seen = client("ada"), []
    page = ada.get(f"{REPO}/issues/{number}/comments", params={"per_page": 3})
    assert set(page.links) == {"next", "last"}
    while True:
        seen += [one["body"] for one in page.json()]
        if "next" not in page.links:
            break
        page = ada.get(page.links["next"]["url"])
    assert seen == [f"{one}" for one in range(7)]
    assert set(page.links) == {"prev", "first"}
    assert ada.get(page.links["prev"]["url"]).json()[0]["body"] == "3"
    assert len(ada.get(f"{REPO}/issues/{number}/comments", params={"per_page": 1000}).json()) == 7
    assert ada.get(f"{REPO}/issues/{number}/comments", params={"page": 9}).json() == []
    # The client's own wish for more than a page can have is no violation of the description's.
    assert server.violations == []


def test_what_has_not_changed_costs_nothing(server: GithubServer, client: Client) -> None:
    ada = client("ada")
    first = ada.get(f"{REPO}/pulls")
    tag, left = first.headers["etag"], int(first.headers["x-ratelimit-remaining"])
    again = ada.get(f"{REPO}/pulls", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert int(again.headers["x-ratelimit-remaining"]) == left
    # Another's tag is another one: who asks decides what is seen.
    assert client("grace").get(f"{REPO}/pulls", headers={"if-none-match": tag}).status_code == 200
    server.commit(REPOSITORY, "change", {"a": "a"}, by="ada")
    server.open_pull(REPOSITORY, "change", by="ada")
    assert ada.get(f"{REPO}/pulls", headers={"if-none-match": tag}).status_code == 200


def test_the_limit_is_used_up_and_comes_back(server: GithubServer, client: Client) -> None:
    server.rates.limit = 3
    server.rates.window = 0.2
    ada = client("ada")
    for left in ("2", "1", "0"):
        assert ada.get(REPO).headers["x-ratelimit-remaining"] == left
    refused = ada.get(REPO)
    assert (refused.status_code, refused.headers["x-ratelimit-remaining"]) == (403, "0")
    assert refused.json()["message"] == "API rate limit exceeded for ada."
    assert int(refused.headers["x-ratelimit-reset"]) <= time.time() + 1
    assert ada.get("/rate_limit").json()["resources"]["core"]["remaining"] == 0
    # Others have limits of their own.
    assert client("grace").get(REPO).status_code == 200
    deadline = time.monotonic() + 30
    while ada.get(REPO).status_code == 403:
        assert time.monotonic() < deadline
    assert server.requests[-1].status == 200


def test_faults_are_met_in_their_order(server: GithubServer, client: Client) -> None:
    ada = client("ada")
    server.faults.add(r"GET .*/pulls", status=502, count=2, skip=1)
    server.faults.primary(r"/issues", status=429, seconds=5)
    server.faults.secondary(r"/issues", seconds=7)
    server.faults.secondary(r"/issues", status=429, seconds=None)
    assert [ada.get(f"{REPO}/pulls").status_code for _ in range(4)] == [200, 502, 502, 200]
    primary, secondary, vague = (ada.get(f"{REPO}/issues") for _ in range(3))
    assert (primary.status_code, primary.headers["x-ratelimit-remaining"]) == (429, "0")
    assert time.time() < int(primary.headers["x-ratelimit-reset"]) <= time.time() + 5
    assert (secondary.status_code, secondary.headers["retry-after"]) == (403, "7")
    assert "secondary rate limit" in secondary.json()["message"]
    assert (vague.status_code, "retry-after" in vague.headers) == (429, False)
    assert server.faults.coming == []
    with pytest.raises(ValueError, match="either a status or reset"):
        server.faults.add("x")


def test_an_answer_is_lost_before_or_after_the_deed(server: GithubServer, client: Client) -> None:
    ada, issues = client("ada"), f"{REPO}/issues"
    server.faults.add(r"POST .*/issues", reset=True)
    with pytest.raises(httpx.TransportError):
        ada.post(issues, json={"title": "lost"})
    assert server.issues(REPOSITORY) == []
    server.faults.add(r"POST .*/issues", reset=True, after=True)
    with pytest.raises(httpx.TransportError):
        ada.post(issues, json={"title": "done"})
    server.faults.add(r"POST .*/issues", status=504, after=True)
    assert ada.post(issues, json={"title": "done too"}).status_code == 504
    assert [one["title"] for one in server.issues(REPOSITORY)] == ["done", "done too"]
    assert [one.status for one in server.requests] == [0, 0, 504]


def test_git_meets_faults_too(server: GithubServer, tmp_path: Path) -> None:
    ada = Checkout(server, tmp_path / "ada", server.user("ada")).clone()
    commit = ada.commit("a")
    server.faults.add("POST .*git-receive-pack", status=503)
    assert "503" in ada.push("HEAD:refs/heads/change").stderr
    assert server.branch(REPOSITORY, "change") is None
    server.faults.add("POST .*git-receive-pack", reset=True, after=True)
    assert ada.push("HEAD:refs/heads/change").returncode != 0
    assert server.branch(REPOSITORY, "change") == commit
    # A connection that was used before is opened anew by libcurl, and only then given up.
    server.faults.add("POST .*git-upload-pack", reset=True, count=9)
    assert ada.run("fetch", "origin").returncode != 0
    server.faults.clear()
    server.faults.add("POST .*git-upload-pack", status=500, after=True)
    assert ada.run("fetch", "origin").returncode != 0
    ada.git("fetch", "origin")


def test_githubs_own_wishes(server: GithubServer, client: Client) -> None:
    ada = client("ada")
    del ada.headers["user-agent"]
    assert ada.get(REPO).status_code == 403
    ada.headers["user-agent"] = "edgetrain"
    assert ada.get(REPO, headers={"x-github-api-version": "2022-11-28"}).status_code == 200
    assert ada.get(REPO, headers={"x-github-api-version": "1999-01-01"}).status_code == 400
    assert ada.get("/nothing").status_code == 404
    assert server.requests[-1].who == "ada"
    assert server.requests[-1].headers["authorization"] == "***"
