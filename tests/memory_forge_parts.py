"""What the forge in memory keeps of issues and comments, and its way to a real repository."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgetrain.core.ports import Account
from edgetrain.providers.github.marks import unmarked


@dataclass
class Comment:
    """One comment as it is stored, mark and all."""

    id: int
    account: Account
    body: str


@dataclass
class Issue:
    """One issue as it is stored; `closed_by` is empty while it is open."""

    number: int
    account: Account
    title: str
    body: str
    labels: set[str]
    open: bool = True
    closed_by: str = ""

    @property
    def text(self) -> str:
        """The body without its mark."""
        return unmarked(self.body)


@dataclass
class Details:
    """What a pull request has beside the port's own."""

    body: str
    reviewers: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    commits: set[str] = field(default_factory=set)  # those that its merge brought


def made_up(text: str) -> str:
    """A commit id of no commit."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def git(folder: Path, *args: str, name: str = "grace") -> str:
    """What git says, run as somebody."""
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _person(name)}
    done = subprocess.run(
        ["git", "-C", str(folder), *args], check=True, capture_output=True, text=True, env={**os.environ, **who}
    )
    return done.stdout.strip()


def _person(name: str) -> Iterator[tuple[str, str]]:
    yield "NAME", name
    yield "EMAIL", f"{name}@hosp.example"
