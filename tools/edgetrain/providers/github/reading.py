"""Answers of the API as the port's own values; whatever is not as GitHub's are is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import Account, CheckResult, PullRequest, Review, WorkflowRun
from edgetrain.core.ports.forge import ReviewState
from edgetrain.providers.github.transport import not_understood

T = TypeVar("T")
STATES = {"APPROVED", "CHANGES_REQUESTED", "COMMENTED", "DISMISSED"}
GHOST = Account(0, "ghost")  # whose account is gone
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}(\[bot\])?")
_UNSOUND = (KeyError, TypeError, ValueError, AttributeError)


def read(host: str, reader: Callable[[Any], T], answer: Any) -> T:
    """What the reader makes of the answer. Raises Rejected where it can't."""
    try:
        return reader(answer)
    except Rejected:
        raise
    except _UNSOUND:
        raise not_understood(host) from None


def account(value: Any) -> Account:
    """An account of an answer; None is one that is gone."""
    if value is None:
        return GHOST
    login = text(value["login"])
    if not _LOGIN.fullmatch(login):
        raise ValueError("login")
    return Account(count(value["id"]), login, value.get("type") == "Bot")


def pull_request(value: Any) -> PullRequest:
    """A whole pull request; one of a list tells not who merged it."""
    merged = value.get("merged_at") is not None
    head = value["head"]
    return PullRequest(
        number=count(value["number"]),
        url=web(value["html_url"]),
        title=text(value["title"]),
        open=value["state"] == "open",
        head=sha(head["sha"]),
        branch=text(head["ref"]),
        repository=text(head["repo"]["full_name"]) if head.get("repo") else "",
        base=text(value["base"]["ref"]),
        author=account(value["user"]),
        merged=sha(value["merge_commit_sha"]) if merged else None,
        merged_by=account(value["merged_by"]) if merged and value.get("merged_by") else None,
        merged_at=moment(value["merged_at"]) if merged else None,
    )


def review(value: Any) -> Review | None:
    """A review; None for one that is not sent yet."""
    if value["state"] not in STATES:
        return None
    state = cast(ReviewState, value["state"].lower())
    commit = sha(value["commit_id"]) if value.get("commit_id") else ""
    return Review(account(value["user"]), state, moment(value["submitted_at"]), commit)


def changed(value: Any) -> tuple[str, ...]:
    """The names of a changed file: the one before too, if it was renamed."""
    names = (value["filename"], value.get("previous_filename"))
    return tuple(text(name, 4096) for name in names if name)


def check(value: Any) -> tuple[int, CheckResult]:
    """A check's result, and its number: later ones are higher."""
    conclusion = text(value["conclusion"], 60) if value.get("conclusion") else ""
    return count(value["id"]), CheckResult(text(value["name"]), conclusion)


def workflow_run(value: Any) -> WorkflowRun:
    """A run of a workflow."""
    repository = value.get("head_repository")
    return WorkflowRun(
        id=count(value["id"]),
        workflow=text(value["path"]).partition("@")[0],
        event=text(value["event"], 60),
        head=sha(value["head_sha"]),
        branch=text(value["head_branch"]) if value.get("head_branch") else "",
        repository=text(repository["full_name"]) if repository else "",
        conclusion=text(value["conclusion"], 60) if value.get("conclusion") else "",
    )


def labels(value: Any) -> set[str]:
    """The labels of a pull request or an issue."""
    return {text(one if isinstance(one, str) else one["name"]) for one in value.get("labels") or []}


def asked(value: Any) -> set[str]:
    """Who is asked for a review, in small letters: logins, and teams with a slash before."""
    people = {text(one["login"]).lower() for one in value.get("requested_reviewers") or []}
    return people | {"/" + text(one["slug"]).lower() for one in value.get("requested_teams") or []}


def runner_labels(value: Any) -> set[str]:
    """The labels of a runner, in small letters."""
    return {text(one["name"], 256).lower() for one in value["labels"]}


def artifact(value: Any) -> tuple[int, int]:
    """Number and size of an artifact: newer ones have higher numbers."""
    return count(value["id"]), count(value["size_in_bytes"])


def text(value: Any, most: int = 2000) -> str:
    """A text, bounded. Raises ValueError."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError("text")
    return value


def count(value: Any) -> int:
    """A number of GitHub's. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("number")
    return int(value)


def sha(value: Any) -> str:
    """A commit's id. Raises ValueError."""
    if not _SHA.fullmatch(text(value)):
        raise ValueError("commit")
    return str(value)


def web(value: Any) -> str:
    """The address of a page. Raises ValueError."""
    if not re.fullmatch(r"https?://[!-~]{1,1000}", text(value)) or set(value) & set("\"'<>\\`()[]"):
        raise ValueError("address")
    return str(value)


def moment(value: Any) -> str:
    """A time in UTC, to the second. Raises ValueError."""
    return datetime.fromisoformat(text(value, 40)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError("object")
    return value


def objects(value: Any) -> list[dict[str, Any]]:
    """The JSON objects of a list; none of what is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
