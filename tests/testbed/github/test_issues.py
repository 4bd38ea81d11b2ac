"""Issues, labels and comments over REST; pull requests are issues too."""

from __future__ import annotations

from testbed.github import GithubServer
from tests.testbed.github.conftest import REPOSITORY, Client

ISSUES = f"/repos/{REPOSITORY}/issues"


def test_an_issue_is_kept_updated_and_closed(server: GithubServer, client: Client) -> None:
    app, _ = server.app(repositories=[REPOSITORY])
    own = client(server.installation_token(app, REPOSITORY))
    body = {"title": "Drift", "body": "It drifts", "labels": ["edgetrain", {"name": "drift"}]}
    made = own.post(ISSUES, json=body).json()
    assert (made["user"]["login"], made["user"]["type"]) == ("edgetrain[bot]", "Bot")
    assert made["performed_via_github_app"]["id"] == app
    assert [one["name"] for one in made["labels"]] == ["edgetrain", "drift"]
    issue = f"{ISSUES}/{made['number']}"
    own.patch(issue, json={"title": "Drift again", "body": "Still", "labels": ["drift"]})
    closed = own.patch(issue, json={"state": "closed", "state_reason": "not_planned"}).json()
    assert (closed["state"], closed["state_reason"], closed["closed_by"]["login"]) == (
        "closed",
        "not_planned",
        "edgetrain[bot]",
    )
    assert [one["name"] for one in closed["labels"]] == ["drift"]
    assert own.get(ISSUES).json() == []
    assert own.patch(issue, json={"state": "open"}).json()["state_reason"] == "reopened"
    assert [one.action for one in server.events() if one.name == "issues"] == [
        "opened",
        "edited",
        "closed",
        "reopened",
    ]


def test_the_list_has_pull_requests_and_filters(server: GithubServer, client: Client) -> None:
    server.commit(REPOSITORY, "change", {"a": "a"}, by="ada")
    pull = server.open_pull(REPOSITORY, "change", by="ada")
    one, two = (client(who).post(ISSUES, json={"title": who}).json()["number"] for who in ("ada", "grace"))
    ada = client("ada")
    ada.post(f"{ISSUES}/{one}/labels", json={"labels": ["a", "b"]})
    ada.put(f"{ISSUES}/{pull}/labels", json={"labels": ["b"]})

    def numbers(**query: str) -> list[int]:
        return [issue["number"] for issue in ada.get(ISSUES, params=query).json()]

    assert numbers() == [two, one, pull]
    assert numbers(direction="asc", state="all") == [pull, one, two]
    assert numbers(labels="b") == [one, pull]
    assert numbers(labels="a,b") == [one]
    assert numbers(creator="grace") == [two]
    assert numbers(since="2999-01-01T00:00:00Z") == numbers(state="closed") == []
    assert "pull_request" in ada.get(f"{ISSUES}/{pull}").json()
    assert "pull_request" not in ada.get(f"{ISSUES}/{one}").json()


def test_comments_are_made_changed_and_deleted_by_their_authors(server: GithubServer, client: Client) -> None:
    server.user("reader", {REPOSITORY: "read"})
    number = server.open_issue(REPOSITORY, "Drift", by="ada")
    reader, ada = client("reader"), client("ada")
    made = reader.post(f"{ISSUES}/{number}/comments", json={"body": "<b>mine</b>"}).json()
    other = server.say(REPOSITORY, number, "Ada's", by="ada")
    assert [one["body"] for one in ada.get(f"{ISSUES}/{number}/comments").json()] == ["<b>mine</b>", "Ada's"]
    mine = f"{ISSUES}/comments/{made['id']}"
    assert reader.patch(mine, json={"body": "changed"}).json()["body"] == "changed"
    for refused in (
        reader.patch(f"{ISSUES}/comments/{other}", json={"body": "mine now"}),
        reader.delete(f"{ISSUES}/comments/{other}"),
        reader.patch(f"{ISSUES}/{number}", json={"state": "closed"}),
        reader.put(f"{ISSUES}/{number}/labels", json={"labels": ["x"]}),
    ):
        assert refused.status_code == 403
    assert reader.delete(mine).status_code == 204
    assert [one["id"] for one in server.comments(REPOSITORY, number)] == [other]
    assert reader.get(mine).status_code == 404
    # Labels of those who may not set them are left out without a word.
    assert reader.post(ISSUES, json={"title": "Mine", "labels": ["x"]}).json()["labels"] == []


def test_texts_have_githubs_limits(server: GithubServer, client: Client) -> None:
    number = server.open_issue(REPOSITORY, "Drift", by="ada")
    ada, comments = client("ada"), f"{ISSUES}/{number}/comments"
    assert ada.post(comments, json={"body": "é" * 65536}).status_code == 201
    for answer in (
        ada.post(comments, json={"body": "x" * 65537}),
        ada.post(comments, json={"body": ""}),
        ada.post(ISSUES, json={"title": " "}),
        ada.post(ISSUES, json={"title": "T", "body": "x" * 65537}),
        ada.post(ISSUES, json={"title": "T", "assignees": ["nobody"]}),
    ):
        assert (answer.status_code, answer.json()["message"]) == (422, "Validation Failed")
        assert answer.json()["errors"][0]["resource"].startswith("Issue")


def test_a_job_that_may_write_pull_requests_comments_on_them_only(server: GithubServer, client: Client) -> None:
    server.commit(REPOSITORY, "change", {"a": "a"}, by="ada")
    pull, issue = server.open_pull(REPOSITORY, "change", by="ada"), server.open_issue(REPOSITORY, "I", by="ada")
    job = client(server.job_token(REPOSITORY, {"pull_requests": "write"}))
    seen = len(server.events())
    made = job.post(f"{ISSUES}/{pull}/comments", json={"body": "plan"})
    assert (made.status_code, made.json()["user"]["login"]) == (201, "github-actions[bot]")
    assert made.json()["user"]["id"] == 41898282
    assert job.post(f"{ISSUES}/{issue}/comments", json={"body": "plan"}).status_code == 403
    # Nothing that a job's own token does wakes a workflow.
    assert [one.wakes for one in server.events(seen)] == [False]
