"""What GitHub sends to webhooks, written to the log of events: from it a driver sees which workflows wake."""

from __future__ import annotations

from testbed.github import shapes, shapes_pulls
from testbed.github.access import Actor
from testbed.github.bare import NOTHING, Commit
from testbed.github.store import Record, Store

MOST_COMMITS = 2048


def push_happened(
    store: Store, repository: Record, actor: Actor, ref: str, old: str, new: str, *, wakes: bool = True
) -> None:
    """`push`, with the files that each commit touches."""
    bare = store.bare(repository)
    commits: list[Record] = []
    if new != NOTHING and ref.startswith("refs/heads/"):
        known = bare.branch(repository["default_branch"]) if old == NOTHING else old
        # The first push of the default branch has all of its history.
        excluded = None if known == new and old == NOTHING and _is_default(repository, ref) else known
        commits = [_commit(store, repository, bare.commit(sha)) for sha in bare.between(excluded, new)]
    web = f"{store.web}/{repository['full_name']}"
    head = _commit(store, repository, bare.commit(new)) if new != NOTHING else None
    payload: Record = {
        "ref": ref,
        "before": old,
        "after": new,
        "created": old == NOTHING,
        "deleted": new == NOTHING,
        "forced": NOTHING not in (old, new) and not bare.contains(new, old),
        "base_ref": None,
        "compare": f"{web}/compare/{old[:12]}...{new[:12]}",
        "commits": commits[-MOST_COMMITS:],
        "head_commit": head,
        "repository": shapes.repository(store, repository),
        "pusher": {"name": actor.login, "email": store.account(actor.login)["email"]},
        "sender": shapes.user_of(store, actor.account),
    }
    store.happened("push", "", repository, payload, wakes=wakes)


def _is_default(repository: Record, ref: str) -> bool:
    return ref == f"refs/heads/{repository['default_branch']}"


def _commit(store: Store, repository: Record, found: Commit) -> Record:
    author, committer = store.by_email(found.author.email), store.by_email(found.committer.email)
    return {
        "id": found.sha,
        "tree_id": found.tree,
        "distinct": True,
        "message": found.message,
        "timestamp": found.committed,
        "url": f"{store.web}/{repository['full_name']}/commit/{found.sha}",
        "author": {
            "name": found.author.name,
            "email": found.author.email,
            **({"username": author["login"]} if author else {}),
        },
        "committer": {
            "name": found.committer.name,
            "email": found.committer.email,
            **({"username": committer["login"]} if committer else {}),
        },
        **store.bare(repository).touched(found),
    }


def pull_happened(
    store: Store,
    repository: Record,
    issue: Record,
    action: str,
    actor: Actor,
    *,
    wakes: bool = True,
    **more: object,
) -> None:
    """`pull_request`."""
    payload = {
        "number": issue["number"],
        "pull_request": shapes_pulls.pull(store, repository, issue, full=True),
        "repository": shapes.repository(store, repository),
        "sender": shapes.user_of(store, actor.account),
        **more,
    }
    store.happened("pull_request", action, repository, payload, wakes=wakes)


def review_happened(
    store: Store, repository: Record, issue: Record, review: Record, actor: Actor, *, wakes: bool = True
) -> None:
    """`pull_request_review`."""
    payload = {
        "review": shapes_pulls.review(store, repository, review),
        "pull_request": shapes_pulls.pull(store, repository, issue),
        "repository": shapes.repository(store, repository),
        "sender": shapes.user_of(store, actor.account),
    }
    store.happened("pull_request_review", "submitted", repository, payload, wakes=wakes)


def issue_happened(
    store: Store, repository: Record, issue: Record, action: str, actor: Actor, *, wakes: bool = True
) -> None:
    """`issues`."""
    payload = {
        "issue": shapes_pulls.issue(store, repository, issue),
        "repository": shapes.repository(store, repository),
        "sender": shapes.user_of(store, actor.account),
    }
    store.happened("issues", action, repository, payload, wakes=wakes)


def comment_happened(
    store: Store, repository: Record, comment: Record, action: str, actor: Actor, *, wakes: bool = True
) -> None:
    """`issue_comment`."""
    issue = repository["issues"][str(comment["issue"])]
    payload = {
        "issue": shapes_pulls.issue(store, repository, issue),
        "comment": shapes_pulls.comment(store, repository, comment),
        "repository": shapes.repository(store, repository),
        "sender": shapes.user_of(store, actor.account),
    }
    store.happened("issue_comment", action, repository, payload, wakes=wakes)
