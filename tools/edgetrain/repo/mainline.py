"""Main's own line of commits, what each of them alone brought there, and what lay where at which: one reading for
all."""

from __future__ import annotations

from collections.abc import Sequence

from edgetrain.repo.git import Git
from edgetrain.repo.objects import OID, Commit


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


def touching(git: Git, tip: str, folder: str, exclude: Sequence[str] = ()) -> list[str]:
    """Every commit that led to the tip and touched the folder, on whichever line, newest first; `exclude` are paths
    in it."""
    specs = [f":(top,literal){folder}", *(f":(top,literal,exclude){folder}/{name}" for name in exclude)]
    return git.text("rev-list", "--full-history", git.resolve(tip), "--", *specs).splitlines()


def objects_at(git: Git, places: Sequence[tuple[str, str]]) -> list[str | None]:
    """The id of the object at each commit and path; None where there is none."""
    wanted = [(commit, path) for commit, path in places if "\n" not in path]
    asked = "".join(f"{commit}:{path}\n" for commit, path in wanted).encode("utf-8", "surrogateescape")
    lines = git.run("cat-file", "--batch-check=%(objectname)", input=asked).split(b"\n") if wanted else []
    ids = (line.decode() if OID.fullmatch(line.decode("utf-8", "replace")) else None for line in lines)
    found = dict(zip(wanted, ids, strict=False))
    return [found.get(place) for place in places]
