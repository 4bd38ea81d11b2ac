"""Two runs or versions side by side: what differs, as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.core.quantity import human_bytes
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import code, escaped, prose
from edgetrain.render.tables import aligned, number, plain
from edgetrain.render.words import value


@dataclass(frozen=True)
class Side:
    """One of the two: how it was named, the run behind it, and the run's outcome (empty if unknown)."""

    name: str
    run: str
    outcome: str


@dataclass(frozen=True)
class Field:
    """One fact of both; None on a side that has it not."""

    part: str
    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Metric:
    """One metric of both. `delta` is b minus a."""

    name: str
    a: float | None
    b: float | None
    delta: float | None


@dataclass(frozen=True)
class Comparison:
    """`differences` leaves equal facts out; `same` names the parts in which nothing differs.

    `comparable` is false if the two were measured on different data: then no delta means anything.
    """

    a: Side
    b: Side
    comparable: bool
    differences: tuple[Field, ...]
    same: tuple[str, ...]
    metrics: tuple[Metric, ...]
    size_a: int
    size_b: int


def compare_text(found: Comparison) -> str:
    """For a terminal."""
    lines = [f"a: {_side(found.a)}", f"b: {_side(found.b)}", "", _verdict(found)]
    metrics, differences = _metrics(found), _differences(found)
    if metrics:
        lines += ["", *aligned([("metric", "a", "b", "b - a"), *metrics])]
    if differences:
        lines += ["", *aligned([("differs", "a", "b"), *differences])]
    if found.same:
        lines += ["", f"Equal: {', '.join(found.same)}."]
    return "\n".join(lines) + "\n"


def compare_markdown(found: Comparison) -> str:
    """For a comment."""
    lines = [f"### {escaped(found.a.name)} and {escaped(found.b.name)}", ""]
    lines += [f"- a: {prose(_side(found.a))}", f"- b: {prose(_side(found.b))}", "", prose(_verdict(found))]
    metrics, differences = _metrics(found), _differences(found)
    if metrics:
        lines += ["", *_table(("metric", "a", "b", "b - a"), metrics)]
    if differences:
        lines += ["", *_table(("differs", "a", "b"), differences)]
    if found.same:
        lines += ["", prose(f"Equal: {', '.join(found.same)}.")]
    return "\n".join(lines) + "\n"


def compare_json(found: Comparison) -> str:
    """For machines."""
    return as_json(
        {
            **plain(found),
            "metricsStatus": "comparable" if found.comparable else "not_comparable",
        }
    )


def _side(side: Side) -> str:
    run = "" if side.run == side.name else f", run {side.run}"
    return f"{side.name}{run}{f', {side.outcome}' if side.outcome else ''}"


def _verdict(found: Comparison) -> str:
    if found.comparable:
        return "Measured on the same data."
    return "not_comparable: they were measured on different data, so a difference of metrics says nothing."


def _metrics(found: Comparison) -> list[tuple[str, ...]]:
    return [(m.name, number(m.a), number(m.b), _delta(m, found.comparable)) for m in found.metrics]


def _delta(metric: Metric, comparable: bool) -> str:
    if metric.delta is None:
        return "-"
    return f"{metric.delta:+.6g}" if comparable else "not_comparable"


def _differences(found: Comparison) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (f"{f.part}.{f.name}" if f.name else f.part, value(f.a), value(f.b)) for f in found.differences
    ]
    if found.size_a != found.size_b:
        rows.append(("size", human_bytes(found.size_a), human_bytes(found.size_b)))
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join([prose(row[0]), *map(code, row[1:])])} |" for row in rows]
