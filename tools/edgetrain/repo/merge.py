"""What merging two commits gives, told from git's objects: nothing is merged, nothing checked out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from edgetrain.core.errors import RepositoryError
from edgetrain.repo.command import decode
from edgetrain.repo.git import Git

CLEAN, CONFLICTING = 0, 1


def parents(git: Git, commit: str) -> tuple[str, ...]:
    """The commit's parents as it names them, also those that a shallow clone lacks."""
    header, _, _ = git.run("cat-file", "commit", git.resolve(commit)).partition(b"\n\n")
    lines = (line.split(b" ") for line in header.split(b"\n"))
    return tuple(decode(words[1]) for words in lines if words[0] == b"parent")


def present(git: Git, commit: str) -> bool:
    """Whether the commit is here; a shallow clone lacks many that others name."""
    return git.attempt("cat-file", "-e", "--end-of-options", commit + "^{commit}").code == 0


def conflicts(git: Git, ours: str, theirs: str) -> Sequence[str] | None:
    """The paths in which the two conflict; None if git can't tell (it is older than 2.38, or lacks history)."""
    objects = git.text("rev-parse", "--path-format=absolute", "--git-path", "objects")
    with tempfile.TemporaryDirectory(prefix="edgetrain-") as folder:
        # What it makes to find out goes with the folder: the clone is only read.
        env = {"GIT_OBJECT_DIRECTORY": folder, "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(objects)}
        args = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", ours, theirs)
        try:
            done = git.attempt(*args, env=env)
        except RepositoryError as error:
            if error.reason != "OutputTooLarge":
                raise
            return None
    if done.code not in (CLEAN, CONFLICTING):
        return None
    return sorted({path for path in decode(done.out).split("\0")[1:] if path})


def _quoted(path: str) -> str:
    """A path for a list that colons part: git takes one in quotes, with backslashes before what is special."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
