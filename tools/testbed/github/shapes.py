"""How GitHub writes things in JSON: accounts, repositories, pull requests, issues, reviews."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from testbed.github.access import ROLES, Actor, role
from testbed.github.bare import Commit, Person
from testbed.github.store import Record, Store

USER_LINKS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}
REPOSITORY_LINKS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


def node(kind: str, number: int) -> str:
    """A node id, as the older ones looked."""
    return base64.b64encode(f"0{len(kind)}:{kind}{number}".encode()).decode()


def user(store: Store, account: Mapping[str, Any]) -> Record:
    """`simple-user`."""
    login, api = account["login"], f"{store.api}/users/{account['login']}"
    page = f"{store.web}/apps/{login.removesuffix('[bot]')}" if account["type"] == "Bot" else f"{store.web}/{login}"
    return {
        "login": login,
        "id": account["id"],
        "node_id": node("User", account["id"]),
        "avatar_url": f"{store.web}/avatars/{account['id']}",
        "gravatar_id": "",
        "url": api,
        "html_url": page,
        **{name: api + rest for name, rest in USER_LINKS.items()},
        "type": account["type"],
        "user_view_type": "public",
        "site_admin": False,
    }


def user_of(store: Store, number: int | None) -> Record | None:
    """`nullable-simple-user`."""
    return None if number is None else user(store, store.account_of(number))


def minimal_repository(store: Store, record: Record) -> Record:
    """What every shape of a repository starts with."""
    api, web = f"{store.api}/repos/{record['full_name']}", f"{store.web}/{record['full_name']}"
    return {
        "id": record["id"],
        "node_id": node("Repository", record["id"]),
        "name": record["name"],
        "full_name": record["full_name"],
        "private": record["private"],
        "owner": user(store, store.account(record["owner"])),
        "html_url": web,
        "description": None,
        "fork": record["fork_of"] is not None,
        "url": api,
        **{name: api + rest for name, rest in REPOSITORY_LINKS.items()},
    }


def repository(store: Store, record: Record, actor: Actor | None = None) -> Record:
    """`repository`, and `full-repository` but for what is read of one alone."""
    web, host = f"{store.web}/{record['full_name']}", store.web.partition("://")[2]
    issues = sum(issue["state"] == "open" for issue in record["issues"].values())
    forks = sum(one["fork_of"] == record["id"] for one in store.state["repositories"].values())
    made: Record = {
        **minimal_repository(store, record),
        "git_url": f"git://{host}/{record['full_name']}.git",
        "ssh_url": f"git@{host.partition(':')[0]}:{record['full_name']}.git",
        "clone_url": f"{web}.git",
        "svn_url": web,
        "mirror_url": None,
        "homepage": None,
        "language": None,
        "license": None,
        "size": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "watchers": 0,
        "forks_count": forks,
        "forks": forks,
        "open_issues_count": issues,
        "open_issues": issues,
        "default_branch": record["default_branch"],
        "topics": [],
        "has_issues": True,
        "has_projects": False,
        "has_wiki": False,
        "has_pages": False,
        "has_downloads": False,
        "has_discussions": False,
        "archived": False,
        "disabled": False,
        "visibility": "private" if record["private"] else "public",
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "pushed_at": record["pushed_at"],
        "created_at": record["created_at"],
        "updated_at": record["pushed_at"],
    }
    if actor is not None and actor.kind == "user":
        rank = role(store, record, actor.login)
        made["permissions"] = {
            "admin": rank >= ROLES["admin"],
            "maintain": rank >= ROLES["maintain"],
            "push": rank >= ROLES["write"],
            "triage": rank >= ROLES["triage"],
            "pull": rank >= ROLES["read"] or not record["private"],
        }
    return made


def team(store: Store, name: str) -> Record:
    """`team-simple` and `team`."""
    record = store.state["teams"][name]
    owner, slug = name.split("/")
    api = f"{store.api}/organizations/{store.account(owner)['id']}/team/{record['id']}"
    return {
        "id": record["id"],
        "node_id": node("Team", record["id"]),
        "url": api,
        "html_url": f"{store.web}/orgs/{owner}/teams/{slug}",
        "name": slug,
        "slug": slug,
        "description": None,
        "privacy": "closed",
        "notification_setting": "notifications_enabled",
        "permission": "pull",
        "members_url": f"{api}/members{{/member}}",
        "repositories_url": f"{api}/repos",
        "type": "organization",
        "parent": None,
    }


def label(store: Store, repository: Record, name: str) -> Record:
    """`label`."""
    record = repository["labels"][name]
    return {
        "id": record["id"],
        "node_id": node("Label", record["id"]),
        "url": f"{store.api}/repos/{repository['full_name']}/labels/{name}",
        "name": name,
        "color": record["color"],
        "default": False,
        "description": record["description"] or "",
    }


def app(store: Store, record: Mapping[str, Any]) -> Record:
    """`integration`."""
    return {
        "id": record["id"],
        "client_id": record["client_id"],
        "slug": record["slug"],
        "node_id": node("Integration", record["id"]),
        "owner": user(store, store.account(record["owner"])),
        "name": record["slug"],
        "description": "",
        "external_url": f"{store.web}/{record['owner']}",
        "html_url": f"{store.web}/apps/{record['slug']}",
        "created_at": record["created_at"],
        "updated_at": record["created_at"],
        "permissions": {"metadata": "read", **record["permissions"]},
        "events": [],
    }


def association(store: Store, repository: Record, account: int) -> str:
    """`author-association`."""
    login = store.account_of(account)["login"]
    rank = role(store, repository, login)
    if login.lower() == repository["owner"].lower():
        return "OWNER"
    return "COLLABORATOR" if rank else "NONE"


def git_user(person: Person, date: str) -> Record:
    """`git-user`."""
    return {"name": person.name, "email": person.email, "date": date}


def commit(store: Store, repository: Record, found: Commit) -> Record:
    """`commit`."""
    api = f"{store.api}/repos/{repository['full_name']}"
    web = f"{store.web}/{repository['full_name']}"
    author, committer = store.by_email(found.author.email), store.by_email(found.committer.email)
    unsigned = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}
    return {
        "sha": found.sha,
        "node_id": node("Commit", int(found.sha[:12], 16)),
        "commit": {
            "author": git_user(found.author, found.written),
            "committer": git_user(found.committer, found.committed),
            "message": found.message,
            "tree": {"sha": found.tree, "url": f"{api}/git/trees/{found.tree}"},
            "url": f"{api}/git/commits/{found.sha}",
            "comment_count": 0,
            "verification": unsigned,
        },
        "url": f"{api}/commits/{found.sha}",
        "html_url": f"{web}/commit/{found.sha}",
        "comments_url": f"{api}/commits/{found.sha}/comments",
        "author": user(store, author) if author else None,
        "committer": user(store, committer) if committer else None,
        "parents": [
            {"sha": one, "url": f"{api}/commits/{one}", "html_url": f"{web}/commit/{one}"} for one in found.parents
        ],
    }
