"""Protected branches: who may push there, and what a pull request needs before it is merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from testbed.github import owners
from testbed.github.access import ROLES, Actor, role
from testbed.github.store import Record, Store

ASKED = "Changes must be made through a pull request."
NO_DELETION, NO_FORCE = "Cannot delete this branch", "Cannot force-push to this branch"
CLASSIC, RULESET = "protected branch hook declined", "push declined due to repository rule violations"
KINDS = ("classic", "ruleset")


def protect(store: Store, repository: Record, branch: str, kind: str, rules: Mapping[str, Any]) -> Record:
    """Protect a branch, or change how. Raises ValueError."""
    if kind not in KINDS:
        raise ValueError(f"a protection is one of {', '.join(KINDS)}")
    before = repository["protections"].get(branch, {})
    record: Record = {
        "id": before.get("id") or store.number(),
        "name": f"protect {branch}",
        "branch": branch,
        "kind": kind,
        "created_at": before.get("created_at") or store.now(),
        "updated_at": store.now(),
        **rules,
    }
    repository["protections"][branch] = record
    return record


def bypasses(protection: Mapping[str, Any], actor: Actor) -> bool:
    """Whether the actor is one of those that the protection lets by."""
    return bool(actor.app and actor.app in protection["bypass_apps"]) or (
        actor.kind == "user" and actor.login.lower() in protection["bypass_users"]
    )


def push_rules(store: Store, repository: Record, actor: Actor, url: str) -> dict[str, dict[str, Any]]:
    """What is refused to the actor, for each protected ref: by the kind of change, the lines that GitHub prints;
    and those it prints when it lets the actor pass."""
    rules: dict[str, dict[str, Any]] = {}
    for branch, protection in repository["protections"].items():
        ref = f"refs/heads/{branch}"
        passes, classic = bypasses(protection, actor), protection["kind"] == "classic"
        asked = [] if passes else [ASKED]
        # A classic protection lets actors by the pull request only; a ruleset's bypass is for all of it.
        refused = {"update": asked}
        if classic or not passes:
            refused |= {"delete": [NO_DELETION], "force": [NO_FORCE, *asked]}
        if classic:
            reason, first = CLASSIC, [f"error: GH006: Protected branch update failed for {ref}."]
        else:
            page = f"{url}/{repository['full_name']}/rules?ref={quote(ref, safe='')}"
            reason = RULESET
            first = [
                f"error: GH013: Repository rule violations found for {ref}.",
                f"Review all repository rules at {page}",
            ]
        rules[ref] = {
            "reason": reason,
            "bypassed": [f"Bypassed rule violations for {ref}:", "", f"- {ASKED}", ""] if passes else [],
            **{kind: [*first, *_listed(whys)] for kind, whys in refused.items() if whys},
        }
    return rules


def _listed(whys: Iterable[str]) -> Iterator[str]:
    for why in whys:
        yield from ("", f"- {why}")
    yield ""


def workflow_refusal(actor: Actor) -> str | None:
    """The sentence by which the actor's changes of workflows are refused; `%s` is the file. None: they are not."""
    if actor.permissions is None or actor.permissions.get("workflows") == "write":
        return None
    if actor.machine:
        return "refusing to allow a GitHub App to create or update workflow `%s` without `workflows` permission"
    return "refusing to allow a Personal Access Token to create or update workflow `%s` without `workflow` scope"


def missing_for_merge(store: Store, repository: Record, pull: Mapping[str, Any], actor: Actor) -> Iterator[str]:
    """What the base branch's protection still asks for, in GitHub's words."""
    protection = repository["protections"].get(pull["base"])
    if protection is None or bypasses(protection, actor):
        return
    verdicts = {
        reviewer: review
        for reviewer, review in last_words(repository, pull["number"]).items()
        if role(store, repository, store.account_of(reviewer)["login"]) >= ROLES["write"]
    }
    if any(review["state"] == "CHANGES_REQUESTED" for review in verdicts.values()):
        yield "Changes requested by a reviewer with write access."
    approving = sum(review["state"] == "APPROVED" for review in verdicts.values())
    if approving < protection["approvals"]:
        needed = protection["approvals"]
        reviews = "approving review is" if needed == 1 else "approving reviews are"
        yield f"At least {needed} {reviews} required by reviewers with write access."
    if protection["code_owners"]:
        logins = {
            store.account_of(reviewer)["login"].lower()
            for reviewer, review in verdicts.items()
            if review["state"] == "APPROVED"
        }
        for group in owners.without_approval(store, repository, pull, logins):
            yield f"Waiting on code owner review from {group}."
    ended = {
        check["name"]
        for check in sorted(repository["checks"].values(), key=lambda one: int(one["id"]))
        if check["head_sha"] == pull["head_sha"] and check["conclusion"] in ("success", "neutral", "skipped")
    }
    for context in protection["checks"]:
        if context not in ended:
            yield f'Required status check "{context}" is expected.'


def last_words(repository: Record, number: int) -> dict[int, Record]:
    """Each reviewer's newest review that is more than a comment."""
    words: dict[int, Record] = {}
    for review in sorted(repository["reviews"].values(), key=lambda one: int(one["id"])):
        if review["pull"] == number and review["state"] not in ("COMMENTED", "PENDING"):
            words[review["account"]] = review
    return words
