"""Checks that the records on main are the machine's, and are all still there, from plain facts of git's history."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgetrain.core.checks.history import may_accompany, not_the_machine
from edgetrain.core.codes import history as codes
from edgetrain.core.problem import Code, Problem, problem, shown


@dataclass(frozen=True)
class Touch:
    """A commit in main's history that touched records.

    `blobs` maps each record's path to its object afterwards (None: removed), `others` are the other paths it
    touched, `automatic` the models whose versions may lie beside records as of that commit. A `vouched`
    commit lies before the signers were first listed, and who listed them took the records as they were.
    """

    commit: str
    committer: str
    blobs: Mapping[str, str | None]
    others: tuple[str, ...] = ()
    signature: str = "unknown"
    automatic: frozenset[str] = frozenset()
    merge: bool = False
    vouched: bool = False


@dataclass(frozen=True)
class Main:
    """What is known of main's records.

    `start` are the records taken as they were (judged before, or cut off), `present` those of the tip, both
    by path with their object; `touches` are the commits between, oldest first. Signatures count if `signers`
    are listed; else the committer must be one of `machines`. Not `verifiable`: signatures can't be told here.
    `earlier` is a tip that was judged good and that main's history does not hold any more; it `had` these records.
    """

    start: Mapping[str, str]
    present: Mapping[str, str]
    touches: Sequence[Touch]
    machines: Collection[str]
    signers: bool
    verifiable: bool = True
    earlier: str = ""
    had: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wrong:
    """A record that is not as the machine wrote it. `right` is the object it must be; None: no file at all.
    `earlier` is the tip that had it, if main's history was rewritten since; `memory` is the file that tells so."""

    path: str
    right: str | None
    code: Code
    by: Touch | None
    why: str
    earlier: str = ""
    memory: str = "`edgetrain-judged.json` from that checkout's .git folder"


def wrong_records(main: Main) -> list[Wrong]:
    """Each path whose bytes on main no lawful commit wrote, or whose lawful bytes are gone, sorted by path.

    Only what is there counts, so a forged record that was removed and a record that was put back are well.
    """
    genuine = dict(main.start)
    last: dict[str, Touch] = {}
    faults: dict[str, tuple[Code, str]] = {}
    for touch in main.touches:
        fault = None if touch.vouched else _fault(main, touch)
        if fault:
            faults[touch.commit] = fault
        for path, blob in touch.blobs.items():
            last[path] = touch
            if touch.vouched and blob is None:
                genuine.pop(path, None)
            elif touch.vouched and blob is not None:
                genuine[path] = blob
            elif fault is None and blob is not None:
                genuine.setdefault(path, blob)
    found = []
    for path in sorted(genuine.keys() | main.present.keys()):
        right, blob = genuine.get(path), main.present.get(path)
        if right == blob:
            continue
        by = last.get(path)
        if right is not None:
            why = "removes" if blob is None else "changes"
            found.append(Wrong(path, right, codes.RECORD_CHANGED, by, why))
        else:
            code, why = faults.get(by.commit if by else "", (codes.RECORD_BY_HAND, "wrote it unseen and"))
            found.append(Wrong(path, None, code, by, why))
    told = {wrong.path for wrong in found}
    for path in sorted(path for path, blob in main.had.items() if main.present.get(path) != blob):
        if path not in told:
            found.append(Wrong(path, main.had[path], codes.RECORD_CHANGED, None, "removes", main.earlier))
    return sorted(found, key=lambda wrong: wrong.path)


def main_problems(wrongs: Sequence[Wrong]) -> Iterator[Problem]:
    """One problem for what one commit did."""
    groups: dict[tuple[str, str], list[Wrong]] = {}
    for wrong in wrongs:
        groups.setdefault((wrong.by.commit if wrong.by else wrong.earlier, wrong.code.id), []).append(wrong)
    for group in groups.values():
        first = group[0]
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        verb = first.why if first.code is codes.RECORD_CHANGED else f"{first.why} touches"
        what = f"on main, {_who(first.by)} {verb} {shown(first.path)}{more}"
        if first.earlier:
            what = (
                f"main's history was rewritten, and {shown(first.path)}{more} of {first.earlier[:12]} is not on it"
            )
        yield problem(first.code, first.path, None, what, _fix(first))


def _who(touch: Touch | None) -> str:
    return f"commit {touch.commit[:12]} by {shown(touch.committer)}" if touch else "a commit"


def _fix(wrong: Wrong) -> str:
    if wrong.earlier:
        return (
            f"Put the earlier history back from a checkout that has it (`git push --force-with-lease origin "
            f"{wrong.earlier[:12]}:main`), and make the change by new commits. If the records are to be gone for "
            f"ever, remove {wrong.memory}; their runs are then made again."
        )
    if wrong.by is None:
        return "Look for the commit with `git log -- FILE`, and undo it by a new one on main."
    undo = (
        f"Undo it by a new commit on main: `git revert {'-m 1 ' if wrong.by.merge else ''}{wrong.by.commit[:12]}`."
    )
    if wrong.code is codes.RECORD_BY_HAND and wrong.by.signature == "unknown":
        return undo + " If the machine's key was replaced, list the old one too, with `valid-before`."
    return undo


def _fault(main: Main, touch: Touch) -> tuple[Code, str] | None:
    if not main.signers or main.verifiable:
        why = not_the_machine(touch.signature, touch.committer, main.signers, main.machines)
        if why:
            return codes.RECORD_BY_HAND, why
    odd = sorted(path for path in touch.others if not may_accompany(path, touch.automatic))
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        return codes.RECORD_WITH_OTHERS, f"changes {shown(odd[0])}{more}, and"
    return None
