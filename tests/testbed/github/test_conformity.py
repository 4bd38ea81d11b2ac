"""Every call of the stand-in, answered and refused, is as GitHub's description of its API says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import jwt

from testbed.github import GithubServer
from testbed.github.app import calls
from testbed.github.openapi import USED, Description, committed
from tests.testbed.github.conftest import REPOSITORY, Client

REPO = f"/repos/{REPOSITORY}"


def assertion(app: int, key: str) -> str:
    """What an App signs."""
    now = int(time.time())
    return jwt.encode({"iss": str(app), "iat": now - 30, "exp": now + 300}, key, algorithm="RS256")


def furnish(server: GithubServer) -> dict[str, int]:
    """One of everything; the numbers."""
    server.team("hosp/ds", ["grace"])
    server.grant(REPOSITORY, "@hosp/ds", "write")
    server.user("root", {REPOSITORY: "admin"})
    app, _ = server.app(repositories=[REPOSITORY])
    head = server.commit(REPOSITORY, "change", {"a.txt": "1\n", "README.md": None}, "Change", by="ada")
    pull = server.open_pull(REPOSITORY, "change", by="ada")
    server.commit(REPOSITORY, "closed", {"b.txt": "1\n"}, by="ada")
    server.close_issue(REPOSITORY, server.open_pull(REPOSITORY, "closed", by="ada"), by="ada")
    server.commit(REPOSITORY, "merged", {"c.txt": "1\n"}, by="ada")
    merged = server.open_pull(REPOSITORY, "merged", by="ada")
    server.review(REPOSITORY, merged, by="grace")
    server.merge(REPOSITORY, merged, by="grace")
    server.commit(REPOSITORY, "own", {"d.txt": "1\n"}, by="ada")
    review = server.review(REPOSITORY, pull, by="grace", state="changes_requested", body="No")
    server.review(REPOSITORY, pull, by="grace", state="pending")
    issue = server.open_issue(REPOSITORY, "Drift", "It drifts", by="ada")
    run = server.add_workflow_run(
        REPOSITORY, workflow="pull-request", event="pull_request", head=head, branch="change", conclusion="success"
    )
    server.protect(REPOSITORY, kind="ruleset", bypass_apps=[app], bypass_users=["root"], checks=["validate"])
    server.protect(REPOSITORY, "release", checks=["validate"])
    server.commit(REPOSITORY, "release", {"e.txt": "1\n"}, by="ada")
    server.environment(
        REPOSITORY,
        "edgetrain-release",
        reviewers=["grace", "@hosp/ds"],
        wait=5,
        branches="protected",
        secrets=["KEY"],
        variables={"SITE": "edge"},
    )
    server.secret(REPOSITORY, "TOKEN")
    server.variable(REPOSITORY, "EDGETRAIN_PR_RUNNER", "ubuntu-latest")
    server.runner(REPOSITORY, "edge-1", ["self-hosted", "edge"])
    server.runner_group(
        REPOSITORY, "st-anna", {"edge-2": ["self-hosted", "edge"]}, workflows=["hosp/models/x@main"]
    )
    server.checks.add(REPOSITORY, head, "validate", run=run, title="3 problems", summary="...")
    server.checks.add(REPOSITORY, head, "scan", None, app=app)
    return {
        "pull": pull,
        "merged": merged,
        "review": review,
        "issue": issue,
        "comment": server.say(REPOSITORY, issue, "Indeed", by="ada"),
        "run": run,
        "artifact": server.upload_artifact(REPOSITORY, run, "edgetrain-report", b"PK"),
        "group": next(int(number) for number in server.store.state["runner_groups"]["hosp"]),
        "ruleset": server.store.repository(REPOSITORY)["protections"]["main"]["id"],
    }


def asked(made: dict[str, int]) -> Iterator[tuple[str, str, object, int]]:
    """Every call that a person makes: method, path, body and the status of the answer."""
    pull, issue = f"{REPO}/pulls/{made['pull']}", f"{REPO}/issues/{made['issue']}"
    comment = f"{REPO}/issues/comments/{made['comment']}"
    yield "GET", "/rate_limit", None, 200
    yield "GET", "/user", None, 200
    yield "GET", "/users/ada", None, 200
    yield "GET", "/users/github-actions%5Bbot%5D", None, 200
    for path in ("", "/pulls?state=all", "/issues?state=all", "/branches/main", "/branches/release", "/rulesets"):
        yield "GET", f"{REPO}{path}", None, 200
    for path in ("main", "release"):
        yield "GET", f"{REPO}/rules/branches/{path}", None, 200
    yield "GET", f"{REPO}/rulesets/{made['ruleset']}", None, 200
    for path in ("", f"/{made['run']}", f"/{made['run']}/artifacts"):
        yield "GET", f"{REPO}/actions/runs{path}", None, 200
    yield "GET", f"{REPO}/actions/artifacts/{made['artifact']}", None, 200
    yield "GET", f"{REPO}/actions/artifacts/{made['artifact']}/zip", None, 302
    for path in ("secrets", "variables", "runners", "permissions", "permissions/workflow"):
        yield "GET", f"{REPO}/actions/{path}", None, 200
    for path in (
        "",
        *(f"/edgetrain-release{part}" for part in ("", "/deployment-branch-policies", "/secrets", "/variables")),
    ):
        yield "GET", f"{REPO}/environments{path}", None, 200
    for path in ("", f"/{made['group']}", f"/{made['group']}/runners"):
        yield "GET", f"/orgs/hosp/actions/runner-groups{path}", None, 200
    for path in ("pulls", "check-runs"):
        yield "GET", f"{REPO}/commits/{{head}}/{path}", None, 200
    for path in ("", "/commits", "/files", "/requested_reviewers", "/reviews"):
        yield "GET", f"{pull}{path}", None, 200
    yield "GET", f"{REPO}/pulls/{made['merged']}", None, 200
    yield "GET", f"{REPO}/pulls/{made['merged']}/merge", None, 204
    asks = {"reviewers": ["grace"], "team_reviewers": ["ds"]}
    yield "POST", f"{pull}/requested_reviewers", asks, 201
    yield "DELETE", f"{pull}/requested_reviewers", asks, 200
    yield "PUT", f"{pull}/reviews/{made['review']}/dismissals", {"message": "Settled"}, 200
    yield "POST", f"{pull}/reviews", {"event": "APPROVE", "body": "Fine"}, 200
    yield "PATCH", pull, {"title": "Better", "body": "So"}, 200
    yield "PUT", f"{pull}/merge", {"merge_method": "squash"}, 200
    yield "POST", f"{REPO}/pulls", {"title": "Own", "head": "own", "base": "main"}, 201
    yield "POST", f"{REPO}/issues", {"title": "Drift", "labels": ["edgetrain"], "assignees": ["ada"]}, 201
    yield "GET", issue, None, 200
    yield "PATCH", issue, {"state": "closed", "state_reason": "completed"}, 200
    yield "POST", f"{issue}/comments", {"body": "Over"}, 201
    yield "GET", f"{issue}/comments", None, 200
    yield "POST", f"{issue}/labels", {"labels": ["one"]}, 200
    yield "PUT", f"{issue}/labels", {"labels": ["two"]}, 200
    yield "GET", f"{issue}/labels", None, 200
    yield "GET", comment, None, 200
    yield "PATCH", comment, {"body": "Perhaps"}, 200
    yield "DELETE", comment, None, 204


def send(client: httpx.Client, method: str, path: str, body: object) -> httpx.Response:
    return client.request(method, path, content=None if body is None else json.dumps(body))


def test_answers_every_call_as_described(server: GithubServer, client: Client) -> None:
    made = furnish(server)
    head = server.pull(REPOSITORY, made["pull"])["head"]["sha"]
    app, key = server.app("other", repositories=[REPOSITORY])
    signed, root = client(assertion(app, key)), client("root")
    for path in ("/app", f"{REPO}/installation"):
        assert signed.get(path).status_code == 200
    installation = signed.get(f"{REPO}/installation").json()["id"]
    asks = {"permissions": {"contents": "read"}, "repositories": ["models"]}
    answer = signed.post(f"/app/installations/{installation}/access_tokens", json=asks)
    assert answer.status_code == 201
    token = client(answer.json()["token"])
    assert token.get("/installation/repositories").status_code == 200
    assert token.delete("/installation/token").status_code == 204
    for method, path, body, status in asked(made):
        answer = send(root, method, path.replace("{head}", head), body)
        assert (method, path, answer.status_code) == (method, path, status), answer.text
    description = Description(committed())
    seen = {
        (one.method, found[0])
        for one in server.requests
        if one.status < 400 and (found := description.find(one.method, one.path))
    }
    assert seen == description.calls == calls()


def test_refuses_every_call_as_described(server: GithubServer, client: Client) -> None:
    made = furnish(server)
    server.user("mallory")
    token = server.job_token(REPOSITORY, {})
    unknown = dict.fromkeys(made, 999999)
    for who, numbers in (("", made), ("mallory", made), (token, made), ("ghp_unknown", made), ("root", unknown)):
        with client(who) as asking:
            for method, path, body, _ in asked(numbers):
                answer = send(asking, method, path.replace("{head}", "f" * 40), body)
                assert answer.status_code < 500, (who, method, path, answer.text)
                # Whoever may see a repository is told its name and its rules.
                seen = who == token and (path == REPO or path.startswith(f"{REPO}/rule"))
                if who != "root" and not seen and not path.startswith(("/user", "/rate")):
                    assert answer.status_code in (401, 403, 404, 422), (who, method, path, answer.text)
    # Wrong bodies, from who may do it.
    wrong: dict[tuple[str, str], object] = {
        (method, path): [] if isinstance(body, dict) else {} for method, path, body, _ in asked(made) if body
    }
    with client("root") as asking:
        for (method, path), body in wrong.items():
            answer = send(asking, method, path, body)
            assert answer.status_code in (400, 404, 422) or "labels" in path, (method, path, answer.text)
            assert asking.request(method, path, content=b"{").status_code == 400
    server.violations[:] = [one for one in server.violations if one.where == "answer"]


def test_the_extract_has_the_used_calls_and_no_others() -> None:
    extract = committed()
    assert {path: set(item) for path, item in extract["paths"].items()} == {
        path: set(methods) for path, methods in USED.items()
    }


def test_tells_what_breaks_the_description(server: GithubServer, client: Client) -> None:
    description = Description(committed())
    answered = client("ada").get(REPO).json()
    assert description.answer("GET", REPO, 200, json.dumps(answered).encode()) == []
    for change, told in (
        ({"id": "7"}, "$.id: '7' is not of type 'integer'"),
        ({"owner": None}, "$.owner: None is not of type 'object'"),
        ({"created_at": "yesterday"}, "$.created_at: 'yesterday' is not a 'date-time'"),
        ({"mood": "good"}, "$: Additional properties are not allowed ('mood' was unexpected)"),
    ):
        assert description.answer("GET", REPO, 200, json.dumps({**answered, **change}).encode()) == [told]
    assert description.answer("GET", REPO, 201, b"{}") == ["status 201 is not described"]
    assert description.answer("GET", REPO, 404, b"[]") != []
    assert description.answer("GET", "/unheard", 200, b"{}") == ["no such call"]
    body = json.dumps({"title": 1, "head": "a", "mood": "good"}).encode()
    assert sorted(description.request("POST", f"{REPO}/pulls", "", body)) == [
        "$.title: 1 is not of type 'string'",
        "$: 'base' is a required property",
        "unknown key 'mood'",
    ]
    assert description.request("GET", f"{REPO}/pulls", "state=half&x=1", b"") == [
        "state: 'half' is not one of ['open', 'closed', 'all']",
        "unknown query parameter 'x'",
    ]
    client("ada").post(f"{REPO}/issues", json={"title": "T", "mood": "good"})
    assert [(one.where, one.problem) for one in server.violations] == [("request", "unknown key 'mood'")]
    server.violations.clear()
