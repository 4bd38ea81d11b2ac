"""The calls about pull requests, their reviews and the commits they bring."""

from __future__ import annotations

from testbed.github import bare, pulls, shapes, shapes_pulls
from testbed.github.access import ROLES, role
from testbed.github.pulls import Invalid, wrong
from testbed.github.rest import REPO, Answer, Call, Refused, route
from testbed.github.store import Record

PULL = f"{REPO}/pulls/{{pull_number}}"
MOST_FILES = 3000
MOST_COMMITS = 250


@route("GET", f"{REPO}/pulls", "pull_requests:read")
def listed(call: Call) -> Answer:
    """Those of a state, head and base."""
    query, found = call.query, []
    for issue in call.repository["issues"].values():
        pull = issue["pull"]
        if not pull or query.get("state", "open") not in (issue["state"], "all"):
            continue
        # GitHub takes no notice of a head without its owner.
        if ":" in query.get("head", "") and query["head"] != f"{pull['head_owner']}:{pull['head']}":
            continue
        if query.get("base") in (None, pull["base"]):
            found.append(issue)
    key = {"updated": "updated_at"}.get(query.get("sort", ""), "created_at")
    newest = query.get("direction", "asc" if "sort" in query and query["sort"] != "created" else "desc") == "desc"
    found.sort(key=lambda one: (one[key], one["number"]), reverse=newest)
    return call.page(found, lambda one: shapes_pulls.pull(call.store, call.repository, one))


@route("POST", f"{REPO}/pulls", "pull_requests:write", role="read")
def create(call: Call) -> Answer:
    """A new one."""
    body = call.body
    if call.actor.kind == "job" and not call.repository["actions"]["can_approve_pull_request_reviews"]:
        raise Refused(403, "GitHub Actions is not permitted to create or approve pull requests.")
    if not isinstance(body.get("title"), str) or not body["title"].strip():
        raise Invalid(wrong("PullRequest", "title", "missing_field"))
    issue = pulls.open_pull(
        call.store,
        call.repository,
        call.actor,
        title=body["title"],
        head=body["head"],
        base=body["base"],
        body=body.get("body"),
        draft=bool(body.get("draft")),
        wakes=call.wakes,
    )
    return Answer(201, shapes_pulls.pull(call.store, call.repository, issue, full=True))


@route("GET", PULL, "pull_requests:read")
def get(call: Call) -> Answer:
    """One."""
    issue = call.issue("pull_number", pull=True)
    return Answer(200, shapes_pulls.pull(call.store, call.repository, issue, full=True))


@route("PATCH", PULL, "pull_requests:write", role="read")
def update(call: Call) -> Answer:
    """Change title, body, state or base."""
    issue, body = call.issue("pull_number", pull=True), call.body
    mine = issue["account"] == call.actor.account
    if call.actor.kind == "user" and not mine and not call.may("pull_requests", "write", "write"):
        raise Refused(403, "Must have admin rights to Repository.")
    if "title" in body and not body["title"].strip():
        raise Invalid(wrong("PullRequest", "title", "missing_field"))
    if "base" in body and body["base"] != issue["pull"]["base"]:
        if call.bare.branch(body["base"]) is None:
            raise Invalid(wrong("PullRequest", "base"))
        issue["pull"]["base"] = body["base"]
        pulls.show(call.store, call.repository, issue["pull"])
    issue |= {name: body[name] for name in ("title", "body") if name in body}
    issue["updated_at"] = call.store.now()
    state = body.get("state")
    if state == "closed" and issue["state"] == "open":
        pulls.close(call.store, call.repository, issue, call.actor, wakes=call.wakes)
    elif state == "open" and issue["state"] == "closed":
        pulls.reopen(call.store, call.repository, issue, call.actor, wakes=call.wakes)
    elif state is None:
        pulls.edited(call.store, call.repository, issue, call.actor, wakes=call.wakes)
    return Answer(200, shapes_pulls.pull(call.store, call.repository, issue, full=True))


@route("GET", f"{PULL}/files", "pull_requests:read")
def files(call: Call) -> Answer:
    """What it changes."""
    pull = call.issue("pull_number", pull=True)["pull"]
    start = call.bare.merge_base(pull["base_sha"], pull["head_sha"])
    found = call.bare.changed(start, pull["head_sha"])[:MOST_FILES]

    def shape(one: bare.Changed) -> Record:
        web, api = f"{call.store.web}/{call.repository['full_name']}", call.url.partition("/pulls/")[0]
        made: Record = {
            "sha": one.blob,
            "filename": one.path,
            "status": one.status,
            "additions": one.additions,
            "deletions": one.deletions,
            "changes": one.additions + one.deletions,
            "blob_url": f"{web}/blob/{pull['head_sha']}/{one.path}",
            "raw_url": f"{web}/raw/{pull['head_sha']}/{one.path}",
            "contents_url": f"{api}/contents/{one.path}?ref={pull['head_sha']}",
        }
        made |= {"patch": one.patch} if one.patch else {}
        return made | {"previous_filename": one.before} if one.before else made

    return call.page(found, shape)


@route("GET", f"{PULL}/commits", "pull_requests:read")
def commits(call: Call) -> Answer:
    """What it brings, oldest first."""
    pull = call.issue("pull_number", pull=True)["pull"]
    found = call.bare.between(pull["base_sha"], pull["head_sha"])[:MOST_COMMITS]
    return call.page(found, lambda sha: shapes.commit(call.store, call.repository, call.bare.commit(sha)))


@route("GET", f"{PULL}/merge", "pull_requests:read")
def is_merged(call: Call) -> Answer:
    """204 if it is."""
    if call.issue("pull_number", pull=True)["pull"]["merged_at"] is None:
        raise Refused(404, "Not Found")
    return Answer(204)


@route("PUT", f"{PULL}/merge", "contents:write")
def merge(call: Call) -> Answer:
    """Merge it."""
    sha = pulls.merge(
        call.store,
        call.repository,
        call.issue("pull_number", pull=True),
        call.actor,
        method=call.body.get("merge_method", "merge"),
        sha=call.body.get("sha"),
        title=call.body.get("commit_title"),
        text=call.body.get("commit_message"),
        wakes=call.wakes,
    )
    return Answer(200, {"sha": sha, "merged": True, "message": "Pull Request successfully merged"})


@route("GET", f"{PULL}/requested_reviewers", "pull_requests:read")
def requested(call: Call) -> Answer:
    """Who was asked and has not answered."""
    pull = call.issue("pull_number", pull=True)["pull"]
    people = [shapes.user_of(call.store, one) for one in pull["requested_reviewers"]]
    return Answer(
        200, {"users": people, "teams": [shapes.team(call.store, one) for one in pull["requested_teams"]]}
    )


@route("POST", f"{PULL}/requested_reviewers", "pull_requests:write")
def request(call: Call) -> Answer:
    """Ask more."""
    issue = call.issue("pull_number", pull=True)
    asked, teams = call.body.get("reviewers", []), call.body.get("team_reviewers", [])
    pulls.request_reviews(call.store, call.repository, issue, asked, teams)
    return Answer(201, shapes_pulls.pull(call.store, call.repository, issue))


@route("DELETE", f"{PULL}/requested_reviewers", "pull_requests:write")
def unrequest(call: Call) -> Answer:
    """Ask them no more."""
    issue = call.issue("pull_number", pull=True)
    pull, gone = issue["pull"], {one.lower() for one in call.body.get("reviewers", [])}
    teams = {f"{call.repository['owner']}/{one}".lower() for one in call.body.get("team_reviewers", [])}
    pull["requested_reviewers"] = [
        one for one in pull["requested_reviewers"] if call.store.account_of(one)["login"].lower() not in gone
    ]
    pull["requested_teams"] = [one for one in pull["requested_teams"] if one not in teams]
    return Answer(200, shapes_pulls.pull(call.store, call.repository, issue))


@route("GET", f"{PULL}/reviews", "pull_requests:read")
def reviews(call: Call) -> Answer:
    """All, oldest first; one that waits to be sent only for its author."""
    number = call.issue("pull_number", pull=True)["number"]
    found = [
        one
        for one in call.repository["reviews"].values()
        if one["pull"] == number and (one["state"] != "PENDING" or one["account"] == call.actor.account)
    ]
    return call.page(found, lambda one: shapes_pulls.review(call.store, call.repository, one))


@route("POST", f"{PULL}/reviews", "pull_requests:write", role="read")
def review(call: Call) -> Answer:
    """A new one; without `event` it waits to be sent."""
    events = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}
    state = events.get(call.body.get("event", ""), "PENDING")
    body = call.body.get("body", "")
    if state in ("CHANGES_REQUESTED", "COMMENTED") and not body:
        raise Invalid(message="Unprocessable Entity")
    approves = state == "APPROVED" and call.actor.kind == "job"
    if approves and not call.repository["actions"]["can_approve_pull_request_reviews"]:
        raise Invalid(message="GitHub Actions is not permitted to approve pull requests.")
    issue = call.issue("pull_number", pull=True)
    commit = call.body.get("commit_id")
    made = pulls.review(call.store, call.repository, issue, call.actor, state, body, commit, call.wakes)
    return Answer(200, shapes_pulls.review(call.store, call.repository, made))


@route("PUT", f"{PULL}/reviews/{{review_id}}/dismissals", "pull_requests:write")
def dismiss(call: Call) -> Answer:
    """Take an approval or a refusal away."""
    number = call.issue("pull_number", pull=True)["number"]
    found = call.repository["reviews"].get(call.path["review_id"])
    if found is None or found["pull"] != number:
        raise Refused(404, "Not Found")
    if found["state"] not in ("APPROVED", "CHANGES_REQUESTED"):
        raise Invalid(message=f"Can not dismiss a {found['state'].lower()} pull request review")
    if call.actor.kind == "user" and role(call.store, call.repository, call.actor.login) < ROLES["write"]:
        raise Refused(403, "Must have admin rights to Repository.")
    found["state"] = "DISMISSED"
    return Answer(200, shapes_pulls.review(call.store, call.repository, found))


@route("GET", f"{REPO}/commits/{{commit_sha}}/pulls", "pull_requests:read")
def of_commit(call: Call) -> Answer:
    """The merged one that brought a commit to the default branch; before that, the open ones that hold it."""
    sha = call.bare.resolve(call.path["commit_sha"])
    if sha is None:
        raise Refused(422, f"No commit found for SHA: {call.path['commit_sha']}")
    pulled = [one for one in call.repository["issues"].values() if one["pull"]]
    merged = [one for one in pulled if one["pull"]["merged_at"] and _brought(call, one["pull"], sha)]
    still = [one for one in pulled if one["state"] == "open" and _holds(call, one["pull"], sha)]
    default = call.bare.branch(call.repository["default_branch"])
    arrived = default is not None and call.bare.contains(default, sha)
    found = merged if arrived else [*merged, *still]
    return call.page(found, lambda one: shapes_pulls.pull(call.store, call.repository, one))


def _brought(call: Call, pull: Record, sha: str) -> bool:
    return bool(pull["merge_commit_sha"] == sha) or _holds(call, pull, sha)


def _holds(call: Call, pull: Record, sha: str) -> bool:
    held = call.bare.contains(pull["head_sha"], sha)
    return held and not call.bare.contains(pull["base_sha"], sha)
