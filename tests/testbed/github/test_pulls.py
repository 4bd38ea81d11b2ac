"""Pull requests over REST: opened, listed, reviewed, merged and closed, with GitHub's refusals."""

from __future__ import annotations

import pytest

from testbed.github import GithubServer, Invalid
from tests.testbed.github.conftest import REPOSITORY, Client

PULLS = f"/repos/{REPOSITORY}/pulls"


def proposed(server: GithubServer, branch: str = "change", by: str = "ada") -> int:
    """An open pull request that adds a file."""
    server.commit(REPOSITORY, branch, {f"{branch}.txt": "1\n2\n"}, f"Add {branch}", by=by)
    return server.open_pull(REPOSITORY, branch, by=by, title=f"Propose {branch}", body="Why not")


def test_is_opened_reviewed_and_merged_by_people(server: GithubServer, client: Client) -> None:
    server.protect(REPOSITORY, approvals=1, checks=["validate"])
    head = server.commit(REPOSITORY, "change", {"a.txt": "1\n2\n"}, "Add a", by="ada")
    ada, grace = client("ada"), client("grace")
    made = ada.post(PULLS, json={"title": "Add a", "head": "change", "base": "main", "body": "Why"})
    assert made.status_code == 201
    number = made.json()["number"]
    assert (made.json()["head"]["sha"], made.json()["mergeable"]) == (head, True)
    assert (made.json()["user"]["login"], made.json()["head"]["label"]) == ("ada", "hosp:change")

    refused = grace.put(f"{PULLS}/{number}/merge")
    assert refused.status_code == 405
    assert "At least 1 approving review is required" in refused.json()["message"]
    assert 'Required status check "validate" is expected.' in refused.json()["message"]

    review = grace.post(f"{PULLS}/{number}/reviews", json={"event": "APPROVE"}).json()
    assert (review["state"], review["commit_id"]) == ("APPROVED", head)
    server.checks.add(REPOSITORY, head, "validate")
    assert grace.put(f"{PULLS}/{number}/merge", json={"sha": "0" * 40}).status_code == 409
    merged = grace.put(f"{PULLS}/{number}/merge", json={"sha": head}).json()
    assert merged["merged"] is True
    assert server.branch(REPOSITORY) == merged["sha"]
    shown = ada.get(f"{PULLS}/{number}").json()
    assert (shown["state"], shown["merged"], shown["merged_by"]["login"]) == ("closed", True, "grace")
    assert shown["merge_commit_sha"] == merged["sha"]
    assert ada.get(f"{PULLS}/{number}/merge").status_code == 204
    assert [one["number"] for one in ada.get(f"/repos/{REPOSITORY}/commits/{merged['sha']}/pulls").json()] == [
        number
    ]
    assert [one["number"] for one in ada.get(f"/repos/{REPOSITORY}/commits/{head}/pulls").json()] == [number]


def test_an_approval_stays_with_the_commit_it_was_given_to(server: GithubServer, client: Client) -> None:
    number = proposed(server)
    before = server.pull(REPOSITORY, number)["head"]["sha"]
    server.review(REPOSITORY, number, by="grace")
    after = server.commit(REPOSITORY, "change", {"more.txt": "3"}, by="ada")
    review = client("ada").get(f"{PULLS}/{number}/reviews").json()[0]
    assert (review["state"], review["commit_id"]) == ("APPROVED", before)
    assert server.pull(REPOSITORY, number)["head"]["sha"] == after

    server.protect(REPOSITORY, dismiss_stale=True)
    server.commit(REPOSITORY, "change", {"most.txt": "4"}, by="ada")
    assert client("ada").get(f"{PULLS}/{number}/reviews").json()[0]["state"] == "DISMISSED"


def test_nobody_approves_their_own(server: GithubServer, client: Client) -> None:
    number = proposed(server)
    answer = client("ada").post(f"{PULLS}/{number}/reviews", json={"event": "APPROVE"})
    assert answer.status_code == 422
    assert "Can not approve your own pull request" in answer.json()["message"]
    with pytest.raises(Invalid):
        server.review(REPOSITORY, number, by="ada")
