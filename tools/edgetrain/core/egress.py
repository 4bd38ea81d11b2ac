"""Waivers of the egress guard: which hold today, what they cover, and what is left to refuse."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgetrain.core.codes import CODES, FAMILIES
from edgetrain.core.codes import egress as codes
from edgetrain.core.codes.policy import ADVISORY_TARGET
from edgetrain.core.kinds import Experiment
from edgetrain.core.kinds.common import below
from edgetrain.core.kinds.experiment import Waiver
from edgetrain.core.problem import Problem, Severity, did_you_mean, problem, shown
from edgetrain.core.snapshot import Snapshot

MAX_LISTED = 1000
BEFORE, AFTER = "E6", "E7"
_FIXED: frozenset[str] = frozenset().union(*(getattr(family, "NOT_WAIVABLE", ()) for family in FAMILIES))
# Of what the plan refuses, only the level of a target can be answered for.
WAIVABLE = frozenset(code for code in CODES if code.startswith((BEFORE, AFTER))) - _FIXED | {ADVISORY_TARGET.id}


@dataclass(frozen=True)
class Verdict:
    """The guard's answer for one experiment.

    `problems` are told by validate (warnings too); `refusals` are why no new run may start; `waivers` hold
    today; `waived` are the problems that they cover.
    """

    problems: tuple[Problem, ...] = ()
    refusals: tuple[Problem, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    waived: tuple[Problem, ...] = field(default=())


def is_guard(code: str) -> bool:
    """Whether a problem's code is one of the guard's: it stops its experiment's runs and nothing else."""
    return code.startswith((BEFORE, AFTER))


def judge(experiment: Experiment, found: Iterable[Problem], owners: Collection[str], today: str) -> Verdict:
    """What stays of the problems `found` in an experiment's code under its waivers, on the day `today`
    (`2026-12-31`). `owners` are those of the experiment, its model and the configuration."""
    found = list(found)
    if not found and not experiment.waivers:
        return Verdict()
    active = [waiver for waiver in experiment.waivers if in_force(waiver, today)]
    expired = [waiver for waiver in experiment.waivers if waiver.code in WAIVABLE and waiver.expires < today]
    left: list[Problem] = []
    waived: list[Problem] = []
    lapsed: list[Problem] = []
    used: set[Waiver] = set()
    for each in found:
        holding = [waiver for waiver in active if _covers(experiment, waiver, each)]
        used.update(holding)
        if holding:
            waived.append(each)
        elif any(_covers(experiment, waiver, each) for waiver in expired):
            lapsed.append(each)
        else:
            left.append(each)
    about = [*_wrong(experiment), *_of_nobody(experiment, owners)]
    about += _unused(experiment, [waiver for waiver in active if waiver not in used])
    over = list(_expired(experiment, expired))
    stopping = [each for each in (*left, *about) if each.severity is Severity.PROBLEM]
    return Verdict(
        problems=tuple(sorted({*left, *about, *over})),
        refusals=tuple(sorted({*stopping, *lapsed, *(replace(each, severity=Severity.PROBLEM) for each in over)})),
        waivers=tuple(active),
        waived=tuple(sorted(waived)),
    )


def in_force(waiver: Waiver, today: str) -> bool:
    """Whether it holds on that day; its last day counts."""
    return waiver.code in WAIVABLE and today <= waiver.expires


def to_json(waiver: Waiver) -> dict[str, Any]:
    """A waiver as plan and record tell it."""
    told = {"code": waiver.code, "path": waiver.path, "reason": waiver.reason, "owner": waiver.owner}
    return {key: value for key, value in {**told, "expires": waiver.expires}.items() if value is not None}


def code_json(snapshot: Snapshot) -> dict[str, Any]:
    """The code in numbers, as the record tells it."""
    return {"files": len(snapshot.files), "bytes": snapshot.bytes, "digest": snapshot.digest}


def summary(experiment: Experiment, snapshot: Snapshot, verdict: Verdict) -> dict[str, Any]:
    """What a plan tells of one experiment: the files that its runs get, where logs may go, and the waivers.

    `list` holds path, bytes and digest of the first `MAX_LISTED` files.
    """
    # A name that is no text in UTF-8 has no place in a plan's digest.
    listed = [[shown(file.path, 4096), file.size, file.digest] for file in snapshot.files[:MAX_LISTED]]
    return {
        "experiment": experiment.name,
        "code": {**code_json(snapshot), "list": listed},
        "logs": experiment.logs,
        "waivers": [to_json(waiver) for waiver in verdict.waivers],
    }


def _covers(experiment: Experiment, waiver: Waiver, found: Problem) -> bool:
    """A path is a file, or a folder with all in it, below the experiment's folder."""
    # What its model's evaluation runs is not the experiment's to answer for.
    if waiver.code != found.code or not found.path.startswith(experiment.folder + "/"):
        return False
    if waiver.path is None:
        return True
    place = below(experiment.folder, waiver.path)
    return found.path == place or found.path.startswith(place + "/")


def _numbered(experiment: Experiment) -> Iterator[tuple[int, Waiver]]:
    return enumerate(experiment.waivers)


def _wrong(experiment: Experiment) -> Iterator[Problem]:
    document = experiment.document
    for index, waiver in _numbered(experiment):
        if waiver.code not in WAIVABLE:
            mark = document.mark("spec", "egress", "waivers", index, "code")
            why = "can't be waived" if waiver.code in CODES else "is no code" + did_you_mean(waiver.code, WAIVABLE)
            yield problem(codes.WAIVER_UNKNOWN, document.path, mark, f"{waiver.code} {why}")


def _of_nobody(experiment: Experiment, owners: Collection[str]) -> Iterator[Problem]:
    document = experiment.document
    for index, waiver in _numbered(experiment):
        if owners and waiver.owner not in owners:
            mark = document.mark("spec", "egress", "waivers", index, "owner")
            hint = did_you_mean(waiver.owner, owners)
            what = f"{shown(waiver.owner)} owns neither the experiment nor its model{hint}"
            yield problem(codes.WAIVER_OWNER, document.path, mark, what)


def _unused(experiment: Experiment, waivers: Sequence[Waiver]) -> Iterator[Problem]:
    document = experiment.document
    for index, waiver in _numbered(experiment):
        # Whether one of the content check is used is known only after a run.
        if waiver in waivers and waiver.code.startswith(BEFORE):
            mark = document.mark("spec", "egress", "waivers", index)
            yield problem(codes.WAIVER_UNUSED, document.path, mark, f"nothing has {_named(waiver)}")


def _expired(experiment: Experiment, waivers: Sequence[Waiver]) -> Iterator[Problem]:
    document = experiment.document
    for index, waiver in _numbered(experiment):
        if waiver in waivers:
            mark = document.mark("spec", "egress", "waivers", index, "expires")
            what = f"the waiver of {_named(waiver)} held until {waiver.expires}"
            yield problem(codes.WAIVER_EXPIRED, document.path, mark, what)


def _named(waiver: Waiver) -> str:
    return f"{waiver.code} in {shown(waiver.path)}" if waiver.path else waiver.code
