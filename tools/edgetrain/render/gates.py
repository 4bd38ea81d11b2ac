"""What gates said of a run: as a record holds it, and in rows of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.render.tables import number

GATE_HEAD = ("gate", "rule", "value", "bound", "compared with", "verdict")


@dataclass(frozen=True)
class Gate:
    """One gate's verdict."""

    metric: str
    rule: str
    status: str
    value: float | None
    bound: float | None
    reference: str | None = None
    slice: str | None = None


def gates_of(results: Sequence[Mapping[str, Any]]) -> Iterator[Gate]:
    """Gates as a record holds them."""
    for entry in results:
        yield Gate(
            str(entry.get("metric", "")),
            str(entry.get("rule", "")),
            str(entry.get("status", "")),
            entry.get("value"),
            entry.get("bound"),
            entry.get("reference"),
            entry.get("slice"),
        )


def gate_row(gate: Gate) -> tuple[str, ...]:
    """One gate as a row of a table."""
    name = gate_name(gate.metric, gate.slice)
    return name, gate.rule, number(gate.value), number(gate.bound), gate.reference or "-", gate.status


def gate_name(metric: str, part: str | None) -> str:
    """A gate's metric, with the slice that it looked at."""
    return metric if part is None else f"{metric} [{part}]"
