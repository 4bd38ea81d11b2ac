"""How GitHub writes pull requests, issues, comments and reviews in JSON."""

from __future__ import annotations

from testbed.github.bare import Bare
from testbed.github.shapes import app, association, label, minimal_repository, node, repository, team, user, user_of
from testbed.github.store import Record, Store


def issue(store: Store, repo: Record, record: Record) -> Record:
    """`issue`; pull requests have one too."""
    api, web = f"{store.api}/repos/{repo['full_name']}", f"{store.web}/{repo['full_name']}"
    url, pull = f"{api}/issues/{record['number']}", record["pull"]
    page = f"{web}/{'pull' if pull else 'issues'}/{record['number']}"
    made: Record = {
        "url": url,
        "repository_url": api,
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": page,
        "id": record["id"],
        "node_id": node("Issue", record["id"]),
        "number": record["number"],
        "title": record["title"],
        "user": user_of(store, record["account"]),
        "labels": [label(store, repo, name) for name in record["labels"]],
        "state": record["state"],
        "locked": False,
        "assignees": [user(store, store.account(login)) for login in record["assignees"]],
        "assignee": user(store, store.account(record["assignees"][0])) if record["assignees"] else None,
        "milestone": None,
        "comments": sum(one["issue"] == record["number"] for one in repo["comments"].values()),
        "created_at": record["created_at"],
        "updated_at": record["updated_at"],
        "closed_at": record["closed_at"],
        "closed_by": user_of(store, record["closed_by"]),
        "author_association": association(store, repo, record["account"]),
        "active_lock_reason": None,
        "body": record["body"],
        "timeline_url": f"{url}/timeline",
        "performed_via_github_app": _app(store, record["app"]),
        "state_reason": record["state_reason"],
    }
    if pull:
        made |= {
            "draft": pull["draft"],
            "pull_request": {
                "url": f"{api}/pulls/{record['number']}",
                "html_url": page,
                "diff_url": f"{page}.diff",
                "patch_url": f"{page}.patch",
                "merged_at": pull["merged_at"],
            },
        }
    return made


def _app(store: Store, number: int) -> Record | None:
    return app(store, store.state["apps"][str(number)]) if number else None


def comment(store: Store, repo: Record, record: Record) -> Record:
    """`issue-comment`."""
    api, web = f"{store.api}/repos/{repo['full_name']}", f"{store.web}/{repo['full_name']}"
    kind = "pull" if repo["issues"][str(record["issue"])]["pull"] else "issues"
    return {
        "id": record["id"],
        "node_id": node("IssueComment", record["id"]),
        "url": f"{api}/issues/comments/{record['id']}",
        "html_url": f"{web}/{kind}/{record['issue']}#issuecomment-{record['id']}",
        "issue_url": f"{api}/issues/{record['issue']}",
        "body": record["body"],
        "user": user_of(store, record["account"]),
        "created_at": record["created_at"],
        "updated_at": record["updated_at"],
        "author_association": association(store, repo, record["account"]),
        "performed_via_github_app": _app(store, record["app"]),
    }


def review(store: Store, repo: Record, record: Record) -> Record:
    """`pull-request-review`."""
    api = f"{store.api}/repos/{repo['full_name']}/pulls/{record['pull']}"
    page = f"{store.web}/{repo['full_name']}/pull/{record['pull']}#pullrequestreview-{record['id']}"
    made: Record = {
        "id": record["id"],
        "node_id": node("PullRequestReview", record["id"]),
        "user": user_of(store, record["account"]),
        "body": record["body"],
        "state": record["state"],
        "html_url": page,
        "pull_request_url": api,
        "_links": {"html": {"href": page}, "pull_request": {"href": api}},
        "commit_id": record["commit_id"],
        "author_association": association(store, repo, record["account"]),
    }
    # One that is not sent has no time.
    return made | {"submitted_at": record["submitted_at"]} if record["submitted_at"] else made


def pull(store: Store, repo: Record, record: Record, full: bool = False) -> Record:
    """`pull-request-simple`, or (full) `pull-request`; of an issue record with a pull request."""
    known, api = record["pull"], f"{store.api}/repos/{repo['full_name']}"
    url, number = f"{api}/pulls/{record['number']}", record["number"]
    page = f"{store.web}/{repo['full_name']}/pull/{number}"
    source = store.repository_of(known["head_repository"])
    statuses = f"{api}/statuses/{known['head_sha']}"
    links = {
        "self": url,
        "html": page,
        "issue": f"{api}/issues/{number}",
        "comments": f"{api}/issues/{number}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{api}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": statuses,
    }
    made: Record = {
        "url": url,
        "id": record["id"],
        "node_id": node("PullRequest", record["id"]),
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        **{f"{name}_url": link for name, link in links.items() if name not in ("self", "html")},
        "number": number,
        "state": record["state"],
        "locked": False,
        "title": record["title"],
        "user": user_of(store, record["account"]),
        "body": record["body"],
        "created_at": record["created_at"],
        "updated_at": record["updated_at"],
        "closed_at": record["closed_at"],
        "merged_at": known["merged_at"],
        "merge_commit_sha": known["merge_commit_sha"],
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [user_of(store, one) for one in known["requested_reviewers"]],
        "requested_teams": [team(store, one) for one in known["requested_teams"]],
        "labels": [label(store, repo, name) for name in record["labels"]],
        "milestone": None,
        "draft": known["draft"],
        "head": _side(store, known["head_owner"], known["head"], known["head_sha"], source),
        "base": _side(store, repo["owner"], known["base"], known["base_sha"], repo),
        "_links": {name: {"href": link} for name, link in links.items()},
        "author_association": association(store, repo, record["account"]),
        "auto_merge": None,
        "active_lock_reason": None,
    }
    return made | _details(store.bare(repo), store, repo, record) if full else made


def _side(store: Store, owner: str, branch: str, sha: str, repo: Record | None) -> Record:
    return {
        "label": f"{owner}:{branch}",
        "ref": branch,
        "sha": sha,
        "user": user(store, store.account(owner)),
        "repo": repository(store, repo) if repo else None,
    }


def _details(bare: Bare, store: Store, repo: Record, record: Record) -> Record:
    known = record["pull"]
    base = bare.merge_base(known["base_sha"], known["head_sha"])
    files = bare.changed(base, known["head_sha"])
    is_open = record["state"] == "open"
    return {
        "merged": known["merged_at"] is not None,
        "mergeable": known["mergeable"] if is_open else None,
        "rebaseable": False if is_open else None,
        "mergeable_state": ("clean" if known["mergeable"] else "dirty") if is_open else "unknown",
        "merged_by": user_of(store, known["merged_by"]),
        "comments": sum(one["issue"] == record["number"] for one in repo["comments"].values()),
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": len(bare.between(base, known["head_sha"])),
        "additions": sum(one.additions for one in files),
        "deletions": sum(one.deletions for one in files),
        "changed_files": len(files),
    }


def minimal_pull(store: Store, repo: Record, record: Record) -> Record:
    """`pull-request-minimal`."""
    known = record["pull"]
    source = store.repository_of(known["head_repository"]) or repo

    def side(where: Record, branch: str, sha: str) -> Record:
        short = minimal_repository(store, where)
        return {"ref": branch, "sha": sha, "repo": {name: short[name] for name in ("id", "url", "name")}}

    return {
        "id": record["id"],
        "number": record["number"],
        "url": f"{store.api}/repos/{repo['full_name']}/pulls/{record['number']}",
        "head": side(source, known["head"], known["head_sha"]),
        "base": side(repo, known["base"], known["base_sha"]),
    }
