"""Pull requests over REST: opened, listed, reviewed, merged and closed, with GitHub's refusals."""

from __future__ import annotations

import pytest

from testbed.github import GithubServer, Invalid, NotMergeable
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


def test_is_listed_by_state_head_and_base(server: GithubServer, client: Client) -> None:
    first, second = proposed(server), proposed(server, "second")
    server.close_issue(REPOSITORY, first, by="ada")
    ada = client("ada")

    def numbers(**query: str) -> list[int]:
        return [one["number"] for one in ada.get(PULLS, params=query).json()]

    assert numbers() == [second]
    assert numbers(state="all") == [second, first]
    assert numbers(state="closed", direction="asc") == [first]
    assert numbers(head="hosp:second", base="main") == [second]
    assert numbers(head="hosp:change") == numbers(base="release") == numbers(head="grace:second") == []
    # As on GitHub, a head without its owner is no filter.
    assert numbers(head="nothing") == [second]


def test_tells_what_it_changes(server: GithubServer, client: Client) -> None:
    server.commit(REPOSITORY, "main", {"kept.txt": "same\n" * 9, "gone.txt": "1\n", "bytes": b"\0\1"}, by="ada")
    changes = {
        "kept.txt": None,
        "moved.txt": "same\n" * 9,
        "gone.txt": None,
        "README.md": "# More\n",
        "bytes": b"\0\2",
    }
    server.commit(REPOSITORY, "change", changes, by="ada")
    number = server.open_pull(REPOSITORY, "change", by="ada")
    files = {one["filename"]: one for one in client("ada").get(f"{PULLS}/{number}/files").json()}
    assert {name: one["status"] for name, one in files.items()} == {
        "README.md": "modified",
        "bytes": "modified",
        "gone.txt": "removed",
        "moved.txt": "renamed",
    }
    assert files["moved.txt"]["previous_filename"] == "kept.txt"
    assert files["README.md"]["patch"] == "@@ -1 +1 @@\n-# Models\n+# More"
    assert (files["README.md"]["additions"], files["README.md"]["deletions"]) == (1, 1)
    assert "patch" not in files["bytes"]
    shown = server.pull(REPOSITORY, number)
    assert (shown["changed_files"], shown["additions"], shown["deletions"], shown["commits"]) == (4, 1, 2, 1)


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ({"title": "T", "head": "none", "base": "main"}, "head", "invalid"),
        ({"title": "T", "head": "nobody:change", "base": "main"}, "head", "invalid"),
        ({"title": "T", "head": "change", "base": "none"}, "base", "invalid"),
        ({"title": " ", "head": "change", "base": "main"}, "title", "missing_field"),
        ({"title": "T", "head": "same", "base": "main"}, None, "No commits between main and same"),
        ({"title": "T", "head": "change", "base": "main"}, None, "A pull request already exists for hosp:change."),
    ],
)
def test_a_wrong_one_is_refused(
    server: GithubServer, client: Client, body: dict[str, str], field: str | None, told: str
) -> None:
    proposed(server)
    bare = server.store.bare(server.store.repository(REPOSITORY))
    bare.set_ref("refs/heads/same", server.branch(REPOSITORY))
    answer = client("ada").post(PULLS, json=body)
    assert (answer.status_code, answer.json()["message"]) == (422, "Validation Failed")
    (error,) = answer.json()["errors"]
    assert error.get("field") == field
    assert told in (error["code"], error.get("message"))


def test_is_squashed_and_its_branch_goes(server: GithubServer) -> None:
    server.merging(REPOSITORY, methods=["squash"], delete_branch=True)
    number = proposed(server)
    server.commit(REPOSITORY, "change", {"other.txt": "3"}, "Add other", by="ada")
    before = server.branch(REPOSITORY)
    with pytest.raises(NotMergeable, match="Merge merges are not allowed"):
        server.merge(REPOSITORY, number, by="grace")
    sha = server.merge(REPOSITORY, number, by="grace", method="squash")
    commit = server.store.bare(server.store.repository(REPOSITORY)).commit(sha)
    assert commit.message == f"Propose change (#{number})\n\n* Add change\n\n* Add other"
    assert (commit.parents, commit.author.name, commit.committer.name) == ((before,), "ada", "GitHub")
    assert server.branch(REPOSITORY, "change") is None
    assert server.pull(REPOSITORY, number)["merged_by"]["login"] == "grace"


def test_a_merge_commit_is_worded_as_githubs(server: GithubServer) -> None:
    number = proposed(server)
    head, base = server.branch(REPOSITORY, "change"), server.branch(REPOSITORY)
    commit = server.store.bare(server.store.repository(REPOSITORY)).commit(
        server.merge(REPOSITORY, number, by="grace")
    )
    assert commit.message == f"Merge pull request #{number} from hosp/change\n\nPropose change"
    assert (commit.parents, commit.author.name, commit.committer.name) == ((base, head), "grace", "GitHub")


def test_conflicts_drafts_and_closed_ones_are_not_merged(server: GithubServer) -> None:
    number = proposed(server)
    server.commit(REPOSITORY, "main", {"change.txt": "another"}, by="grace")
    with pytest.raises(NotMergeable, match="not mergeable"):
        server.merge(REPOSITORY, number, by="grace")
    server.close_issue(REPOSITORY, number, by="ada")
    with pytest.raises(NotMergeable, match="not mergeable"):
        server.merge(REPOSITORY, number, by="grace")
    server.commit(REPOSITORY, "draft", {"d": "d"}, by="ada")
    draft = server.open_pull(REPOSITORY, "draft", by="ada", draft=True)
    with pytest.raises(NotMergeable, match="draft"):
        server.merge(REPOSITORY, draft, by="grace")


def test_an_admin_passes_the_protection_by_others_do_not(server: GithubServer) -> None:
    server.protect(REPOSITORY, approvals=2)
    number = proposed(server)
    server.user("reader", {REPOSITORY: "read"})
    server.review(REPOSITORY, number, by="reader")
    server.review(REPOSITORY, number, by="grace")
    with pytest.raises(NotMergeable, match="At least 2 approving reviews are required"):
        server.merge(REPOSITORY, number, by="grace", admin=True)
    server.user("root", {REPOSITORY: "admin"})
    server.merge(REPOSITORY, number, by="root", admin=True)


def test_comes_from_a_fork_that_may_go(server: GithubServer, client: Client) -> None:
    server.user("mallory", {REPOSITORY: "read"})
    fork = server.fork(REPOSITORY, "mallory")
    head = server.commit(fork, "change", {"a.txt": "1"}, by="mallory")
    body = {"title": "From afar", "head": "mallory:change", "base": "main"}
    number = client("mallory").post(PULLS, json=body).json()["number"]
    shown = client("ada").get(f"{PULLS}/{number}").json()
    assert (shown["head"]["repo"]["full_name"], shown["head"]["sha"]) == ("mallory/models", head)
    assert shown["base"]["repo"]["full_name"] == REPOSITORY
    head = server.commit(fork, "change", {"b.txt": "1"}, by="mallory")
    assert client("ada").get(f"{PULLS}/{number}").json()["head"]["sha"] == head
    assert client("mallory").put(f"{PULLS}/{number}/merge").status_code == 403
    server.delete_repository(fork)
    shown = client("ada").get(f"{PULLS}/{number}").json()
    assert (shown["head"]["repo"], shown["head"]["sha"]) == (None, head)
    server.merge(REPOSITORY, number, by="grace")


def test_reviewers_are_people_and_teams_of_the_repository(server: GithubServer, client: Client) -> None:
    server.user("stranger")
    server.team("hosp/ds", ["grace"])
    server.grant(REPOSITORY, "@hosp/ds", "write")
    number = proposed(server)
    ada, asks = client("ada"), f"{PULLS}/{number}/requested_reviewers"
    for wrong in ({"reviewers": ["stranger"]}, {"reviewers": ["ada"]}, {"team_reviewers": ["none"]}):
        assert ada.post(asks, json=wrong).status_code == 422
    assert ada.post(asks, json={"reviewers": ["grace"], "team_reviewers": ["ds"]}).status_code == 201
    shown = ada.get(asks).json()
    assert [one["login"] for one in shown["users"]] == ["grace"]
    assert [one["slug"] for one in shown["teams"]] == ["ds"]
    server.review(REPOSITORY, number, by="grace", state="commented", body="Looking")
    assert ada.get(asks).json()["users"] == []


def test_is_closed_and_opened_again(server: GithubServer, client: Client) -> None:
    number = proposed(server)
    ada = client("ada")
    assert ada.patch(f"{PULLS}/{number}", json={"state": "closed"}).json()["state"] == "closed"
    head = server.commit(REPOSITORY, "change", {"more": "1"}, by="ada")
    assert server.pull(REPOSITORY, number)["head"]["sha"] != head
    assert ada.patch(f"{PULLS}/{number}", json={"state": "open"}).json()["head"]["sha"] == head
    server.delete_branch(REPOSITORY, "change", by="ada")
    assert server.pull(REPOSITORY, number)["state"] == "closed"
    assert ada.patch(f"{PULLS}/{number}", json={"state": "open"}).status_code == 422
    assert ada.patch(f"{PULLS}/{number}", json={"base": "none"}).status_code == 422


def test_a_commit_tells_its_open_ones_until_it_is_in_main(server: GithubServer, client: Client) -> None:
    number, head = proposed(server), server.branch(REPOSITORY, "change")
    ada = client("ada")

    def numbers(sha: object) -> list[int]:
        return [one["number"] for one in ada.get(f"/repos/{REPOSITORY}/commits/{sha}/pulls").json()]

    assert numbers(head) == [number]
    assert numbers(server.branch(REPOSITORY)) == []
    server.merge(REPOSITORY, number, by="grace")
    pushed = server.commit(REPOSITORY, "main", {"x": "x"}, by="ada")
    assert (numbers(head), numbers(pushed)) == ([number], [])
    assert ada.get(f"/repos/{REPOSITORY}/commits/{'f' * 40}/pulls").status_code == 422


def test_a_job_opens_and_approves_none_unless_the_repository_lets_it(server: GithubServer, client: Client) -> None:
    number = proposed(server)
    server.commit(REPOSITORY, "other", {"o": "o"}, by="ada")
    job = client(server.job_token(REPOSITORY, {"contents": "write", "pull_requests": "write"}))
    body = {"title": "Own", "head": "other", "base": "main"}
    refused = job.post(PULLS, json=body)
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "GitHub Actions is not permitted to create or approve pull requests.",
    )
    assert job.post(f"{PULLS}/{number}/reviews", json={"event": "APPROVE"}).status_code == 422
    server.actions(REPOSITORY, can_approve_pull_request_reviews=True)
    assert job.post(PULLS, json=body).json()["user"]["login"] == "github-actions[bot]"
    assert job.post(f"{PULLS}/{number}/reviews", json={"event": "APPROVE"}).json()["state"] == "APPROVED"
