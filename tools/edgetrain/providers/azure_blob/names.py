"""Which blob names can be files of a tree; no message here tells a name."""

from __future__ import annotations

import unicodedata

from edgetrain.core.errors import Rejected, Transient
from edgetrain.core.problem import shown

_DEPTH = 64
_PART = 255


def parts_of(path: str) -> list[str]:
    """The parts of a path that a manifest gives. Raises Rejected for one outside the store."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if path.startswith("/") or ".." in parts or not all(map(_plain, parts)):
        raise Rejected(
            f"{shown(path)} is outside the datastore",
            reason="PathOutside",
            fix="give a path relative to the datastore's root, without .. or control characters",
        )
    return parts


class Tree:
    """Checks names as they are listed (in order): each must be a file of a tree, none also a folder."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Names of which each is the beginning of the next; in a sorted listing no others can be its folder.
        self._open: list[str] = []

    def admit(self, name: str) -> None:
        """Raises Rejected for a name that is no file's, or is a folder's too; Transient for a name seen twice."""
        parts = name.split("/")
        if (
            not _plain(name)
            or len(parts) > _DEPTH
            or any(part in {"", ".", ".."} or len(part.encode()) > _PART for part in parts)
        ):
            raise Rejected(
                f"{shown(self._path)} holds a blob whose name can't be a file's",
                reason="UnsafeName",
                fix="rename it: no empty part, `.`, `..`, backslash or control character, at most 255 bytes a part",
            )
        while self._open and not name.startswith(self._open[-1]):
            self._open.pop()
        if self._open and self._open[-1] == name:
            raise Transient(
                f"{shown(self._path)} changed while it was listed",
                reason="DataChanging",
                fix="wait until the data is copied, then apply again",
            )
        if any(name.startswith(f"{other}/") for other in self._open):
            raise both(self._path)
        self._open.append(name)


def both(path: str) -> Rejected:
    """A blob has the name of a folder."""
    return Rejected(
        f"{shown(path)} is, or holds, a blob with the name of a folder",
        reason="FileAndFolder",
        fix="rename one of them: no disk can hold both",
    )


def _plain(text: str) -> bool:
    return "\\" not in text and not any(unicodedata.category(character) == "Cc" for character in text)
