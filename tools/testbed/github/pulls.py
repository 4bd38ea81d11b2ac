"""Pull requests: opened, reviewed, kept in step with what is pushed, merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from testbed.github import owners, payloads, protection
from testbed.github.access import ROLES, Actor, role
from testbed.github.bare import NOTHING, Person, git_person
from testbed.github.store import Record, Store

WEB_FLOW = Person("GitHub", "noreply@github.com")
STATES = {
    "approved": "APPROVED",
    "changes_requested": "CHANGES_REQUESTED",
    "commented": "COMMENTED",
    "pending": "PENDING",
}


class Invalid(Exception):
    """The request is answered with 422; `errors` are GitHub's."""

    def __init__(self, *errors: Record, message: str = "Validation Failed") -> None:
        super().__init__(message)
        self.message, self.errors = message, list(errors)


class NotMergeable(Exception):
    """The merge is answered with 405, or 409 if the head is another one; the message is GitHub's."""

    def __init__(self, message: str, status: int = 405) -> None:
        super().__init__(message)
        self.status = status


def wrong(resource: str, field: str, code: str = "invalid", **more: Any) -> Record:
    """One of the `errors` of an answer with 422."""
    return {"resource": resource, "field": field, "code": code, **more}


def new_issue(
    store: Store,
    repository: Record,
    actor: Actor,
    title: str,
    body: str | None,
    labels: Iterable[str] = (),
    assignees: Iterable[str] = (),
) -> Record:
    """A new issue; pull requests are issues too."""
    repository["numbers"] += 1
    for label in labels:
        ensure_label(store, repository, label)
    record: Record = {
        "id": store.number(),
        "number": repository["numbers"],
        "account": actor.account,
        "app": actor.app,
        "title": title,
        "body": body,
        "state": "open",
        "state_reason": None,
        "labels": list(dict.fromkeys(labels)),
        "assignees": list(assignees),
        "created_at": store.now(),
        "updated_at": store.now(),
        "closed_at": None,
        "closed_by": None,
        "pull": None,
    }
    repository["issues"][str(record["number"])] = record
    return record


def ensure_label(store: Store, repository: Record, name: str) -> None:
    """The repository's label of this name; made if there is none."""
    repository["labels"].setdefault(name, {"id": store.number(), "color": "ededed", "description": None})


def open_pulls(repository: Record) -> list[Record]:
    """The open ones."""
    found = (issue["pull"] for issue in repository["issues"].values() if issue["pull"] and issue["state"] == "open")
    return [pull for pull in found if pull]


def open_pull(
    store: Store,
    repository: Record,
    actor: Actor,
    *,
    title: str,
    head: str,
    base: str,
    body: str | None = None,
    draft: bool = False,
    wakes: bool = True,
) -> Record:
    """A new pull request; its issue record. `head` is `branch` or `owner:branch`. Raises Invalid."""
    owner, _, branch = head.rpartition(":")
    source = _source(store, repository, owner) if owner else repository
    tip = store.bare(source).branch(branch) if source else None
    if source is None or tip is None:
        raise Invalid(wrong("PullRequest", "head"))
    if store.bare(repository).branch(base) is None:
        raise Invalid(wrong("PullRequest", "base"))
    same = [
        one
        for one in open_pulls(repository)
        if (one["head_repository"], one["head"], one["base"]) == (source["id"], branch, base)
    ]
    if same:
        told = f"A pull request already exists for {source['owner']}:{branch}."
        raise Invalid({"resource": "PullRequest", "code": "custom", "message": told})
    bare = store.bare(repository)
    if source["id"] != repository["id"]:
        bare.fetch(store.bare(source).path, f"refs/heads/{branch}", f"refs/pull/{repository['numbers'] + 1}/head")
    if not bare.between(base, tip):
        told = f"No commits between {base} and {branch}"
        raise Invalid({"resource": "PullRequest", "code": "custom", "message": told})
    issue = new_issue(store, repository, actor, title, body)
    issue["pull"] = {
        "number": issue["number"],
        "head": branch,
        "head_repository": source["id"],
        "head_owner": source["owner"],
        "head_sha": tip,
        "base": base,
        "base_sha": bare.branch(base),
        "draft": draft,
        "mergeable": None,
        "merge_commit_sha": None,
        "merged_at": None,
        "merged_by": None,
        "requested_reviewers": [],
        "requested_teams": [],
    }
    show(store, repository, issue["pull"])
    if not draft:
        owners.ask(store, repository, issue)
    payloads.pull_happened(store, repository, issue, "opened", actor, wakes=wakes)
    return issue


def _source(store: Store, repository: Record, owner: str) -> Record | None:
    """The repository of this owner in the same network of forks."""
    if owner.lower() == repository["owner"].lower():
        return repository
    for one in store.state["repositories"].values():
        if one["owner"].lower() == owner.lower() and one["fork_of"] == repository["id"]:
            found: Record = one
            return found
    return None


def show(store: Store, repository: Record, pull: Record) -> None:
    """Let `refs/pull/N/head` and `refs/pull/N/merge` show what is there now."""
    bare, number = store.bare(repository), pull["number"]
    bare.set_ref(f"refs/pull/{number}/head", pull["head_sha"])
    base = bare.branch(pull["base"])
    if base is None:
        return
    pull["base_sha"] = base
    tree = bare.merged_tree(base, pull["head_sha"])
    pull["mergeable"] = tree is not None
    ref = f"refs/pull/{number}/merge"
    if tree is None:
        # As on GitHub, the last merge that was possible stays.
        return
    message = f"Merge {pull['head_sha']} into {base}"
    merge = bare.commit_tree(tree, [base, pull["head_sha"]], message, WEB_FLOW, WEB_FLOW)
    bare.set_ref(ref, merge)
    pull["merge_commit_sha"] = merge


def edited(store: Store, repository: Record, issue: Record, actor: Actor, *, wakes: bool = True) -> None:
    """Its title, body or base is another one."""
    payloads.pull_happened(store, repository, issue, "edited", actor, wakes=wakes)


def add_comment(
    store: Store, repository: Record, issue: Record, actor: Actor, body: str, *, wakes: bool = True
) -> Record:
    """A comment on an issue or a pull request."""
    record: Record = {
        "id": store.number(),
        "issue": issue["number"],
        "account": actor.account,
        "app": actor.app,
        "body": body,
        "created_at": store.now(),
        "updated_at": store.now(),
    }
    repository["comments"][str(record["id"])] = record
    issue["updated_at"] = store.now()
    payloads.comment_happened(store, repository, record, "created", actor, wakes=wakes)
    return record


def moved(store: Store, repository: Record, actor: Actor, ref: str, old: str, new: str, wakes: bool) -> None:
    """A branch or tag was pushed, made or deleted: write the event, bring pull requests into step."""
    repository["pushed_at"] = store.now()
    payloads.push_happened(store, repository, actor, ref, old, new, wakes=wakes)
    if not ref.startswith("refs/heads/"):
        return
    branch = ref.removeprefix("refs/heads/")
    for target in list(store.state["repositories"].values()):
        for pull in open_pulls(target):
            if pull["head_repository"] == repository["id"] and pull["head"] == branch:
                _head_moved(store, target, repository, pull, actor, old, new, wakes)
    for pull in open_pulls(repository):
        if pull["base"] == branch and new != NOTHING:
            _base_moved(store, repository, pull, actor, new, wakes)


def _head_moved(
    store: Store, target: Record, source: Record, pull: Record, actor: Actor, old: str, new: str, wakes: bool
) -> None:
    issue = target["issues"][str(pull["number"])]
    if new == NOTHING:
        close(store, target, issue, actor, wakes=wakes)
        return
    if source["id"] != target["id"]:
        head = f"refs/pull/{pull['number']}/head"
        store.bare(target).fetch(store.bare(source).path, f"refs/heads/{pull['head']}", head)
    pull["head_sha"] = new
    issue["updated_at"] = store.now()
    rules = target["protections"].get(pull["base"], {})
    if rules.get("dismiss_stale"):
        for review in target["reviews"].values():
            if review["pull"] == pull["number"] and review["state"] == "APPROVED":
                review["state"] = "DISMISSED"
    show(store, target, pull)
    payloads.pull_happened(store, target, issue, "synchronize", actor, wakes=wakes, before=old, after=new)


def _base_moved(store: Store, repository: Record, pull: Record, actor: Actor, new: str, wakes: bool) -> None:
    if store.bare(repository).contains(new, pull["head_sha"]):
        # Merged by hand: GitHub finds the head in the base branch.
        _merged(store, repository, repository["issues"][str(pull["number"])], actor, new, wakes)
    else:
        show(store, repository, pull)


def close(store: Store, repository: Record, issue: Record, actor: Actor, *, wakes: bool = True) -> None:
    """Close an issue or a pull request."""
    issue |= {"state": "closed", "closed_at": store.now(), "closed_by": actor.account, "updated_at": store.now()}
    if issue["pull"]:
        payloads.pull_happened(store, repository, issue, "closed", actor, wakes=wakes)


def reopen(store: Store, repository: Record, issue: Record, actor: Actor, *, wakes: bool = True) -> None:
    """Open it again. Raises Invalid."""
    pull = issue["pull"]
    if pull:
        source = store.repository_of(pull["head_repository"])
        tip = store.bare(source).branch(pull["head"]) if source else None
        if tip is None or pull["merged_at"]:
            told = "state cannot be changed. The pull request cannot be reopened."
            raise Invalid(wrong("PullRequest", "state", "invalid", message=told))
        pull["head_sha"] = tip
        show(store, repository, pull)
    issue |= {"state": "open", "closed_at": None, "closed_by": None, "state_reason": "reopened"}
    issue["updated_at"] = store.now()
    if pull:
        payloads.pull_happened(store, repository, issue, "reopened", actor, wakes=wakes)


def review(
    store: Store,
    repository: Record,
    issue: Record,
    actor: Actor,
    state: str,
    body: str = "",
    commit: str | None = None,
    wakes: bool = True,
) -> Record:
    """A review of what the head is now, or of `commit`. Raises Invalid."""
    if state != "COMMENTED" and actor.account == issue["account"]:
        verb = "approve" if state == "APPROVED" else "request changes on"
        raise Invalid(message=f"Unprocessable Entity: Can not {verb} your own pull request")
    record: Record = {
        "id": store.number(),
        "pull": issue["number"],
        "account": actor.account,
        "state": state,
        "body": body,
        "commit_id": commit or issue["pull"]["head_sha"],
        "submitted_at": "" if state == "PENDING" else store.now(),
    }
    repository["reviews"][str(record["id"])] = record
    asked = issue["pull"]["requested_reviewers"]
    if actor.account in asked and state != "PENDING":
        asked.remove(actor.account)
    if state != "PENDING":
        payloads.review_happened(store, repository, issue, record, actor, wakes=wakes)
    return record


def request_reviews(
    store: Store, repository: Record, issue: Record, logins: Sequence[str], teams: Sequence[str]
) -> None:
    """Ask for reviews. Raises Invalid for who can't be asked."""
    people, found = [], []
    for login in logins:
        account = store.known(login)
        if account is None or not role(store, repository, login):
            raise Invalid(
                message="Reviews may only be requested from collaborators. One or more of the users or teams you "
                f"specified is not a collaborator of the {repository['full_name']} repository."
            )
        if account["id"] == issue["account"]:
            raise Invalid(message="Review cannot be requested from pull request author.")
        people.append(account["id"])
    for slug in teams:
        name = f"{repository['owner']}/{slug}".lower()
        if name not in store.state["teams"] or f"@{name}" not in repository["roles"]:
            raise Invalid(message=f"Could not resolve to a node with the global id of '{slug}'.")
        found.append(name)
    pull = issue["pull"]
    pull["requested_reviewers"] = list(dict.fromkeys([*pull["requested_reviewers"], *people]))
    pull["requested_teams"] = list(dict.fromkeys([*pull["requested_teams"], *found]))
    issue["updated_at"] = store.now()


def merge(
    store: Store,
    repository: Record,
    issue: Record,
    actor: Actor,
    *,
    method: str = "merge",
    sha: str | None = None,
    title: str | None = None,
    text: str | None = None,
    admin: bool = False,
    wakes: bool = True,
) -> str:
    """Merge; the new commit of the base branch. `admin` passes the protection by. Raises NotMergeable."""
    pull = issue["pull"]
    if sha is not None and sha != pull["head_sha"]:
        raise NotMergeable("Head branch was modified. Review and try the merge again.", 409)
    if method not in repository["merge_methods"]:
        raise NotMergeable(f"{method.capitalize()} merges are not allowed on this repository.")
    if issue["state"] != "open" or pull["draft"]:
        raise NotMergeable(
            "Pull Request is not mergeable" if not pull["draft"] else "Pull Request is still a draft"
        )
    by_admin = admin and role(store, repository, actor.login) >= ROLES["admin"]
    missing = [] if by_admin else list(protection.missing_for_merge(store, repository, pull, actor))
    if missing:
        raise NotMergeable(" ".join(missing))
    bare = store.bare(repository)
    base = bare.branch(pull["base"])
    tree = bare.merged_tree(base, pull["head_sha"]) if base else None
    if base is None or tree is None:
        raise NotMergeable("Pull Request is not mergeable")
    author = git_person(store.account_of(actor.account))
    if method == "squash":
        proposer = git_person(store.account_of(issue["account"]))
        commits = [bare.commit(one).message for one in bare.between(base, pull["head_sha"])]
        listed = text if text is not None else "\n\n".join(f"* {one}" for one in commits if len(commits) > 1)
        first = title or f"{issue['title']} (#{issue['number']})"
        message = f"{first}\n\n{listed}".rstrip() + "\n"
        made = bare.commit_tree(tree, [base], message, proposer, WEB_FLOW)
    else:
        first = title or f"Merge pull request #{issue['number']} from {pull['head_owner']}/{pull['head']}"
        message = f"{first}\n\n{text if text is not None else issue['title']}".rstrip() + "\n"
        made = bare.commit_tree(tree, [base, pull["head_sha"]], message, author, WEB_FLOW)
    bare.set_ref(f"refs/heads/{pull['base']}", made)
    _merged(store, repository, issue, actor, made, wakes)
    moved(store, repository, actor, f"refs/heads/{pull['base']}", base, made, wakes)
    if repository["delete_branch_on_merge"] and pull["head_repository"] == repository["id"]:
        delete_branch(store, repository, actor, pull["head"], wakes)
    return made


def delete_branch(store: Store, repository: Record, actor: Actor, branch: str, wakes: bool = True) -> None:
    """Delete a branch, as the button does."""
    bare = store.bare(repository)
    old = bare.branch(branch)
    if old is not None:
        bare.set_ref(f"refs/heads/{branch}", None)
        moved(store, repository, actor, f"refs/heads/{branch}", old, NOTHING, wakes)


def _merged(store: Store, repository: Record, issue: Record, actor: Actor, commit: str, wakes: bool) -> None:
    issue["pull"] |= {"merged_at": store.now(), "merged_by": actor.account, "merge_commit_sha": commit}
    close(store, repository, issue, actor, wakes=wakes)
