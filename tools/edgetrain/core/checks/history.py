"""Checks what a branch did to merged versions and to records, from plain facts of git's history."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgetrain.core.codes import history as codes
from edgetrain.core.kinds import kind_at
from edgetrain.core.problem import Problem, problem, shown

_RECORD = re.compile(
    r"experiments/[^/]+/runs/[^/]+\.json|models/[^/]+/(proposals/[^/]+|versions/[^/]+\.release-[^/]+)\.json"
)
_VERSION = re.compile(r"models/(?P<model>[^/]+)/versions/[^/]+\.yaml")
_STATUS = {"M": "changed", "T": "changed", "D": "removed"}


@dataclass(frozen=True)
class Writing:
    """A commit of the branch that touched records. `changes` maps each record's path to A, M, D or T;
    `others` are the other paths that it touched; `signature` is `good`, `bad`, `none` or `unknown`."""

    commit: str
    committer: str
    changes: Mapping[str, str]
    others: tuple[str, ...]
    signature: str


@dataclass(frozen=True)
class Branch:
    """What a branch (or work tree) has done since it left main.

    `changed` maps paths to A, M or D. `kept` are the folders of experiments and models that have records on
    main. `machine` is the e-mail of the committer of records. Signatures count if `signers` are listed on
    main. `automatic` are the models whose versions the machine may commit together with records.
    """

    changed: Mapping[str, str]
    kept: frozenset[str]
    writings: Sequence[Writing]
    machine: str
    signers: bool
    automatic: frozenset[str] = field(default_factory=frozenset)


def check_history(branch: Branch) -> list[Problem]:
    """All problems, sorted."""
    gone = set(_deleted(branch))
    found = [
        problem(codes.DELETED_WITH_RECORDS, f"{folder}/{_manifest(folder)}", None, f"{shown(folder)} has records")
        for folder in gone
    ]
    for path, status in branch.changed.items():
        if any(path.startswith(folder + "/") for folder in gone if status == "D"):
            continue
        found += _changed(path, status)
    committed: set[str] = set()
    for writing in branch.writings:
        committed.update(writing.changes)
        # What a deleted folder took with it is told once, by the folder.
        left = {
            p: s for p, s in writing.changes.items() if s == "A" or not p.startswith(tuple(f"{g}/" for g in gone))
        }
        if left:
            found += _written(branch, replace(writing, changes=left))
    for path, status in branch.changed.items():
        if status == "A" and _RECORD.fullmatch(path) and path not in committed:
            what = f"{shown(path)} is not committed yet"
            found.append(problem(codes.RECORD_BY_HAND, path, None, what))
    return sorted(set(found))


def touches_record(path: str) -> bool:
    """Whether only the machine may write this path."""
    return _RECORD.fullmatch(path) is not None


def _manifest(folder: str) -> str:
    return "experiment.yaml" if folder.startswith("experiments/") else "model.yaml"


def _deleted(branch: Branch) -> Iterator[str]:
    for folder in branch.kept:
        if branch.changed.get(f"{folder}/{_manifest(folder)}") == "D":
            yield folder


def _changed(path: str, status: str) -> Iterator[Problem]:
    if status == "A":
        return
    if _VERSION.fullmatch(path) and kind_at(path):
        what = f"{shown(path)} is merged and was {_STATUS[status]}"
        yield problem(codes.VERSION_CHANGED, path, None, what)
    elif _RECORD.fullmatch(path):
        yield problem(codes.RECORD_CHANGED, path, None, f"{shown(path)} was {_STATUS[status]}")


def _written(branch: Branch, writing: Writing) -> Iterator[Problem]:
    who = f"commit {writing.commit[:12]} by {shown(writing.committer)}"
    path = min(writing.changes)
    count = len(writing.changes)
    named = shown(path) + (f" and {count - 1} more" if count > 1 else "")
    why = not_the_machine(writing.signature, writing.committer, branch.signers, (branch.machine,))
    if why:
        touched = f"{why} touches" if branch.signers else "touches"
        hint = "" if branch.signers else f"; the machine is {shown(branch.machine)}"
        yield problem(codes.RECORD_BY_HAND, path, None, f"{who} {touched} {named}{hint}")
    for record, status in sorted(writing.changes.items()):
        # Told even if a later commit puts it back: each commit of the branch would be merged.
        if status != "A" and record not in branch.changed:
            what = f"{who} touches {shown(record)}, which is no new record"
            yield problem(codes.RECORD_CHANGED, record, None, what)
    odd = [other for other in writing.others if not may_accompany(other, branch.automatic)]
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        what = f"{who} touches {named}, and {shown(min(odd))}{more}"
        yield problem(codes.RECORD_WITH_OTHERS, path, None, what)


def not_the_machine(signature: str, committer: str, signers: bool, machines: Collection[str]) -> str:
    """Why a commit is not the machine's, to stand before "touches ..."; empty if it is the machine's."""
    if not signers:
        return "" if committer in machines else "is not the machine's and"
    if signature == "good":
        return ""
    said = {"none": "is not signed", "bad": "has a bad signature"}
    return said.get(signature, "is signed by a key that main does not list, or could not be verified") + " and"


def may_accompany(path: str, automatic: Collection[str]) -> bool:
    """Whether a commit that writes records may touch this path too."""
    found = _VERSION.fullmatch(path)
    return found is not None and found["model"] in automatic
