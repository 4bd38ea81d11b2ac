"""Which commit stands for a pull request's merge, what it is compared with, and whether it can be merged at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgetrain.core.errors import RepositoryError, UsageError
from edgetrain.repo.git import Git
from edgetrain.repo.merge import conflicts, parents, present
from edgetrain.repo.objects import OID

MERGED, CURRENT, CONFLICT, UNMERGED = "merged", "current", "conflict", "unmerged"


@dataclass(frozen=True)
class Merge:
    """`commit` is what is read. `tip` is the base branch's commit that it was merged into, `base` the one that its
    files are compared with: of a head that could not be merged, where it left the base branch. `state` is MERGED
    (a merge commit), CURRENT (the head has all of the base branch), CONFLICT (in the paths of `conflicts`, None
    where git can't tell them) or UNMERGED (there is no merge commit, and none is needed to read the head)."""

    commit: str
    tip: str
    base: str
    state: str
    conflicts: Sequence[str] | None = ()
    note: str = ""


def find_merge(git: Git, head: str, base: str) -> Merge:
    """The merge of `head` into `base`, of which one or the other is checked out (HEAD), detached or not.

    Raises UsageError, or RepositoryError where the clone lacks a commit, or HEAD is something else.
    """
    for name, sha in (("--head", head), ("--base", base)):
        if not OID.fullmatch(sha):
            raise UsageError(f"{name} is no full commit id", fix="give it as the forge tells it: 40 hex digits")
    commit = git.head()
    if not present(git, base):
        raise RepositoryError(
            f"the base commit {base[:12]} is not in this clone",
            reason="BaseMissing",
            fix="fetch the base branch too: actions/checkout with fetch-depth: 0",
        )
    if commit == head:
        return _head(git, head, base)
    first = parents(git, commit)
    if len(first) != 2 or first[1] != head:
        raise RepositoryError(
            f"HEAD is {commit[:12]}, which is neither the pull request's head {head[:12]} nor its merge",
            reason="NotTheMerge",
            fix="check out the commit that the workflow runs for; a newer push is checked by a run of its own",
        )
    if first[0] == base or not present(git, first[0]):
        return Merge(commit, base, base, MERGED)
    if git.is_shallow() or git.is_ancestor(base, first[0]):
        return Merge(commit, first[0], first[0], MERGED)  # the base branch moved on since the event
    note = f"the merge commit is one into {first[0][:12]}, which does not hold the base commit {base[:12]}"
    return Merge(commit, first[0], first[0], MERGED, note=note)


def _head(git: Git, head: str, base: str) -> Merge:
    """There is no merge commit: the head is read as it is."""
    if git.is_ancestor(base, head):
        return Merge(head, base, base, CURRENT)
    left = git.merge_base(head, base)
    if left is None:
        why = "the clone is shallow" if git.is_shallow() else "it shares no history with the base branch"
        return Merge(head, base, base, UNMERGED, note=f"where the head left the base branch can't be told: {why}")
    found = conflicts(git, base, head)
    if found is not None and not found:
        return Merge(head, base, left, UNMERGED, note="there is no merge commit: the head was read as it is")
    return Merge(head, base, left, CONFLICT, found)
