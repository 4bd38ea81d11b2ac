"""The environments that local targets of one site share: which there are, and how one goes."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from edgetrain.core.errors import Conflict
from edgetrain.core.ports import StoredEnvironment
from edgetrain.providers.local.prepare import environment_of

_NAME = re.compile(r"[0-9a-f]{64}")


def environment_id(requirements: bytes, state: Path) -> str:
    """The name of the environment of this lock under this Python."""
    return Path(environment_of(requirements, state)["folder"]).name


def stored(state: Path) -> Iterator[StoredEnvironment]:
    """What lies there, sorted by name; a folder that is not one of ours is left out."""
    folder = state / "environments"
    for found in sorted(folder.iterdir()) if folder.is_dir() else []:
        if _NAME.fullmatch(found.name) and found.is_dir() and not found.is_symlink():
            yield StoredEnvironment(found.name, _size(found), _built(found))


def drop(state: Path, name: str) -> bool:
    """Take the mark off an environment, so that it is built anew if asked for; whether it was there.

    Raises Conflict while it is being built.
    """
    folder = state / "environments" / name
    if not _NAME.fullmatch(name) or not folder.is_dir():
        return False
    with folder.with_suffix(".lock").open("w") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"environment {name[:12]} is being built", reason="Locked", fix="run edgetrain gc again"
            ) from None
        (folder / "complete").unlink(missing_ok=True)
    return True


def _built(folder: Path) -> str | None:
    try:
        with (folder / "complete").open("rb") as file:
            found = json.loads(file.read(2**16))
    except (OSError, ValueError):
        return None
    built = found.get("built") if isinstance(found, dict) else None
    return built if isinstance(built, str) else None


def _size(folder: Path) -> int:
    total = 0
    for at, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(at) / name).lstat().st_size
            except FileNotFoundError:  # it went while we looked
                continue
    return total
