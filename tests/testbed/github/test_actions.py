"""Workflow runs, checks, and artifacts whose zip lies at another host."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from testbed.github import GithubServer, routes_actions
from tests.testbed.github.conftest import REPOSITORY, Client

ACTIONS = f"/repos/{REPOSITORY}/actions"
ZIP = b"PK\x05\x06" + b"\0" * 18


def ran(server: GithubServer) -> int:
    """A run that has ended."""
    head = server.branch(REPOSITORY)
    assert head is not None
    return server.add_workflow_run(
        REPOSITORY, workflow="pull-request", event="pull_request", head=head, conclusion="success"
    )


def test_a_run_is_told_and_wakes_others(server: GithubServer, client: Client) -> None:
    head = server.branch(REPOSITORY)
    assert head is not None
    run = server.add_workflow_run(
        REPOSITORY, workflow="pull-request", event="push", head=head, status="queued", actor="ada"
    )
    server.start_workflow_run(REPOSITORY, run)
    server.finish_workflow_run(REPOSITORY, run, "failure")
    assert server.rerun_workflow(REPOSITORY, run) == 2
    server.finish_workflow_run(REPOSITORY, run, "success")
    shown = client("ada").get(f"{ACTIONS}/runs/{run}").json()
    assert (shown["head_sha"], shown["event"], shown["conclusion"]) == (head, "push", "success")
    assert (shown["run_attempt"], shown["actor"]["login"]) == (2, "ada")
    events = [one for one in server.events() if one.name == "workflow_run"]
    assert [one.action for one in events] == ["requested", "in_progress", "completed", "requested", "completed"]
    assert [one.payload["workflow_run"]["conclusion"] for one in events] == [None, None, "failure", None, "success"]
    later = ran(server)
    found = client("ada").get(f"{ACTIONS}/runs", params={"event": "pull_request", "status": "success"}).json()
    assert [one["id"] for one in found["workflow_runs"]] == [later]
    assert client("ada").get(f"{ACTIONS}/runs/7").status_code == 404


def test_a_run_of_a_fork_tells_where_its_commit_lies(server: GithubServer, client: Client) -> None:
    fork = server.fork(REPOSITORY, "mallory")
    head = server.commit(fork, "change", {"a": "a"}, by="mallory")
    number = server.open_pull(REPOSITORY, "mallory:change", by="mallory")
    run = server.add_workflow_run(
        REPOSITORY, workflow="pull-request", event="pull_request", head=head, branch="change", head_repository=fork
    )
    shown = client("ada").get(f"{ACTIONS}/runs/{run}").json()
    assert (shown["head_repository"]["full_name"], shown["head_sha"]) == (fork, head)
    # Of forks GitHub does not tell the pull requests.
    assert shown["pull_requests"] == []
    assert server.pull(REPOSITORY, number)["head"]["sha"] == head


def test_an_artifact_is_downloaded_from_another_host_without_the_token(
    server: GithubServer, client: Client
) -> None:
    run = ran(server)
    number = server.upload_artifact(REPOSITORY, run, "edgetrain-report", ZIP)
    server.upload_artifact(REPOSITORY, run, "other", ZIP)
    ada = client("ada")
    (found,) = ada.get(f"{ACTIONS}/runs/{run}/artifacts", params={"name": "edgetrain-report"}).json()["artifacts"]
    assert (found["id"], found["size_in_bytes"], found["workflow_run"]["id"]) == (number, len(ZIP), run)
    answer = ada.get(found["archive_download_url"])
    location = answer.headers["location"]
    assert answer.status_code == 302
    assert urlsplit(location).hostname != urlsplit(server.api).hostname
    stranger = client()
    assert stranger.get(location).content == ZIP
    assert ada.get(location).status_code == 400
    # httpx drops the header where a redirect leaves the host.
    assert ada.get(found["archive_download_url"], follow_redirects=True).content == ZIP
    for wrong in (location[:-1] + ("0" if location[-1] != "0" else "1"), location.partition("?")[0]):
        assert stranger.get(wrong).status_code == 403
    signed = routes_actions.signature(server.store, str(number), "1")
    assert stranger.get(location.partition("?")[0], params={"se": "1", "sig": signed}).status_code == 403
    assert stranger.get(found["archive_download_url"]).status_code == 404


def test_an_artifact_expires(server: GithubServer, client: Client) -> None:
    run = ran(server)
    number = server.upload_artifact(REPOSITORY, run, "edgetrain-report", ZIP)
    server.expire_artifact(REPOSITORY, number)
    ada = client("ada")
    assert ada.get(f"{ACTIONS}/runs/{run}/artifacts").json()["artifacts"][0]["expired"] is True
    assert ada.get(f"{ACTIONS}/artifacts/{number}/zip").status_code == 410
    assert ada.get(f"{ACTIONS}/artifacts/{number}/tar").status_code == 404


def test_a_download_needs_a_sign_in_even_where_all_may_read(server: GithubServer, client: Client) -> None:
    server.create_repository("hosp/public", private=False, files={"a": "a"})
    head = server.branch("hosp/public")
    assert head is not None
    run = server.add_workflow_run("hosp/public", workflow="w", event="push", head=head)
    number = server.upload_artifact("hosp/public", run, "a", ZIP)
    stranger = client()
    assert stranger.get(f"/repos/hosp/public/actions/runs/{run}/artifacts").status_code == 200
    assert stranger.get(f"/repos/hosp/public/actions/artifacts/{number}/zip").status_code == 401


def test_checks_tell_the_newest_of_each_name(server: GithubServer, client: Client) -> None:
    head = server.branch(REPOSITORY)
    assert head is not None
    server.checks.add(REPOSITORY, head, "validate", "failure")
    newest = server.checks.add(REPOSITORY, head, "validate", "success", run=ran(server))
    going = server.checks.add(REPOSITORY, head, "scan", None)
    ada, path = client("ada"), f"/repos/{REPOSITORY}/commits"

    def told(ref: str, **query: str) -> list[tuple[str, str | None]]:
        found: httpx.Response = ada.get(f"{path}/{ref}/check-runs", params=query)
        return [(one["name"], one["conclusion"]) for one in found.json()["check_runs"]]

    assert told(head) == told("main") == [("scan", None), ("validate", "success")]
    assert told(head, filter="all") == [("scan", None), ("validate", "success"), ("validate", "failure")]
    assert told(head, check_name="validate") == told(head, status="completed") == [("validate", "success")]
    server.checks.finish(REPOSITORY, going, "neutral")
    assert server.checks.of(REPOSITORY, head) == {"validate": "success", "scan": "neutral"}
    shown = ada.get(f"{path}/{head}/check-runs", params={"check_name": "validate"}).json()["check_runs"][0]
    assert (shown["id"], shown["app"]["slug"], shown["app"]["id"]) == (newest, "github-actions", 15368)
    assert ada.get(f"{path}/none/check-runs").status_code == 422
