"""What a folder of code holds, file by file: what was submitted is what runs."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

CHUNK = 2**20


def listing(folder: Path) -> dict[str, dict[str, Any]]:
    """By path with slashes: `sha256` and `executable` of a file, `link` of a symbolic link. Folders count by their
    files; anything else is told as `special`."""
    found: dict[str, dict[str, Any]] = {}
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(at, name)
            inner = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[inner] = {"link": str(path.readlink())}
            elif path.is_file():
                found[inner] = {"sha256": digest(path), "executable": bool(path.stat().st_mode & 0o100)}
            elif not path.is_dir():
                found[inner] = {"special": True}
    return dict(sorted(found.items()))


def digest(path: Path) -> str:
    """The sha256 of a file in hex."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def differences(wanted: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]], modes: bool) -> list[str]:
    """The paths that differ; without `modes` links and rights don't count, which snapshots can't hold."""

    def content(entry: dict[str, Any] | None) -> Any:
        return entry if modes or entry is None else entry.get("sha256")

    keys = [key for key in {**wanted, **found} if modes or "link" not in wanted.get(key, {})]
    return sorted(key for key in keys if content(wanted.get(key)) != content(found.get(key)))


def copy(source: Path, wanted: dict[str, dict[str, Any]], target: Path) -> None:
    """Make the folder `target` (there, and empty) from a snapshot: files first, then links."""
    for name, entry in wanted.items():
        if "sha256" in entry:
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, place)
            place.chmod(0o755 if entry["executable"] else 0o644)
    for name, entry in wanted.items():
        if "link" in entry:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to(entry["link"])
