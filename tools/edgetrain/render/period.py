"""What happened on main in a span of time: frozen values, and the report as text, Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.core.digest import short
from edgetrain.core.problem import shown
from edgetrain.core.quantity import human_bytes
from edgetrain.render.hands import NOBODY, Doubt, Hand, approvers, merger, proposer
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import prose, table
from edgetrain.render.tables import aligned, labelled, plain
from edgetrain.render.words import plural, waiver_line

# Doubts of who looked: a second pair of eyes was missing, or cannot be told.
SELF = "SelfApproved"
UNSEEN = frozenset({"ApproverUnknown", "LateApproval", "MachineApproved", "NotApproved", "StaleApproval"})
TROUBLE = frozenset({"failed", "rejected", "lost", "cancelled"})
MERGES = frozenset({"merged", "pushed", "automatic"})
RELEASES = frozenset({"released", "registered"})
LIMIT = 300
# What a spreadsheet would take for a formula, and what it would cut off before it does.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_WITHIN = re.compile(r"""([;|"]\s*)(?=[=+@\-＝＋－＠])""")


@dataclass(frozen=True)
class Egress:
    """What left the site with one run."""

    site: str
    target: str
    level: str
    logs: str
    files: int
    bytes: int
    waivers: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Event:
    """One thing that happened. `kind` is `merged`, `pushed` or `automatic` (by the machine, as its model says) for
    commits of main; `run`, `judged`, `proposed`, `released`, `registered`, `channel` or `withdrawn` for records.
    `time` is when its commit came to main, as that claims."""

    time: str
    kind: str
    subject: str
    what: str
    commit: str
    record: str = ""
    outcome: str = ""
    hand: Hand | None = None
    touches: tuple[str, ...] = ()
    egress: Egress | None = None
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True)
class Period:
    """All events from the day `since` on and before the day `until` began (UTC; empty: open), in main's order."""

    since: str
    until: str
    commit: str
    branch: str
    events: tuple[Event, ...]
    notes: tuple[str, ...] = ()

    def of(self, kinds: frozenset[str] | set[str]) -> tuple[Event, ...]:
        """The events of these kinds."""
        return tuple(event for event in self.events if event.kind in kinds)


def span(found: Period) -> str:
    """`from 2026-07-01, before 2026-10-01 (UTC)`."""
    parts = [f"from {found.since}" if found.since else "", f"before {found.until}" if found.until else ""]
    return f"{', '.join(filter(None, parts))} (UTC)"


def totals(found: Period) -> dict[str, Any]:
    """The sums that a reader looks at first. A merge is counted once, whatever follows from it."""
    outcomes = Counter(event.outcome for event in found.of({"run"}))
    left = [event.egress for event in found.events if event.egress]
    sums: dict[str, dict[str, int]] = {}
    for one in left:
        entry = sums.setdefault(one.target, {"runs": 0, "files": 0, "bytes": 0, "logs": 0})
        for key, count in (("runs", 1), ("files", one.files), ("bytes", one.bytes), ("logs", one.logs != "site")):
            entry[key] += count
    return {
        "merges": len(found.of(MERGES)),
        "selfApproved": _merges_with(found, frozenset({SELF})),
        "withoutApproval": _merges_with(found, UNSEEN),
        "runs": sum(outcomes.values()),
        "outcomes": dict(sorted(outcomes.items())),
        "releases": len(found.of({"released"})),
        "channelMoves": len(found.of({"channel"})),
        "withdrawals": len(found.of({"withdrawn"})),
        "waivers": sum(len(one.waivers) for one in left),
        "advisoryRuns": sum(one.level != "enforced" for one in left),
        "egress": {
            "files": sum(one.files for one in left),
            "bytes": sum(one.bytes for one in left),
            "logs": sum(one.logs != "site" for one in left),
            "targets": dict(sorted(sums.items())),
        },
    }


def _merges_with(found: Period, names: frozenset[str]) -> int:
    """Commits of main that somebody should look at: their own doubts, and those of what was recorded of them."""
    return len(
        {
            event.hand.merge_commit or event.commit if event.hand else event.commit
            for event in found.events
            if any(doubt.name in names for doubt in event.doubts)
        }
    )


def total_rows(found: Period) -> list[tuple[str, str]]:
    """The sums in words."""
    sums = totals(found)
    outcomes = ", ".join(f"{count} {name}" for name, count in sums["outcomes"].items())
    egress = sums["egress"]
    merged, pushed, automatic = (len(found.of({kind})) for kind in ("merged", "pushed", "automatic"))
    return [
        ("came to main", f"{plural(merged, 'merge')}, {pushed} pushed, {automatic} automatic"),
        ("approved by their own proposer", str(sums["selfApproved"])),
        ("without an approval that counts, or that is known", str(sums["withoutApproval"])),
        ("runs", f"{sums['runs']}{f' ({outcomes})' if outcomes else ''}"),
        ("releases", str(sums["releases"])),
        ("channel moves", str(sums["channelMoves"])),
        ("withdrawals", str(sums["withdrawals"])),
        ("waivers used", str(sums["waivers"])),
        ("runs on advisory targets", str(sums["advisoryRuns"])),
        ("left the site", f"{_size(egress)}; logs of {plural(egress['logs'], 'run')}"),
    ]


def _size(left: Mapping[str, int]) -> str:
    return f"{plural(left['files'], 'file')}, {human_bytes(left['bytes'])}"


Row = tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A table with its head; `empty` is said where there is no row."""

    title: str
    head: Row
    rows: Sequence[Row]
    empty: str


def sections(found: Period) -> Iterator[Section]:
    """The tables of the report, what somebody should look at first."""
    attention = [
        (event.time, f"{event.kind} {event.subject}", doubt.name, doubt.what)
        for event in found.events
        for doubt in event.doubts
    ]
    yield Section("To look at", ("when", "what", "doubt", "in words"), attention, "Nothing stands out.")
    head = ("when", "commit", "what", "proposed by", "approved by", "merged by", "pull request", "touches")
    rows = [
        (e.time, short(e.commit), f"{e.kind}: {e.subject}", *_hand(e.hand), ", ".join(e.touches))
        for e in found.of(MERGES)
    ]
    yield Section("Merges", head, rows, "Nothing came to main but records.")
    yield from _runs(found)
    head = ("when", "what", "version", "in words", "proposed by", "approved by", "merged by", "pull request")
    for title, kinds, empty in (
        ("Releases", RELEASES, "Nothing was released."),
        ("Channel moves", {"channel"}, "No channel moved."),
        ("Withdrawals", {"withdrawn"}, "Nothing was withdrawn."),
    ):
        of = [(e.time, e.kind, e.subject, e.what, *_hand(e.hand)) for e in found.of(set(kinds))]
        yield Section(title, head, of, empty)
    waivers = [(e.time, e.subject, waiver_line(w)) for e in found.events if e.egress for w in e.egress.waivers]
    yield Section("Waivers used", ("when", "run", "waiver"), waivers, "No waiver was used.")
    sums = totals(found)["egress"]["targets"]
    left = [(name, *(str(one[key]) for key in ("runs", "files", "bytes", "logs"))) for name, one in sums.items()]
    yield Section(
        "What left the site", ("target", "runs", "files", "bytes", "logs"), left, "Nothing left the site."
    )


def _runs(found: Period) -> Iterator[Section]:
    head = ("when", "run", "outcome", "in words", "proposed by", "approved by", "target", "level", "left")
    rows = [
        (e.time, e.subject, e.outcome, e.what, *_hand(e.hand)[:2], left.target, left.level, _size(plain(left)))
        for e in found.of({"run"})
        if (left := e.egress)
    ]
    bad = [row for row in rows if row[2] in TROUBLE]
    yield Section("Failed, rejected, lost and cancelled runs", head, bad, "No run failed or was rejected.")
    yield Section("Other runs", head, [row for row in rows if row[2] not in TROUBLE], "No other run.")
    others = [(e.time, e.kind, e.subject, e.what) for e in found.of({"judged", "proposed"})]
    yield Section("Judged again, and proposed", ("when", "what", "of", "in words"), others, "None.")


def _hand(hand: Hand | None) -> tuple[str, str, str, str]:
    if hand is None:
        return NOBODY, NOBODY, NOBODY, ""
    return proposer(hand), approvers(hand), merger(hand), hand.pull_request or ""


def heading(found: Period) -> str:
    """What the report is of."""
    return f"Audit of {shown(found.branch)} {span(found)}"


def period_text(found: Period) -> str:
    """For a terminal."""
    lines = [heading(found), f"Read from git at {short(found.commit)}."]
    lines += [shown(note, LIMIT) for note in found.notes]
    lines += ["", *labelled(total_rows(found))]
    for section in sections(found):
        if section.rows:
            lines += ["", section.title, *aligned([section.head, *section.rows], limit=60)]
    return "\n".join(lines) + "\n"


def period_markdown(found: Period) -> str:
    """For a page or a comment."""
    lines = [f"# {prose(heading(found))}", "", f"Read from git at {short(found.commit)}.", ""]
    lines += [f"- {prose(note)}" for note in found.notes]
    lines += ["", *table(("sum", ""), [(prose(name), prose(text)) for name, text in total_rows(found)])]
    for section in sections(found):
        lines += ["", f"## {section.title}", ""]
        rows = [tuple(prose(shown(cell, LIMIT)) for cell in row) for row in section.rows]
        lines += list(table(section.head, rows)) if rows else [section.empty]
    return "\n".join(lines) + "\n"


def period_json(found: Period) -> str:
    """For machines."""
    told = plain(found)
    return as_json({"apiVersion": "edgetrain/v1", "kind": "AuditReport", **told, "totals": totals(found)})


COLUMNS: dict[str, Callable[[Event], str]] = {
    "time": lambda e: e.time,
    "kind": lambda e: e.kind,
    "subject": lambda e: e.subject,
    "outcome": lambda e: e.outcome,
    "what": lambda e: e.what,
    "proposed by": lambda e: _hand(e.hand)[0] if e.hand else "",
    "approved by": lambda e: _hand(e.hand)[1] if e.hand else "",
    "merged by": lambda e: _hand(e.hand)[2] if e.hand else "",
    "pull request": lambda e: _hand(e.hand)[3],
    "merge commit": lambda e: (e.hand.merge_commit or "") if e.hand else "",
    "commit": lambda e: e.commit,
    "record": lambda e: e.record,
    "site": lambda e: e.egress.site if e.egress else "",
    "target": lambda e: e.egress.target if e.egress else "",
    "egress level": lambda e: e.egress.level if e.egress else "",
    "files left": lambda e: str(e.egress.files) if e.egress else "",
    "bytes left": lambda e: str(e.egress.bytes) if e.egress else "",
    "logs": lambda e: e.egress.logs if e.egress else "",
    "waivers": lambda e: "; ".join(map(waiver_line, e.egress.waivers)) if e.egress else "",
    "touches": lambda e: ", ".join(e.touches),
    "doubts": lambda e: "; ".join(doubt.name for doubt in e.doubts),
}


def period_csv(found: Period) -> str:
    """A row an event, for spreadsheets (RFC 4180): no cell of it is a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for event in found.events:
        writer.writerow([cell(column(event)) for column in COLUMNS.values()])
    return out.getvalue()


def cell(text: str) -> str:
    """A cell that a spreadsheet takes for text: an apostrophe stands before what would begin a formula, at the
    start and after what a program of another country may take for the end of a cell."""
    safe = _WITHIN.sub(r"\1'", shown(text, 4000))
    # What spaces a program may cut off before it looks are looked behind, too.
    return f"'{safe}" if text.lstrip(" \u00a0\u3000").startswith(_FORMULA) else safe
