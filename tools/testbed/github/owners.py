"""Code owners by the base branch's CODEOWNERS: who is asked for a review, and whose approval a merge needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from testbed.github.access import ROLES, role
from testbed.github.store import Record, Store

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
TOKENS = re.compile(r"/\*\*/|^\*\*/|/\*\*$|\*|\?|[^*?/]+|/")
MEANT = {"/**/": "/(?:.*/)?", "**/": "(?:.*/)?", "/**": "/.*", "*": "[^/]*", "?": "[^/]"}


def owners_of(text: str, path: str) -> list[str]:
    """Who owns the path: of the lines that match, the last decides."""
    found: list[str] = []
    for line in text.splitlines():
        pattern, *owners = line.partition("#")[0].split() or [""]
        if pattern and _matches(pattern, path):
            found = owners
    return found


def _matches(pattern: str, path: str) -> bool:
    free = "/" not in pattern.rstrip("/")
    body = "".join(MEANT.get(one, re.escape(one)) for one in TOKENS.findall(pattern.strip("/")))
    # A folder stands for all in it, but `folder/*` only for what lies in it directly.
    below = "/.+" if pattern.endswith("/") else "" if pattern.endswith("/*") else "(?:/.+)?"
    return re.fullmatch(("(?:.*/)?" if free else "") + body + below, path, re.DOTALL) is not None


def needed(store: Store, repository: Record, pull: Mapping[str, object]) -> set[tuple[str, ...]]:
    """The owners of what a pull request changes; of each group one must approve. They are logins and `org/team`, in
    lower case, that may write there: GitHub leaves others out."""
    bare, base, head = store.bare(repository), str(pull["base_sha"]), str(pull["head_sha"])
    texts = (bare.read(base, place) for place in PLACES)
    text = next((one.decode(errors="replace") for one in texts if one is not None), "")
    if not text:
        return set()
    changed = bare.changed(bare.merge_base(base, head), head)
    paths = {path for one in changed for path in (one.path, one.before) if path}
    groups = {tuple(_able(store, repository, owners_of(text, path))) for path in paths}
    return groups - {()}


def _able(store: Store, repository: Record, owners: list[str]) -> Iterator[str]:
    for owner in (one.removeprefix("@").lower() for one in owners if one.startswith("@")):
        if "/" in owner:
            given = repository["roles"].get(f"@{owner}", "")
            if owner in store.state["teams"] and ROLES.get(given, 0) >= ROLES["write"]:
                yield owner
        elif role(store, repository, owner) >= ROLES["write"]:
            yield owner


def without_approval(
    store: Store, repository: Record, pull: Mapping[str, object], approving: set[str]
) -> Iterator[str]:
    """The groups of owners none of whom is among those who approve (logins in lower case)."""
    teams = store.state["teams"]
    for group in sorted(needed(store, repository, pull)):
        people = {login for owner in group for login in (teams[owner]["members"] if "/" in owner else [owner])}
        if not people & approving:
            yield " and/or ".join(group)


def ask(store: Store, repository: Record, issue: Record) -> None:
    """Ask the owners of what is changed for a review, as GitHub does by itself."""
    pull = issue["pull"]
    for owner in sorted({one for group in needed(store, repository, pull) for one in group}):
        if "/" in owner:
            pull["requested_teams"].append(owner)
        elif store.account(owner)["id"] != issue["account"]:
            pull["requested_reviewers"].append(store.account(owner)["id"])
