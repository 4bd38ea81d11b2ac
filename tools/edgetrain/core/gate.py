"""Gates: whether a run's metrics are good enough, alone and beside a channel's version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.kinds.model import Gate


class GateStatus(StrEnum):
    """`NOT_COMPARABLE` is never a pass: the two were measured on different data."""

    PASSED = "passed"
    FAILED = "failed"
    MISSING = "missing"
    NOT_COMPARABLE = "not_comparable"
    NO_REFERENCE = "no_reference"


@dataclass(frozen=True)
class Scores:
    """A version's or a run's metrics, with the digest of the data on which they were measured."""

    label: str
    metrics: Mapping[str, float]
    data: str


@dataclass(frozen=True)
class GateResult:
    """One gate's verdict, with the numbers that led to it."""

    metric: str
    rule: str
    status: GateStatus
    value: float | None
    bound: float | None
    reference: str | None = None

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
        }


def gates_digest(gates: Sequence[Gate]) -> str:
    """Digest of the gates; a change of it re-evaluates stored results and never trains."""
    return digest_of([vars(gate) for gate in gates])


def data_digest(inputs: Mapping[str, str]) -> str:
    """Digest of the data that self-reported metrics were measured on: all the run's data inputs."""
    return digest_of(dict(inputs))


def evaluate(gates: Sequence[Gate], candidate: Scores, channels: Mapping[str, Scores]) -> list[GateResult]:
    """Judge the candidate by each gate. `channels` holds the scores of what each channel points to."""
    return [result for gate in gates for result in _judge(gate, candidate, channels)]


def _judge(gate: Gate, candidate: Scores, channels: Mapping[str, Scores]) -> list[GateResult]:
    value = candidate.metrics.get(gate.metric)
    results = []

    def add(rule: str, bound: float | None, status: GateStatus, reference: str | None = None) -> None:
        missing = value is None
        results.append(
            GateResult(gate.metric, rule, GateStatus.MISSING if missing else status, value, bound, reference)
        )

    def verdict(good: bool) -> GateStatus:
        return GateStatus.PASSED if good else GateStatus.FAILED

    if gate.min is not None:
        add("min", gate.min, verdict(value is not None and value >= gate.min))
    if gate.max is not None:
        add("max", gate.max, verdict(value is not None and value <= gate.max))
    if gate.reference is not None:
        rule = f"notWorseThan {gate.reference}"
        other = channels.get(gate.reference)
        if other is None:
            add(rule, None, GateStatus.NO_REFERENCE)
        elif other.data != candidate.data or gate.metric not in other.metrics:
            add(rule, other.metrics.get(gate.metric), GateStatus.NOT_COMPARABLE, other.label)
        else:
            bound = other.metrics[gate.metric]
            better = bound - gate.tolerance if gate.goal == "maximize" else bound + gate.tolerance
            good = value is not None and (value >= better if gate.goal == "maximize" else value <= better)
            add(rule, better, verdict(good), other.label)
    if not results:
        add("present", None, GateStatus.PASSED)
    return results
