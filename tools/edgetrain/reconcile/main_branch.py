"""Main as it was last fetched, of which git looks through the history and lists the files already while what reads
it is still being imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from edgetrain.core.errors import RepositoryError
from edgetrain.repo.git import Git
from edgetrain.repo.history import Additions
from edgetrain.repo.opening import open_file
from edgetrain.repo.reader import MAX_BYTES, read
from edgetrain.repo.readings import Readings
from edgetrain.repo.tree import CommitTree

CONFIGURATION = "edgetrain.yaml"
RECORD_FOLDERS = ("experiments/*/runs/*.json", "models/*/proposals/*.json", "models/*/versions/*")


class MainBranch:
    """The branch that the configuration names, at its newest commit here. Use `with`: what git was asked for and
    nobody read is stopped at the end. What `readings` know is not asked for. Raises RepositoryError."""

    def __init__(self, on: Path | Git, readings: Readings | None = None) -> None:
        self.git = on if isinstance(on, Git) else Git.find(on)
        self.readings = readings
        self.commit = self.git.tip(configured_branch(self.git), refresh=False)
        self.tree = commit_tree(self.git, self.commit)
        self.additions = Additions(self.git, self.commit, RECORD_FOLDERS, readings)
        self.tree.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.additions.stop()
        self.tree.close()


def commit_tree(git: Git, commit: str) -> CommitTree:
    """The files at a commit; digests of their contents are remembered in the checkout's caches."""
    return CommitTree(git, commit, cache=git.root / ".edgetrain" / "blobs.db")


def configured_branch(git: Git) -> str:
    """The branch that the work tree's `edgetrain.yaml` names; `main` if it can't be read."""
    try:
        # Not through the work tree's listing: it would ask git for all files.
        with os.fdopen(open_file(git.root, CONFIGURATION), "rb") as file:
            document, _ = read(file.read(MAX_BYTES + 1), CONFIGURATION)
    except (RepositoryError, OSError):
        return "main"
    spec = document.data.get("spec") if document else None
    branch = spec.get("branch") if isinstance(spec, dict) else None
    return branch if isinstance(branch, str) else "main"
