"""The calls about issues, their labels and comments; pull requests are issues too."""

from __future__ import annotations

from testbed.github import payloads, pulls, shapes, shapes_pulls
from testbed.github.access import ROLES, role
from testbed.github.pulls import Invalid, wrong
from testbed.github.rest import REPO, Answer, Call, Refused, route
from testbed.github.store import Record

ISSUE = f"{REPO}/issues/{{issue_number}}"
LONGEST = 65536  # characters of a body


@route("GET", f"{REPO}/issues", "issues|pull_requests:read")
def listed(call: Call) -> Answer:
    """Issues and pull requests of a state, with labels, by a creator."""
    query, labels = call.query, [one for one in call.query.get("labels", "").split(",") if one]
    found = [
        one
        for one in call.repository["issues"].values()
        if query.get("state", "open") in (one["state"], "all")
        and set(labels) <= set(one["labels"])
        and query.get("since", "") <= one["updated_at"]
        and ("creator" not in query or _login(call, one["account"]) == query["creator"].lower())
        and (call.may("issues", "read", "read") or one["pull"])
    ]
    key = {"updated": "updated_at"}.get(query.get("sort", ""), "created_at")
    newest = query.get("direction", "desc") == "desc"
    found.sort(key=lambda one: (one[key], one["number"]), reverse=newest)
    return call.page(found, lambda one: shapes_pulls.issue(call.store, call.repository, one))


def _login(call: Call, account: int) -> str:
    login: str = call.store.account_of(account)["login"]
    return login.lower()


def _issue(call: Call, level: str = "write") -> Record:
    """The issue that the path names. The right to pull requests is for those that are one. Raises Refused."""
    return _reached(call, call.issue(), level)


def _reached(call: Call, issue: Record, level: str) -> Record:
    if not issue["pull"] and not call.may("issues", level, "read"):
        raise Refused(403, "Resource not accessible by integration")
    return issue


def _text(value: object, resource: str, field: str) -> None:
    if isinstance(value, str) and len(value) > LONGEST:
        told = f"{field} is too long (maximum is {LONGEST} characters)"
        raise Invalid(wrong(resource, field, "custom", message=told))


def _labels(body: Record) -> list[str]:
    return [one if isinstance(one, str) else one["name"] for one in body.get("labels") or []]


def _privileged(call: Call) -> bool:
    """Whether labels and the like are taken from this actor; GitHub leaves others' out silently."""
    return call.actor.machine or role(call.store, call.repository, call.actor.login) >= ROLES["triage"]


@route("POST", f"{REPO}/issues", "issues:write", role="read")
def create(call: Call) -> Answer:
    """A new issue."""
    body = dict(call.body)
    if not str(body.get("title") or "").strip():
        raise Invalid(wrong("Issue", "title", "missing_field"))
    _text(body.get("body"), "Issue", "body")
    labels = _labels(body) if _privileged(call) else []
    issue = pulls.new_issue(
        call.store,
        call.repository,
        call.actor,
        str(body["title"]),
        body.get("body"),
        labels,
        _assignees(call, body),
    )
    payloads.issue_happened(call.store, call.repository, issue, "opened", call.actor, wakes=call.wakes)
    return Answer(201, shapes_pulls.issue(call.store, call.repository, issue))


def _assignees(call: Call, body: Record) -> list[str]:
    for login in body.get("assignees") or []:
        if not role(call.store, call.repository, login):
            raise Invalid(wrong("Issue", "assignees", "invalid", value=login))
    return list(body.get("assignees") or [])


@route("GET", ISSUE, "issues|pull_requests:read")
def get(call: Call) -> Answer:
    """One."""
    return Answer(200, shapes_pulls.issue(call.store, call.repository, _issue(call, "read")))


@route("PATCH", ISSUE, "issues|pull_requests:write", role="read")
def update(call: Call) -> Answer:
    """Change title, body, state or labels."""
    issue, body = _issue(call), dict(call.body)
    _own_or_privileged(call, issue["account"])
    _text(body.get("body"), "Issue", "body")
    issue |= {name: body[name] for name in ("title", "body") if name in body}
    if "labels" in body and _privileged(call):
        _label(call, issue, _labels(body))
    if "assignees" in body:
        issue["assignees"] = _assignees(call, body)
    issue["updated_at"] = call.store.now()
    _state(call, issue, body)
    return Answer(200, shapes_pulls.issue(call.store, call.repository, issue))


def _state(call: Call, issue: Record, body: Record) -> None:
    wanted = body.get("state")
    if wanted == "closed" and issue["state"] == "open":
        pulls.close(call.store, call.repository, issue, call.actor, wakes=call.wakes)
        issue["state_reason"] = body.get("state_reason") or ("completed" if not issue["pull"] else None)
        action = "closed"
    elif wanted == "open" and issue["state"] == "closed":
        pulls.reopen(call.store, call.repository, issue, call.actor, wakes=call.wakes)
        action = "reopened"
    else:
        action = "edited"
    if not issue["pull"]:
        payloads.issue_happened(call.store, call.repository, issue, action, call.actor, wakes=call.wakes)


def _own_or_privileged(call: Call, author: int) -> None:
    if not call.actor.machine and author != call.actor.account and not _privileged(call):
        raise Refused(403, "Must have admin rights to Repository.")


def _label(call: Call, issue: Record, names: list[str]) -> None:
    for name in names:
        pulls.ensure_label(call.store, call.repository, name)
    issue["labels"] = list(dict.fromkeys(names))


@route("GET", f"{ISSUE}/labels", "issues|pull_requests:read")
def labels(call: Call) -> Answer:
    """Its labels."""
    return call.page(_issue(call, "read")["labels"], lambda name: shapes.label(call.store, call.repository, name))


@route("POST", f"{ISSUE}/labels", "issues|pull_requests:write", role="triage")
def add_labels(call: Call) -> Answer:
    """More of them."""
    issue = _issue(call)
    _label(call, issue, [*issue["labels"], *_named(call)])
    return labels(call)


@route("PUT", f"{ISSUE}/labels", "issues|pull_requests:write", role="triage")
def set_labels(call: Call) -> Answer:
    """These and no others."""
    _label(call, _issue(call), _named(call))
    return labels(call)


def _named(call: Call) -> list[str]:
    body = call.body
    return _labels({"labels": body}) if isinstance(body, list) else _labels(dict(body))


@route("GET", f"{ISSUE}/comments", "issues|pull_requests:read")
def comments(call: Call) -> Answer:
    """Its comments, oldest first."""
    number, since = _issue(call, "read")["number"], call.query.get("since", "")
    found = [
        one for one in call.repository["comments"].values() if one["issue"] == number and since <= one["updated_at"]
    ]
    return call.page(found, lambda one: shapes_pulls.comment(call.store, call.repository, one))


@route("POST", f"{ISSUE}/comments", "issues|pull_requests:write", role="read")
def comment(call: Call) -> Answer:
    """A new comment."""
    issue = _issue(call)
    if not call.body.get("body"):
        raise Invalid(wrong("IssueComment", "body", "missing_field"))
    _text(call.body["body"], "IssueComment", "body")
    made = pulls.add_comment(call.store, call.repository, issue, call.actor, call.body["body"], wakes=call.wakes)
    return Answer(201, shapes_pulls.comment(call.store, call.repository, made))


def _comment(call: Call, level: str = "write") -> Record:
    found: Record | None = call.repository["comments"].get(call.path["comment_id"])
    if found is None:
        raise Refused(404, "Not Found")
    _reached(call, call.repository["issues"][str(found["issue"])], level)
    return found


@route("GET", f"{REPO}/issues/comments/{{comment_id}}", "issues|pull_requests:read")
def get_comment(call: Call) -> Answer:
    """One."""
    return Answer(200, shapes_pulls.comment(call.store, call.repository, _comment(call, "read")))


@route("PATCH", f"{REPO}/issues/comments/{{comment_id}}", "issues|pull_requests:write", role="read")
def change_comment(call: Call) -> Answer:
    """Another body."""
    found = _comment(call)
    _own_or_privileged(call, found["account"])
    _text(call.body["body"], "IssueComment", "body")
    found |= {"body": call.body["body"], "updated_at": call.store.now()}
    payloads.comment_happened(call.store, call.repository, found, "edited", call.actor, wakes=call.wakes)
    return Answer(200, shapes_pulls.comment(call.store, call.repository, found))


@route("DELETE", f"{REPO}/issues/comments/{{comment_id}}", "issues|pull_requests:write", role="read")
def delete_comment(call: Call) -> Answer:
    """Remove it."""
    found = _comment(call)
    _own_or_privileged(call, found["account"])
    payloads.comment_happened(call.store, call.repository, found, "deleted", call.actor, wakes=call.wakes)
    del call.repository["comments"][str(found["id"])]
    return Answer(204)
