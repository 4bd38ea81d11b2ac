"""Whatever the forge, or what stands in its place, answers: a value of the port or an error of ours."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edgetrain.core.errors import ProviderError
from edgetrain.core.ports import CheckStatus
from edgetrain.providers.github.provider import GithubForge
from tests.walk import sample

from .hub import amiss
from .scripted import REPO, Reply, Request, Scripted, forge_at
from .test_github_client import FOUND, PULL

WEIRD: tuple[Any, ...] = (None, True, -1, 2**80, 1.5, "", "x" * 3000, "\ud800\u202e<!--", [], [None], {}, {"id": 1})
ACCOUNT = {"id": 99, "login": "edgetrain-app[bot]", "type": "Bot"}
COMMENT = {"id": 11, "user": ACCOUNT, "body": "<!-- edgetrain:plan -->\nold"}
ISSUE = {
    "number": 4,
    "user": ACCOUNT,
    "title": "Drift",
    "body": "<!-- edgetrain:drift -->\nold",
    "state": "closed",
    "labels": [{"name": "drift"}],
    "closed_by": ACCOUNT,
}
REVIEW = {
    "user": {"id": 2, "login": "grace", "type": "User"},
    "state": "APPROVED",
    "submitted_at": "2026-10-01T12:00:00+02:00",
    "commit_id": "b" * 40,
}
RULE = {
    "type": "pull_request",
    "ruleset_id": 12,
    "parameters": {
        "required_approving_review_count": 1,
        "require_code_owner_review": True,
        "dismiss_stale_reviews_on_push": True,
        "require_last_push_approval": True,
    },
}
RUNNER = {"labels": [{"name": "self-hosted"}, {"name": "edgetrain"}], "status": "online", "runner_group_id": 3}
MERGED = {
    **PULL,
    "number": 6,
    "state": "closed",
    "merged_at": "2026-10-01T12:00:00Z",
    "merge_commit_sha": "c" * 40,
    "merged_by": ACCOUNT,
}
# A good answer for each call, by the end of its path.
ANSWERS: dict[str, Any] = {
    "GET /pulls": [PULL],
    "GET /pulls/3": {**PULL, "requested_reviewers": [{"login": "ada"}], "requested_teams": [{"slug": "ds"}]},
    "GET /pulls/6": MERGED,
    "GET /pulls/3/reviews": [REVIEW],
    "GET /pulls/3/files": [{"filename": "a.txt", "previous_filename": "b.txt"}],
    f"GET /commits/{'a' * 40}/pulls": [MERGED],
    f"GET /commits/{'a' * 40}/check-runs": {"check_runs": [{"id": 1, "name": "validate", "conclusion": "success"}]},
    "GET /issues": [ISSUE],
    "GET /issues/4": ISSUE,
    "GET /issues/3/comments": [COMMENT],
    "GET /issues/4/comments": [],
    "GET /actions/runs/5": FOUND,
    "GET /actions/runs/5/artifacts": {
        "artifacts": [{"id": 8, "name": "edgetrain-report", "size_in_bytes": 4, "expired": False}]
    },
    "GET ": {"full_name": "hosp/models", "private": True},
    "GET /rules/branches/main": [RULE, {"type": "deletion"}, {"type": "non_fast_forward"}],
    "GET /rulesets/12": {"bypass_actors": [{"actor_type": "Integration", "actor_id": 4242}]},
    "GET /environments/edgetrain-release": {
        "protection_rules": [{"type": "required_reviewers", "reviewers": [{}], "prevent_self_review": True}],
        "deployment_branch_policy": {},
    },
    "GET /environments/edgetrain-release/secrets": {"secrets": [{"name": "KEY"}]},
    "GET /actions/runners": {"runners": [RUNNER]},
    "GET /actions/variables": {"variables": [{"name": "EDGETRAIN_RUNNER", "value": '["edgetrain"]'}]},
    "GET /actions/secrets": {"secrets": [{"name": "OTHER"}]},
    "GET /actions/permissions": {"enabled": True, "allowed_actions": "selected"},
    "GET /actions/permissions/workflow": {
        "default_workflow_permissions": "read",
        "can_approve_pull_request_reviews": False,
    },
    "POST /issues": ISSUE,
    "PATCH /issues/4": ISSUE,
    "PATCH /pulls/3": PULL,
    "POST /pulls": PULL,
    "GET /installation": {"id": 7, "permissions": {"contents": "read"}},
}
CALLS: dict[str, Callable[[GithubForge], Any]] = {
    "artifact": lambda forge: forge.artifact(5, "edgetrain-report", 100),
    "changed": lambda forge: forge.changed_files(3),
    "checks": lambda forge: forge.checks("a" * 40),
    "close": lambda forge: forge.close(3),
    "comment": lambda forge: forge.comment(3, "plan", ["new"]),
    "diagnose": lambda forge: forge.diagnose(),
    "issue": lambda forge: forge.issue("drift", "Drift", "new", ["drift"]),
    "issue over": lambda forge: forge.issue("drift", "Drift", None),
    "open": lambda forge: forge.open_pull_requests(""),
    "propose": lambda forge: forge.propose("change", "A change", "New", ["ada", "hosp/ds"], ["edgetrain"]),
    "pull": lambda forge: forge.pull_request(3),
    "pulls at": lambda forge: forge.pull_requests_at(forge.workflow_run(5)),
    "pulls of": lambda forge: forge.pull_requests_of("a" * 40),
    "push": lambda forge: forge.push_settings(),
    "reviews": lambda forge: forge.reviews(3),
    "run": lambda forge: forge.workflow_run(5),
    "settings": lambda forge: forge.settings(),
}
OFTEN = 30  # broken answers of each call that a run tries; other ones each day


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in an answer something can be put."""
    yield where
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*where, key))


def broken(value: Any, where: tuple[Any, ...], by: Any) -> Any:
    """The answer with something else in one place."""
    if not where:
        return by
    made = copy.deepcopy(value)
    at = made
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = by
    return made


def answering(answers: dict[str, Any]) -> Callable[[Request], Reply | None]:
    """Answers by the path under the repository's."""

    def rule(request: Request) -> Reply | None:
        key = f"{request.method} {request.path.partition('?')[0].removeprefix(REPO)}"
        if request.path.startswith(REPO) and key in answers:
            return Reply(body=answers[key])
        if request.path.endswith("/zip"):
            return Reply(body=b"PK..")
        if request.path == "/orgs/hosp/actions/runner-groups/3":
            return Reply(body={"name": "site", "allows_public_repositories": False})
        return Reply(201, {}) if request.method != "GET" and request.path.startswith(REPO) else None

    return rule


def good() -> dict[str, Any]:
    """Good answers, but for the App's installation, whose rights the server knows."""
    return {key: value for key, value in ANSWERS.items() if key != "GET /installation"}


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with Scripted() as made:
        made.permissions.update({"administration": "read", "secrets": "read"})
        yield made


@pytest.mark.parametrize("call", CALLS)
def test_good_answers_are_understood(server: Scripted, call: str) -> None:
    server.rule = answering(good())
    found = CALLS[call](forge_at(server.url))
    if call in ("diagnose", "settings"):
        status = {name: one[0] for name, one in amiss(found).items()}
        assert CheckStatus.FAIL not in status.values()


@pytest.mark.parametrize("call", CALLS)
def test_broken_answers_raise_our_own_errors_only(server: Scripted, call: str) -> None:
    asked = keys_of(server, call)
    chances = [(key, where, by) for key in asked for where in places(ANSWERS[key]) for by in WEIRD]
    forge = forge_at(server.url)
    for key, where, by in (chances[number] for number in sample(len(chances), OFTEN)):
        server.rule = answering({**good(), key: broken(ANSWERS[key], where, by)})
        try:
            CALLS[call](forge if key != "GET /installation" else forge_at(server.url))
        except ProviderError:
            continue
        except Exception as error:
            raise AssertionError(f"{key} with {by!r} at {where}: {error!r}") from error


def keys_of(server: Scripted, call: str) -> list[str]:
    """The answers that the call reads."""
    server.rule = answering(good())
    before = len(server.requests)
    CALLS[call](forge_at(server.url))
    asked = {
        f"{one.method} {one.path.partition('?')[0].removeprefix(REPO)}"
        for one in server.requests[before:]
        if one.path.startswith(REPO)
    }
    return sorted(asked & ANSWERS.keys())


def test_an_open_runner_group_is_told(server: Scripted) -> None:
    def rule(request: Request) -> Reply | None:
        if request.path.startswith("/orgs/hosp/actions/runner-groups/3"):
            return Reply(body={"name": "site", "allows_public_repositories": True})
        return answering(good())(request)

    server.rule = rule
    assert amiss(forge_at(server.url).settings())["runner-group"] == (CheckStatus.FAIL, "OpenRunnerGroup")
