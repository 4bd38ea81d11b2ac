"""The log of events tells what would wake workflows; what was stored is there after a restart."""

from __future__ import annotations

import threading
from pathlib import Path

from testbed.github import GithubServer
from tests.testbed.github.checkout import Checkout
from tests.testbed.github.conftest import REPOSITORY, Client


def test_a_push_tells_its_commits_and_their_files(server: GithubServer, tmp_path: Path) -> None:
    ada = Checkout(server, tmp_path / "ada", server.user("ada")).clone()
    before = ada.git("rev-parse", "HEAD")
    ada.commit("records/1.json", "{}", "Record 1")
    ada.git("mv", "README.md", "read me.md")
    ada.git("commit", "--quiet", "-m", "Move")
    seen = len(server.events())
    ada.push("HEAD:main")
    (event,) = server.events(seen)
    push = event.payload
    assert (event.name, event.repository, event.wakes) == ("push", REPOSITORY, True)
    assert (push["ref"], push["before"], push["after"]) == ("refs/heads/main", before, ada.git("rev-parse", "HEAD"))
    assert (push["created"], push["deleted"], push["forced"]) == (False, False, False)
    assert [(one["message"], one["added"], one["removed"], one["modified"]) for one in push["commits"]] == [
        ("Record 1", ["records/1.json"], [], []),
        ("Move", ["read me.md"], ["README.md"], []),
    ]
    assert push["head_commit"]["id"] == push["after"]
    assert (push["pusher"]["name"], push["sender"]["login"]) == ("ada", "ada")

    ada.push("HEAD:refs/heads/new", "HEAD:refs/tags/v1")
    branch, tag = server.events(seen + 1)
    assert (branch.payload["created"], branch.payload["commits"]) == (True, [])
    assert (tag.payload["ref"], tag.payload["commits"]) == ("refs/tags/v1", [])
    ada.push("--delete", "new")
    assert (server.events()[-1].payload["deleted"], server.events()[-1].payload["head_commit"]) == (True, None)


def test_pull_requests_tell_their_life(server: GithubServer) -> None:
    seen = len(server.events())
    first = server.commit(REPOSITORY, "change", {"a": "a"}, by="ada")
    number = server.open_pull(REPOSITORY, "change", by="ada")
    second = server.commit(REPOSITORY, "change", {"b": "b"}, by="ada")
    server.review(REPOSITORY, number, by="grace")
    server.merge(REPOSITORY, number, by="grace")
    events = server.events(seen)
    assert [(one.name, one.action) for one in events] == [
        ("push", ""),
        ("pull_request", "opened"),
        ("push", ""),
        ("pull_request", "synchronize"),
        ("pull_request_review", "submitted"),
        ("pull_request", "closed"),
        ("push", ""),
    ]
    assert [one.number for one in events] == list(range(seen + 1, seen + 8))
    assert events[1].payload["pull_request"]["head"]["sha"] == first
    assert (events[3].payload["before"], events[3].payload["after"]) == (first, second)
    assert events[5].payload["pull_request"]["merged"] is True
    assert events[6].payload["after"] == events[5].payload["pull_request"]["merge_commit_sha"]
    assert events[6].payload["sender"]["login"] == "grace"


def test_a_jobs_own_push_wakes_nothing_and_the_apps_does(server: GithubServer, tmp_path: Path) -> None:
    app, _ = server.app(repositories=[REPOSITORY])
    for name, token, wakes in (
        ("job", server.job_token(REPOSITORY, {"contents": "write"}), False),
        ("app", server.installation_token(app, REPOSITORY), True),
    ):
        own = Checkout(server, tmp_path / name, token).clone()
        own.commit(name)
        seen = len(server.events())
        assert own.push("HEAD:main").returncode == 0
        assert [one.wakes for one in server.events(seen)] == [wakes]


def test_a_waiter_is_told(server: GithubServer) -> None:
    seen = len(server.events())
    assert server.wait_for_event(seen, 0.01) is False
    writer = threading.Thread(target=server.open_issue, args=(REPOSITORY, "Drift"), kwargs={"by": "ada"})
    writer.start()
    assert server.wait_for_event(seen, 60) is True
    writer.join()
    assert server.events(seen)[0].name == "issues"


def test_goes_on_after_a_restart(server: GithubServer, client: Client, tmp_path: Path) -> None:
    server.commit(REPOSITORY, "change", {"a": "a"}, by="ada")
    number = server.open_pull(REPOSITORY, "change", by="ada")
    ada = client("ada")
    before = ada.get(f"/repos/{REPOSITORY}/pulls/{number}").json()
    address, events = server.api, server.events()
    server.stop()
    server.start()
    assert server.api == address
    assert ada.get(f"/repos/{REPOSITORY}/pulls/{number}").json() == before
    assert server.events() == events


def test_another_server_finds_the_data_of_the_last(tmp_path: Path) -> None:
    with GithubServer(tmp_path / "data") as first:
        first.create_repository(REPOSITORY, files={"a": "a"})
        app, _ = first.app(repositories=[REPOSITORY])
        token = first.installation_token(app, REPOSITORY)
        number = first.open_issue(REPOSITORY, "Drift", by="ada")
        events, tip = first.events(), first.branch(REPOSITORY)
    with GithubServer(tmp_path / "data") as second:
        assert second.events() == events
        assert second.open_issue(REPOSITORY, "Another", by="ada") == number + 1
        clone = Checkout(second, tmp_path / "clone", token).clone()
        assert clone.git("rev-parse", "HEAD") == tip
