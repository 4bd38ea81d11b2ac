"""The files below a root, in the order of a tree's digest, reached step by step and without following a link.

No message here holds the name of a file inside the datastore: only the path that the manifest gives.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.problem import shown

DEPTH = 64
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Names(NamedTuple):
    """Names in a folder that are files and stand side by side in the tree. `place` is the folder's below the root,
    `prefix` what stands before its names in the tree; `folder` is its handle until the next of these is asked for.
    `every` are all files of the folder, in order, of which these are a part: None if nobody looked for others."""

    folder: int
    place: bytes
    prefix: bytes
    names: list[bytes]
    every: list[bytes] | None


def files_at(root: Path, path: str) -> Iterator[Names]:
    """All files that the path leads to.

    Raises NotFound; Rejected for a path outside the root, a link, a special file or a tree deeper than 64 folders.
    """
    parts = parts_of(path)
    folder = open_parent(root, parts, path)
    try:
        if not parts:
            yield from _below(folder, b"", b"", path, 0)
            return
        base = parts[-1]
        try:
            kind = kind_of(os.stat(base, dir_fd=folder, follow_symlinks=False), path)
        except FileNotFoundError:
            raise missing(path) from None
        if kind == "file":
            yield Names(folder, os.fsencode("/".join(parts[:-1])), b"", [os.fsencode(base)], None)
            return
        inner = os.open(base, OPEN_FOLDER, dir_fd=folder)
        try:
            yield from _below(inner, os.fsencode("/".join(parts)), b"", path, 0)
        finally:
            os.close(inner)
    finally:
        os.close(folder)


def _below(folder: int, place: bytes, prefix: bytes, path: str, depth: int) -> Iterator[Names]:
    if depth > DEPTH:
        raise Rejected(
            f"{shown(path)} is more than {DEPTH} folders deep", reason="TooDeep", fix="flatten the folder"
        )
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            # Known from the listing itself on nearly every file system.
            if entry.is_file(follow_symlinks=False):
                files.append(os.fsencode(entry.name))
            elif entry.is_dir(follow_symlinks=False):
                folders.append(os.fsencode(entry.name) + b"/")
            else:
                kind_of(entry.stat(follow_symlinks=False), path)
                files.append(os.fsencode(entry.name))  # since a moment
    files.sort()
    begun = 0
    for inner in sorted(folders):
        # Of the tree's names, those in a folder begin with its own and a slash.
        upto = bisect_left(files, inner)
        if upto > begun:
            yield Names(folder, place, prefix, files[begun:upto], files)
            begun = upto
        handle = os.open(inner[:-1], OPEN_FOLDER, dir_fd=folder)
        try:
            below = place + b"/" + inner[:-1] if place else inner[:-1]
            yield from _below(handle, below, prefix + inner, path, depth + 1)
        finally:
            os.close(handle)
    if begun < len(files):
        yield Names(folder, place, prefix, files[begun:] if begun else files, files)


def open_parent(root: Path, parts: list[str], path: str) -> int:
    """A handle of the folder that holds the last part, reached without following a link."""
    try:
        handle = os.open(root, OPEN_FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(
            "the datastore's folder is not there",
            reason="DatastoreMissing",
            fix="check the datastore's path in edgetrain.yaml and that the disk is mounted",
        ) from None
    for part in parts[:-1]:
        try:
            if kind_of(os.stat(part, dir_fd=handle, follow_symlinks=False), path) == "file":
                raise missing(path)
            inner = os.open(part, OPEN_FOLDER, dir_fd=handle)
        except FileNotFoundError:
            raise missing(path) from None
        finally:
            os.close(handle)
        handle = inner
    return handle


def parts_of(path: str) -> list[str]:
    """The names on the way, none of which leads upwards. Raises Rejected."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise Rejected(
            f"{shown(path)} is outside the datastore",
            reason="PathOutside",
            fix="give a path relative to the datastore's root, without ..",
        )
    return parts


def kind_of(status: os.stat_result, path: str) -> str:
    """`file` or `folder`. Raises Rejected for all else."""
    if stat.S_ISREG(status.st_mode):
        return "file"
    if stat.S_ISDIR(status.st_mode):
        return "folder"
    what = "symbolic link" if stat.S_ISLNK(status.st_mode) else "special file"
    raise Rejected(
        f"{shown(path)} is, or holds, a {what}",
        reason="Symlink" if stat.S_ISLNK(status.st_mode) else "SpecialFile",
        fix="put regular files and folders there (edgetrain follows no link)",
    )


def missing(path: str) -> NotFound:
    """That nothing is there."""
    return NotFound(
        f"the datastore has no {shown(path)}",
        reason="DataMissing",
        fix="check the input's path and that the data has arrived",
    )
