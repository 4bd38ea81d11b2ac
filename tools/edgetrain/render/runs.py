"""Runs and what garbage collection found, as text and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgetrain.core.quantity import human_bytes
from edgetrain.render.jsons import as_json
from edgetrain.render.tables import aligned, lasted, number, plain
from edgetrain.render.words import plural, why


@dataclass(frozen=True)
class RunRow:
    """One run. `state` is `recorded`, `under way` or `waiting`; `outcome` is None before the record.

    `phase` is how a run under way was seen; `reason` (a CamelCase name) why it is as it is.
    """

    id: str
    experiment: str
    model: str
    state: str
    outcome: str | None
    phase: str | None
    target: str | None
    started: str | None
    ended: str | None
    seconds: float | None
    metrics: Mapping[str, float]
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Runs:
    """What is known of runs; `notes` say what could not be asked."""

    rows: tuple[RunRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One thing that nothing names any more; `bytes` None where nobody counted."""

    kind: str
    name: str
    bytes: int | None
    why: str


@dataclass(frozen=True)
class Collection:
    """What can go, what stays and why (reason to count), and what is left alone as not ours to judge."""

    garbage: tuple[Item, ...]
    kept: Mapping[str, int]
    unknown: Mapping[str, int]
    deleted: bool
    notes: tuple[str, ...] = ()


RUN_HEAD = ("run", "state", "where", "started", "took", "metrics or reason")


def runs_text(found: Runs) -> str:
    """A table, newest last."""
    if not found.rows:
        return "No run is recorded, under way or waiting.\n"
    return "\n".join([*aligned([RUN_HEAD, *map(_row, found.rows)], indent="", limit=100)]) + "\n"


def _row(row: RunRow) -> tuple[str, ...]:
    state = row.outcome or (f"under way: {row.phase}" if row.state == "under way" and row.phase else row.state)
    metrics = ", ".join(f"{name} {number(found)}" for name, found in sorted(row.metrics.items()))
    return (
        row.id,
        state,
        row.target or "-",
        row.started or "-",
        lasted(row.seconds),
        metrics or (_waits(row) if row.state == "waiting" else f"{row.reason} {row.message}".strip()) or "-",
    )


def _waits(row: RunRow) -> str:
    return f"{why(row.reason)}: {row.message}" if row.message else why(row.reason)


def runs_json(found: Runs) -> str:
    """For machines."""
    return as_json({"runs": [plain(row) for row in found.rows], "notes": list(found.notes)})


def collection_text(found: Collection) -> str:
    """What goes, what stays."""
    total = sum(item.bytes or 0 for item in found.garbage)
    verb = "Deleted" if found.deleted else "Could go"
    if found.garbage:
        lines = [f"{verb}: {plural(len(found.garbage), 'thing')}, {human_bytes(total)}.", ""]
        rows = [(i.kind, i.name, "-" if i.bytes is None else human_bytes(i.bytes), i.why) for i in found.garbage]
        lines += aligned([("what", "name", "size", "why"), *rows], limit=100)
    else:
        lines = ["Nothing to collect."]
    if found.kept:
        lines += ["", "Kept:", *aligned([(str(count), reason) for reason, count in sorted(found.kept.items())])]
    if found.unknown:
        lines += ["", "Left alone, for no record names them:"]
        lines += aligned([(str(count), kind) for kind, count in sorted(found.unknown.items())])
    if found.garbage and not found.deleted:
        lines += ["", "Nothing was deleted. To delete: edgetrain gc --delete"]
    return "\n".join([*lines, *(f"note: {note}" for note in found.notes)]) + "\n"


def collection_json(found: Collection) -> str:
    """For machines."""
    return as_json(plain(found))


def said(rows: Sequence[tuple[str, str]]) -> str:
    """A small answer as JSON."""
    return as_json(dict(rows))
