"""Tells what happened on main in a span of time, from git alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgetrain.core.errors import UsageError
from edgetrain.core.ports import EgressLevel
from edgetrain.core.problem import shown
from edgetrain.core.record import (
    EvaluationRecord,
    Outcome,
    ProposalRecord,
    Record,
    ReleaseRecord,
    RunRecord,
    is_record_path,
)
from edgetrain.reconcile.hands import hand_doubts, hand_of, recorded_hand
from edgetrain.reconcile.judge import machines_of
from edgetrain.reconcile.lookup import read_main
from edgetrain.reconcile.state import State
from edgetrain.render.hands import Doubt, Hand
from edgetrain.render.period import Egress, Event, Period
from edgetrain.render.story import point
from edgetrain.repo.history import mainline
from edgetrain.repo.objects import Commit

MOST_TOUCHES = 12


@dataclass(frozen=True)
class _Landed:
    """A commit of main's own line, with its place there and the paths that it changed."""

    place: int
    commit: Commit
    paths: tuple[str, ...]


def period(root: Path, since: str | None, until: str | None) -> Period:
    """All that happened from the day `since` on and before the day `until` began, on main as last fetched.

    Days are RFC 3339 dates in UTC; None is open. Raises UsageError for another form, or an empty span.
    """
    first, last = day("--since", since), day("--until", until)
    if first and last and last <= first:
        raise UsageError(
            f"nothing lies from {first} on and before {last}",
            fix="the day of --until is not in it: give the day after the last one",
        )
    state = read_main(root)
    landed = [_Landed(at, *one) for at, one in enumerate(mainline(state.git, state.commit))]
    inside = {one.commit.sha: one for one in landed if _within(one.commit.committer.time, first, last)}
    found = [*_merges(state, inside), *_records(state, inside)]
    return Period(
        since=first,
        until=last,
        commit=state.commit,
        branch=state.desired.configuration.branch,
        events=tuple(event for _, event in sorted(found, key=lambda pair: pair[0])),
        notes=tuple(_notes(state, landed)),
    )


def day(option: str, text: str | None) -> str:
    """The date, checked; empty for None. Raises UsageError."""
    if text is None:
        return ""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise UsageError(f"{option} {shown(text)!r} is no date", fix=f"write {option} 2026-07-01 (a day in UTC)")
    return text


def _within(time: str, since: str, until: str) -> bool:
    """Times are RFC 3339 in UTC, so that their first ten characters are the day."""
    return (not since or time[:10] >= since) and (not until or time[:10] < until)


def _notes(state: State, landed: list[_Landed]) -> Iterator[str]:
    if state.git.is_shallow():
        yield "This clone is shallow: what is older is not in this report. git fetch --unshallow, then audit again."
    times = [one.commit.committer.time for one in landed]
    if back := sum(after < before for before, after in pairwise(times)):
        said = f"{back} commit(s) of main claim to be older than the one before"
        yield f"{said}: a clock was wrong, and an event near an end of the span may be counted in another."


Placed = tuple[tuple[int, int, str], Event]


def _merges(state: State, inside: Mapping[str, _Landed]) -> Iterator[Placed]:
    """Commits of main that bring something else than records."""
    machines = machines_of(state.git, state.commit)
    machine = state.desired.configuration.machine.email
    told = _told_hands(state)
    cut = state.git.boundary()
    for sha, one in inside.items():
        others = [path for path in one.paths if not is_record_path(path)]
        if sha in cut or (one.paths and not others):
            continue
        by_machine = one.commit.committer.email in machines and len(one.commit.parents) < 2
        hand = told.get(sha) or hand_of(state, sha, machine)
        joined = len(one.commit.parents) > 1 or hand.pull_request is not None
        kind = "automatic" if by_machine else "merged" if joined else "pushed"
        event = Event(
            time=one.commit.committer.time,
            kind=kind,
            subject=shown(one.commit.subject, 200),
            what=f"{len(one.paths)} file(s)",
            commit=sha,
            hand=hand,
            touches=touched(others),
            doubts=() if by_machine else tuple(hand_doubts("merge", hand)),
        )
        yield (one.place, 0, ""), event


def _told_hands(state: State) -> dict[str, Hand]:
    """Who stands behind a merge, as records keep it: the forge told it, where git only says what was written."""
    recorded = state.recorded
    every = [record.data.get("provenance") for record in (*recorded.runs, *recorded.releases)]
    hands = [recorded_hand(one) for one in every if isinstance(one, dict)]
    return {hand.merge_commit: hand for hand in hands if hand.merge_commit and hand.review is not None}


def touched(paths: list[str]) -> tuple[str, ...]:
    """What a change is about: experiments, models and folders by name, each once."""
    names = []
    for path in sorted(paths):
        parts = path.split("/")
        short = len(parts) > 2 and parts[0] in ("experiments", "models")
        names.append("/".join(parts[:2]) if short or len(parts) > 1 else path)
    known = list(dict.fromkeys(shown(name, 80) for name in names))
    more = [f"and {len(known) - MOST_TOUCHES} more"] if len(known) > MOST_TOUCHES else []
    return (*known[:MOST_TOUCHES], *more)


def _records(state: State, inside: Mapping[str, _Landed]) -> Iterator[Placed]:
    recorded = state.recorded
    every: list[Record] = [*recorded.runs, *recorded.evaluations, *recorded.proposals, *recorded.releases]
    for record in every:
        addition = state.added.get(record.path)
        landed = inside.get(addition.commit) if addition and addition.certain else None
        if landed is not None:
            yield (landed.place, record.ordinal, record.path), _event(state, record, landed)


def _event(state: State, record: Record, landed: _Landed) -> Event:
    data = record.data
    common: dict[str, Any] = {
        "time": landed.commit.committer.time,
        "commit": landed.commit.sha,
        "record": record.path,
    }
    if isinstance(record, RunRecord):
        hand = recorded_hand(data["provenance"])
        left = _left(data)
        said = f"{data['reason']}: {data.get('message') or ''}".rstrip(": ")
        return Event(
            kind="run",
            subject=record.run_id,
            what=said,
            outcome=record.outcome.value,
            hand=hand,
            egress=left,
            doubts=(*hand_doubts("experiment", hand), *_run_doubts(record, left)),
            **common,
        )
    if isinstance(record, EvaluationRecord):
        run = state.recorded.run(record.run)
        said = f"{record.outcome.value}: {data.get('reason', '')}".rstrip(": ")
        subject = run.run_id if run else record.path
        return Event(kind="judged", subject=subject, what=said, outcome=record.outcome.value, **common)
    if isinstance(record, ProposalRecord):
        run = state.recorded.run(record.run)
        where = f", pull request #{record.pull_request}" if record.pull_request else ""
        said = f"from {run.run_id}{where}" if run else ""
        return Event(kind="proposed", subject=f"{record.model}@{record.version}", what=said, **common)
    assert isinstance(record, ReleaseRecord)
    hand = recorded_hand(data.get("provenance") or {})
    about = f"move of {data['channel']}" if record.event == "channel" else f"{record.event} version"
    return Event(
        kind=record.event,
        subject=f"{record.model}@{record.version}",
        what=_words(record),
        hand=hand,
        doubts=tuple(hand_doubts(about, hand)),
        **common,
    )


def _words(record: ReleaseRecord) -> str:
    data = record.data
    if record.event == "channel":
        return f"{data['channel']}: {point(data['from'])} to {point(data['to'])}"
    if record.event == "withdrawn":
        return str(data["why"])
    if record.event == "registered":
        return f"registered in {record.workspace}, before in {data['from']}"
    image = data["image"]
    return f"{image['repository']}@{image['digest']}"


def _left(data: Mapping[str, Any]) -> Egress:
    egress, target = data["egress"], data["target"]
    return Egress(
        site=target["site"],
        target=target["name"],
        level=str(egress.get("level", target["egress"])),
        logs=str(egress.get("logs", "site")),
        files=int(egress.get("files", 0)),
        bytes=int(egress.get("bytes", 0)),
        waivers=tuple(egress.get("waivers", ())),
    )


def _run_doubts(run: RunRecord, left: Egress) -> Iterator[Doubt]:
    if run.outcome in (Outcome.FAILED, Outcome.REJECTED):
        yield Doubt(
            "Rejected" if run.outcome is Outcome.REJECTED else "Failed", f"the run ended: {run.data['reason']}"
        )
    if left.level != EgressLevel.ENFORCED.value:
        yield Doubt("EgressAdvisory", f"the run was not kept from the network: the level was {left.level}")
    if left.waivers:
        yield Doubt("Waived", f"{len(left.waivers)} egress waiver(s) were used")
