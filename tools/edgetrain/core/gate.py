"""Gates: whether a run's metrics are good enough, alone and beside a channel's version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.kinds.model import EVERY_SLICE, Gate


class GateStatus(StrEnum):
    """`NOT_COMPARABLE` is never a pass: the two were measured on different data."""

    PASSED = "passed"
    FAILED = "failed"
    MISSING = "missing"
    NOT_COMPARABLE = "not_comparable"
    NO_REFERENCE = "no_reference"


@dataclass(frozen=True)
class Scores:
    """A version's or a run's metrics, with the digest of what they were measured by: for self-reported ones of the
    training data, for evaluated ones the evaluation's identity. `slices` holds the metrics of each slice; `why`
    says why there are no metrics, where that is known."""

    label: str
    metrics: Mapping[str, float]
    data: str
    slices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    why: str = ""

    def of(self, part: str | None) -> Mapping[str, float] | None:
        """The metrics of one slice, or of all the data; None if there is no such slice."""
        return self.metrics if part is None else self.slices.get(part)


@dataclass(frozen=True)
class GateResult:
    """One gate's verdict, with the numbers that led to it."""

    metric: str
    rule: str
    status: GateStatus
    value: float | None
    bound: float | None
    reference: str | None = None
    slice: str | None = None

    @property
    def passed(self) -> bool:
        """Whether this gate lets the candidate through. With nothing in the channel there is nothing to beat."""
        return self.status in (GateStatus.PASSED, GateStatus.NO_REFERENCE)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a record."""
        return {
            "metric": self.metric,
            "rule": self.rule,
            "status": self.status.value,
            "value": self.value,
            "bound": self.bound,
            "reference": self.reference,
            **({"slice": self.slice} if self.slice is not None else {}),
        }


@lru_cache(1024)
def gates_digest(gates: tuple[Gate, ...]) -> str:
    """Digest of the gates; a change of it re-evaluates stored results and never trains."""
    return _gates_digest(tuple(gates))


@lru_cache(maxsize=64)  # all runs of a model are judged by the same
def _gates_digest(gates: tuple[Gate, ...]) -> str:
    return digest_of([vars(gate) for gate in gates])


def data_digest(inputs: Mapping[str, str]) -> str:
    """Digest of the data that self-reported metrics were measured on: all the run's data inputs."""
    return digest_of(dict(inputs))


def evaluate(gates: Sequence[Gate], candidate: Scores, channels: Mapping[str, Scores]) -> list[GateResult]:
    """Judge the candidate by each gate. `channels` holds the scores of what each channel points to."""
    found: list[GateResult] = []
    for gate in gates:
        other = channels.get(gate.reference) if gate.reference is not None else None
        for part in _parts(gate, candidate, other):
            found += _judge(gate, part, candidate, other)
    return found


def _parts(gate: Gate, candidate: Scores, other: Scores | None) -> list[str | None]:
    """The slices that a gate looks at; None is all the data. A slice that either side has counts. If neither has
    one, the star itself is looked for, and missing."""
    if gate.slice != EVERY_SLICE:
        return [gate.slice]
    return [*sorted({*candidate.slices, *(other.slices if other else ())})] or [EVERY_SLICE]


def _judge(gate: Gate, part: str | None, candidate: Scores, other: Scores | None) -> list[GateResult]:
    mine = candidate.of(part)
    value = mine.get(gate.metric) if mine is not None else None
    results = []

    def add(rule: str, bound: float | None, status: GateStatus, reference: str | None = None) -> None:
        told = GateStatus.MISSING if value is None else status
        results.append(GateResult(gate.metric, rule, told, value, bound, reference, part))

    def verdict(good: bool) -> GateStatus:
        return GateStatus.PASSED if good else GateStatus.FAILED

    if gate.min is not None:
        add("min", gate.min, verdict(value is not None and value >= gate.min))
    if gate.max is not None:
        add("max", gate.max, verdict(value is not None and value <= gate.max))
    if gate.reference is not None:
        rule = f"notWorseThan {gate.reference}"
        theirs = other.of(part) if other is not None else None
        bound = theirs.get(gate.metric) if theirs is not None else None
        if other is None:
            add(rule, None, GateStatus.NO_REFERENCE)
        elif other.data != candidate.data or bound is None:
            add(rule, bound, GateStatus.NOT_COMPARABLE, other.label)
        else:
            better = bound - gate.tolerance if gate.goal == "maximize" else bound + gate.tolerance
            good = value is not None and (value >= better if gate.goal == "maximize" else value <= better)
            add(rule, better, verdict(good), other.label)
    if not results:
        add("present", None, GateStatus.PASSED)
    return results
