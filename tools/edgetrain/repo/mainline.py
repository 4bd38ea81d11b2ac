"""Main's own line of commits, and what each of them alone brought there: one reading for all."""

from __future__ import annotations

from edgetrain.repo.git import Git
from edgetrain.repo.objects import Commit


def merged_by(git: Git, tip: str) -> dict[str, tuple[Commit, list[Commit]]]:
    """Each commit of main's own line, with the commits that it brought there besides itself, newest first."""
    every = git.commits("--no-patch", "--topo-order", git.resolve(tip))
    known = {commit.sha: (place, commit) for place, commit in enumerate(every)}
    line: list[Commit] = []
    at: str | None = every[0].sha if every else None
    while at is not None and at in known:
        line.append(known[at][1])
        at = next(iter(known[at][1].parents), None)
    seen: set[str] = set()
    found = {}
    for commit in reversed(line):
        brought, left = [], list(commit.parents)
        seen.add(commit.sha)
        while left:
            sha = left.pop()
            if sha in known and sha not in seen:
                seen.add(sha)
                brought.append(known[sha])
                left += known[sha][1].parents
        found[commit.sha] = (commit, [one for _, one in sorted(brought, key=lambda pair: pair[0])])
    return found
