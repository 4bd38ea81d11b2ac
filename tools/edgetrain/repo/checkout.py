"""Moving a local branch: if a work tree has it checked out, its files come along, and edits in it stay."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from edgetrain.core.errors import PushRejected, RepositoryError
from edgetrain.repo.command import failure, without_credentials
from edgetrain.repo.git import Git
from edgetrain.repo.opening import open_file

LITERAL = {"GIT_LITERAL_PATHSPECS": "1"}
MAX_ADOPTED = 64 * 2**20


def place_of(git: Git, branch: str) -> Git | None:
    """The work tree that has the branch checked out, if there is one."""
    path = git.text("for-each-ref", "--format=%(worktreepath)", f"refs/heads/{branch}")
    if not path or not Path(path).is_dir():
        return None
    place = Git(Path(path))
    inside = place.attempt("rev-parse", "--is-inside-work-tree")
    return place if inside.code == 0 and inside.text() == "true" else None


def move(
    git: Git,
    branch: str,
    old: str | None,
    new: str,
    step: Callable[[str], None],
    written: Mapping[str, str],
) -> None:
    """Point the local branch from `old` (None: it must not be there) to `new`. `written` are our own new
    files, path to blob.

    The work tree goes first: killed in between, the next try finds the files there already. RepositoryError
    `WorkTreeInTheWay`, with nothing moved, if files in the work tree would be lost; PushRejected if
    another command moved the branch.
    """
    place = place_of(git, branch) if old else None
    if place is not None and old is not None:
        step("worktree")
        _bring_along(place, old, new, written)
    step("branch")
    done = git.attempt("update-ref", "-m", "edgetrain", f"refs/heads/{branch}", new, old or "")
    if done.code != 0:
        if "but expected" in done.err or "reference already exists" in done.err:
            raise PushRejected(
                f"another command moved {branch}: {without_credentials(done.err)}", fix="run this again"
            )
        raise failure("update-ref", done)


def _bring_along(place: Git, old: str, new: str, written: Mapping[str, str]) -> None:
    place.attempt("update-index", "-q", "--refresh")
    _adopt(place, written)
    done = place.attempt("read-tree", "-m", "-u", old, new)
    if done.code != 0 and ("overwritten" in done.err or "annot merge" in done.err or "resolve" in done.err):
        raise RepositoryError(
            f"the work tree can't follow: {without_credentials(done.err)}",
            reason="WorkTreeInTheWay",
            fix="commit, stash or move away the named files, then run this again",
        )
    if done.code != 0:
        raise failure("read-tree", done)


def _adopt(place: Git, written: Mapping[str, str]) -> None:
    """Take files that a killed try wrote, but could not yet note in the index, for ours."""
    for path, blob in written.items():
        if place.run("ls-files", "-z", "--", path, env=LITERAL):
            continue
        try:
            with os.fdopen(open_file(place.root, path), "rb") as file:
                data = file.read(MAX_ADOPTED)
        except RepositoryError:
            continue  # nothing there, or no file: read-tree says so where it matters
        if place.run("hash-object", "--stdin", input=data).decode().strip() == blob:
            place.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
