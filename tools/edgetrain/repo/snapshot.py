"""The code of an experiment as its runs get it: the exact files, with sizes and digests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgetrain.core.snapshot import CodeFile, Snapshot
from edgetrain.repo.export import NOT_CODE, exported
from edgetrain.repo.tree import EXECUTABLE, Tree


def snapshot(
    tree: Tree,
    folder: str,
    exclude: Sequence[str] = NOT_CODE,
    measure: Callable[[str], tuple[int, str]] | None = None,
) -> Snapshot:
    """The files that `export` would write, with sizes and digests. Errors as in `exported`. `measure` is asked for
    size and digest instead of the tree, if it knows a quicker way."""
    measure = measure or tree.measure
    return Snapshot(
        tuple(
            CodeFile(name, *measure(entry.path), entry.mode == EXECUTABLE)
            for name, entry in exported(tree, folder, exclude)
        )
    )


def code_digest(tree: Tree, folder: str, exclude: Sequence[str] = NOT_CODE) -> str:
    """The digest of the folder's code for identities: names, contents, and which are executable."""
    return snapshot(tree, folder, exclude).digest
