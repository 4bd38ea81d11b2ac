"""Which commits lie before a file came to main: those that who added it has seen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from edgetrain.repo.git import Git
from edgetrain.repo.objects import OID


def before_file(git: Git, tip: str, path: str, touching: Collection[str]) -> frozenset[str]:
    """The commits up to, and with, the one that first brought `path` to main.

    A branch that adds the file counts from its merge: main went on meanwhile. But a merge whose other side
    brings commits of `touching` (those that only main's line has) does not: there the sides are swapped, so
    the file counts from where it was added. If it was added several times, only what lies before all counts.
    """
    parents = _graph(git, tip)
    line = _first_parents(parents, git.resolve(tip))
    position: dict[str, int] = {}
    for index, commit in enumerate(line):
        for reached in _reachable(parents, [commit], position):
            position[reached] = index
    brought = {position[sha] for sha in touching if sha in position and line[position[sha]] != sha}
    found: set[str] | None = None
    cut = git.boundary()
    for adder in _adders(git, tip, path):
        at = position.get(adder)
        if at is None or adder in cut:
            continue
        if line[at] != adder and at in brought:
            before = set(_reachable(parents, [adder], {}))
        else:
            before = {sha for sha, index in position.items() if index <= at}
        found = before if found is None else found & before
    return frozenset(found or ())


def _graph(git: Git, tip: str) -> dict[str, list[str]]:
    rows = (line.split() for line in git.text("rev-list", "--parents", tip).splitlines())
    return {row[0]: row[1:] for row in rows}


def _adders(git: Git, tip: str, path: str) -> list[str]:
    """Every commit that added the file, merges told apart from each parent, and so some honest ones too."""
    how = ("--full-history", "--diff-merges=separate", "--no-renames", "--diff-filter=A", "--raw", "--format=%H")
    lines = git.text("log", *how, tip, "--", f":(top,literal){path}").splitlines()
    return sorted({line for line in lines if OID.fullmatch(line)})


def _first_parents(parents: Mapping[str, Sequence[str]], tip: str) -> list[str]:
    """Main's own line, oldest first."""
    line, at = [], tip
    while at in parents:
        line.append(at)
        if not parents[at]:
            break
        at = parents[at][0]
    return line[::-1]


def _reachable(
    parents: Mapping[str, Sequence[str]], start: Iterable[str], known: Mapping[str, object]
) -> list[str]:
    """What is reachable from `start` without passing through what is known."""
    seen: dict[str, None] = {}
    left = [sha for sha in start if sha not in known]
    while left:
        sha = left.pop()
        if sha in seen or sha in known or sha not in parents:
            continue
        seen[sha] = None
        left += parents[sha]
    return list(seen)
