"""Gates: bounds, comparisons, and that other data is never a pass; the decision over them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.decide import channel_scores, decide
from edgetrain.core.gate import GateStatus, Scores, data_digest, evaluate, gates_digest
from edgetrain.core.kinds.model import Gate
from edgetrain.core.record import Outcome
from edgetrain.core.recorded import Recorded
from tests.core import build

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)


def statuses(gate: Gate, metrics: dict[str, float], channels: dict[str, Scores] | None = None) -> list[GateStatus]:
    return [result.status for result in evaluate([gate], Scores("candidate", metrics, "data"), channels or {})]


@given(numbers, numbers)
def test_bounds_include_their_ends(value: float, bound: float) -> None:
    least = statuses(Gate("m", min=bound), {"m": value}) == [GateStatus.PASSED]
    most = statuses(Gate("m", max=bound), {"m": value}) == [GateStatus.PASSED]
    assert least == (value >= bound)
    assert most == (value <= bound)


@given(numbers, numbers, st.floats(0, 10), st.sampled_from(["maximize", "minimize"]))
def test_not_worse_than(value: float, other: float, tolerance: float, goal: str) -> None:
    gate = Gate("m", goal=goal, reference="production", tolerance=tolerance)
    channels = {"production": Scores("m@1", {"m": other}, "data")}
    bound = other - tolerance if goal == "maximize" else other + tolerance
    good = value >= bound if goal == "maximize" else value <= bound
    assert statuses(gate, {"m": value}, channels) == [GateStatus.PASSED if good else GateStatus.FAILED]


@given(numbers)
def test_other_data_is_never_a_pass(value: float) -> None:
    channels = {"production": Scores("m@1", {"m": -1e30}, "other data")}
    [result] = evaluate([Gate("m", reference="production")], Scores("candidate", {"m": value}, "data"), channels)
    assert result.status is GateStatus.NOT_COMPARABLE
    assert not result.passed


def test_absent_things() -> None:
    both = Gate("m", min=1, reference="production")
    assert statuses(both, {}) == [GateStatus.MISSING, GateStatus.MISSING]
    assert statuses(both, {"m": 2.0}) == [GateStatus.PASSED, GateStatus.NO_REFERENCE]
    without = {"production": Scores("m@1", {}, "data")}
    assert statuses(Gate("m", reference="production"), {"m": 2.0}, without) == [GateStatus.NOT_COMPARABLE]
    assert statuses(Gate("m"), {"m": 2.0}) == [GateStatus.PASSED]


def test_the_digest_tells_gates_apart() -> None:
    assert gates_digest((Gate("m", min=1),)) != gates_digest((Gate("m", min=2),))
    assert gates_digest((Gate("m", min=1),)) == gates_digest((Gate("m", min=1),))
    assert (
        data_digest({"a": "x", "b": "y"}) == data_digest({"b": "y", "a": "x"}) != data_digest({"a": "y", "b": "x"})
    )


def decided(metrics: dict[str, float], data: str = build.DATA, channels: str = "{production: 1}") -> Any:
    """The decision about a run of `mean` beside version 1, whose score is 0.5 on DATA."""
    files = build.edited("models/mean/model.yaml", "{production: 2}", channels)
    files = {path: text.replace('  withdrawn: {1: "wrong labels"}\n', "") for path, text in files.items()}
    first = build.run(build.desired(files))
    state = build.desired(build.with_versions(files, first))
    model, experiment = state.models["mean"], state.experiments["mean"]
    return decide(state, Recorded.of([first]), model, experiment, "sha256:new", metrics, {"table": data})


@pytest.mark.parametrize(
    ("metrics", "data", "outcome", "reason"),
    [
        ({"score": 0.6}, build.DATA, Outcome.CANDIDATE, "GatesPassed"),
        ({"score": 0.4}, build.DATA, Outcome.NOT_BETTER, "GatesFailed"),
        ({"score": 0.6}, build.OTHER_DATA, Outcome.NOT_BETTER, "NotComparable"),
        ({"score": 0.05}, build.OTHER_DATA, Outcome.NOT_BETTER, "GatesFailed"),
        ({}, build.DATA, Outcome.NOT_BETTER, "GatesFailed"),
    ],
)
def test_decision(metrics: dict[str, float], data: str, outcome: Outcome, reason: str) -> None:
    decision = decided(metrics, data)
    assert (decision.outcome, decision.reason) == (outcome, reason)
    assert len(decision.gates["results"]) == 2


def test_an_empty_channel_has_nothing_to_beat() -> None:
    assert decided({"score": 0.2}, channels="{}").outcome is Outcome.CANDIDATE


def test_withdrawn_versions_are_compared_with_nothing() -> None:
    state = build.desired(build.with_versions(build.FILES, *[build.run(build.desired())] * 2))
    model = state.models["mean"]
    assert set(channel_scores(state, model)) == {"production"}
    withdrawn = build.edited("models/mean/model.yaml", '1: "wrong labels"', '2: "wrong labels"')
    assert channel_scores(state, build.desired(withdrawn).models["mean"]) == {}


def test_the_better_trial_of_a_sweep_speaks() -> None:
    state = build.desired()
    rival = build.run(state, "search", trial={"lr": 0.1}, metrics={"loss": 0.2})
    other = build.run(state, "search", trial={"lr": 0.2}, metrics={"loss": 0.3})
    arguments = (state, Recorded.of([rival]), state.models["searched"], state.experiments["search"], other.identity)
    worse = decide(*arguments, {"loss": 0.3}, {})
    assert (worse.outcome, worse.reason) == (Outcome.NOT_BETTER, "BetterTrial")
    assert decide(*arguments, {"loss": 0.1}, {}).outcome is Outcome.CANDIDATE
    assert decide(*arguments, {"loss": 1.6}, {}).reason == "GatesFailed"
