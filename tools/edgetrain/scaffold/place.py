"""Puts files into a folder without ever taking another's place: what is in the way is told all at once."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from edgetrain.core.errors import UsageError
from edgetrain.core.problem import shown

OURS = (".git", ".edgetrain")  # git's own, and edgetrain's caches
_LICENCE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE)(\.[a-z]+)?", re.IGNORECASE)
MAX_TOLD, MAX_FILES = 20, 10_000


def refuse_others(folder: Path, files: Mapping[str, str]) -> None:
    """UsageError that names all that lies in the folder and is not one of these files with just this text.

    Git's own folder and a licence may be there.
    """
    others = sorted(_others(folder, files)) if folder.exists() else []
    if others:
        told = ", ".join(shown(name) for name in others[:MAX_TOLD])
        more = f" and {len(others) - MAX_TOLD} more" if len(others) > MAX_TOLD else ""
        raise UsageError(
            f"{shown(folder, 300)} holds other things: {told}{more}",
            reason="FolderInUse",
            fix="choose a new or an empty folder, or move these away; nothing was written",
        )


def _others(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    seen = 0
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        here = Path(place)
        if here == folder:
            folders[:] = [name for name in folders if name not in OURS]
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in links]
        for name in [*names, *links]:
            if here == folder and (name in OURS or _LICENCE.fullmatch(name)):
                continue
            seen += 1
            path = (here / name).relative_to(folder).as_posix()
            if path not in files or not _same(here / name, files[path]):
                yield path
        if seen > MAX_FILES:
            return


def _same(file: Path, text: str) -> bool:
    return not file.is_symlink() and file.stat().st_size <= 2**20 and file.read_bytes() == text.encode()


def _unreadable(error: OSError) -> None:
    raise UsageError(
        f"{error.filename} can't be read: {error.strerror}",
        reason="NotReadable",
        fix="give this user the right to read it",
    )


def present(folder: Path, path: str) -> bool:
    """Whether something is there already, be it a broken link."""
    return (folder / path).exists() or (folder / path).is_symlink()


def place(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write those of the files that are not there, each whole or not at all; answer their paths. What is stopped in
    the middle takes back what it wrote.

    UsageError, before anything is written, if the way to one leads over a link or a file.
    """
    absent = [path for path in files if not present(folder, path)]
    _check_ways(folder, absent)
    made: list[Path] = []
    try:
        _make(folder / ".edgetrain", made)
        with TemporaryDirectory(dir=folder / ".edgetrain", prefix="init-") as scratch:
            for path in absent:
                partial, file = Path(scratch) / "partial", folder / path
                partial.write_text(files[path], encoding="utf-8", newline="\n")
                _make(file.parent, made)
                _bring(partial, file)
                made.append(file)
    except BaseException as error:
        _take_back(made)
        if not isinstance(error, OSError):
            raise
        raise UsageError(
            f"{error.filename2 or error.filename} can't be written: {error.strerror}",
            reason="NotWritable",
            fix="give this user the right to write there, and run it again: what is missing is added",
        ) from None
    return absent


def _make(folder: Path, made: list[Path]) -> None:
    """The folder and those above it; which of them are new is noted."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        made.append(one)


def _take_back(made: list[Path]) -> None:
    for path in reversed(made):
        with contextlib.suppress(OSError):  # a folder in which somebody has put something meanwhile
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()


def _bring(partial: Path, file: Path) -> None:
    """Let the whole file be there. One that has come meanwhile stays: a rename would take its place, not a link."""
    try:
        os.link(partial, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: not whole if we are killed, but nobody's place is taken
        with file.open("xb") as opened:
            opened.write(partial.read_bytes())
    partial.unlink()


def _check_ways(folder: Path, paths: list[str]) -> None:
    ways = {way for path in paths for way in PurePosixPath(path).parents if str(way) != "."} | {
        PurePosixPath(".edgetrain")
    }
    bad = sorted(
        str(way)
        for way in ways
        if (folder / way).is_symlink() or ((folder / way).exists() and not (folder / way).is_dir())
    )
    if bad:
        raise UsageError(
            f"not plain folders: {', '.join(map(shown, bad))}",
            reason="LinkInTheWay",
            fix="put folders in their place; nothing was written",
        )
