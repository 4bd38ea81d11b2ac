"""Who asks: the person at this machine, or who started the workflow that asks."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from edgetrain.repo.git import Git
from edgetrain.repo.message import one_line

LONGEST = 200
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?(?:\[bot\])?")
_NUMBER = re.compile(r"[0-9]{1,20}")


def person(git: Git) -> str:
    """`name <email>`, as the workflow's starter is known on the forge, or as git knows the user; empty if neither.

    In a workflow git's own user is the runner's, whoever asks.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return _starter()
    name, email = (git.attempt("config", "--get", key).text() for key in ("user.name", "user.email"))
    return one_line(f"{name} <{email}>", LONGEST) if name and email else ""


def _starter() -> str:
    """Who started the workflow, or started it again; by number where that is told."""
    actor, number = os.environ.get("GITHUB_ACTOR", ""), os.environ.get("GITHUB_ACTOR_ID", "")
    again = os.environ.get("GITHUB_TRIGGERING_ACTOR", "") or actor
    if not _LOGIN.fullmatch(again):
        return ""
    host = urlsplit(os.environ.get("GITHUB_SERVER_URL", "")).hostname or "github.com"
    known = f"{number}+" if again == actor and _NUMBER.fullmatch(number) else ""
    return one_line(f"{again} <{known}{again}@users.noreply.{host}>", LONGEST)
