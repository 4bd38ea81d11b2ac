"""Which files of a folder are an experiment's code, and how they are written out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgetrain.core.errors import RepositoryError
from edgetrain.core.problem import shown
from edgetrain.repo.command import encode
from edgetrain.repo.tree import EXECUTABLE, SYMLINK, Entry, Tree

NOT_CODE = ("experiment.yaml", "runs/")
MAX_FILES = 100_000

# Beyond doubt; most names are.
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}){0,20}")


def safe_path(path: str) -> str:
    """The path, if it stays below its root on any system; RepositoryError `UnsafePath` otherwise."""
    if _SAFE.fullmatch(path):
        return path
    parts = path.split("/")
    odd = any(part in ("", ".", "..") or part.lower() == ".git" or len(encode(part)) > 255 for part in parts)
    if odd or len(path) > 4096 or "\\" in path or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise RepositoryError(
            f"the file name {shown(path)!r} is not safe",
            reason="UnsafePath",
            fix="rename it: no control characters, backslashes, `..` or `.git`",
        )
    return path


def exported(tree: Tree, folder: str, exclude: Sequence[str] = NOT_CODE) -> list[tuple[str, Entry]]:
    """The folder's files with their names in it, without those in `exclude` (a file, or `folder/`).

    RepositoryError `SymlinkRefused`, `SubmoduleRefused`, `UnsafePath`, `TooManyFiles`: links are refused
    wherever they point, for the code has to mean the same on every machine.
    """
    root = "" if folder.strip("/") in ("", ".") else folder.strip("/") + "/"
    chosen = []
    for entry in tree.files(root):
        name = entry.path.removeprefix(root)
        if any(name == out or (out.endswith("/") and name.startswith(out)) for out in exclude):
            continue
        if entry.mode == SYMLINK:
            raise RepositoryError(
                f"{shown(entry.path)} is a symbolic link",
                reason="SymlinkRefused",
                fix="put the file itself in its place",
            )
        if not entry.regular:
            raise RepositoryError(
                f"{shown(entry.path)} is a submodule or no file at all",
                reason="SubmoduleRefused",
                fix="copy the files that are needed into the folder",
            )
        chosen.append((safe_path(name), entry))
    if len(chosen) > MAX_FILES:
        raise RepositoryError(
            f"{shown(folder)} holds more than {MAX_FILES} files",
            reason="TooManyFiles",
            fix="keep data out of the folder: it belongs in a datastore",
        )
    return chosen


def export(tree: Tree, folder: str, destination: Path, exclude: Sequence[str] = NOT_CODE) -> int:
    """Write the folder's exact files into `destination` (made, or empty); answer how many bytes.

    Files get mode 644 or 755 whatever the umask. Errors as in `exported`; `NotEmpty` for a destination in use.
    """
    files = exported(tree, folder, exclude)
    destination.mkdir(parents=True, exist_ok=True)
    if any(destination.iterdir()):
        raise RepositoryError(
            f"the folder {shown(destination)} is not empty", reason="NotEmpty", fix="empty it, then try again"
        )
    total = 0
    made = {destination}
    for name, entry in files:
        target = destination / name
        for parent in reversed(target.relative_to(destination).parents):
            if destination / parent not in made:
                (destination / parent).mkdir()
                (destination / parent).chmod(0o755)
                made.add(destination / parent)
        with target.open("xb") as file:
            total += tree.copy(entry.path, file.write)
        target.chmod(0o755 if entry.mode == EXECUTABLE else 0o644)
    return total
