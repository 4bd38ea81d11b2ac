"""Evaluation: its identity, gates on slices, what a changed evaluation plans, and the form of it in records."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.desired import Desired, EvaluationFiles
from edgetrain.core.digest import digest_of
from edgetrain.core.evaluation import evaluation_identity, evaluation_of
from edgetrain.core.gate import GateStatus, Scores, evaluate
from edgetrain.core.kinds.model import Gate
from edgetrain.core.plan import Change, Operation
from edgetrain.core.planner import build as build_plan
from edgetrain.core.record import Outcome, Record, RunRecord, parse_record, run_id, serialise
from edgetrain.core.recorded import Recorded
from tests.core import build
from tests.core.test_planner_runs import SEEN

HELD = "sha256:" + "4e" * 32
ARTIFACT = "sha256:" + "a7" * 32
EVALUATION = f"""\
  evaluation:
    code: evaluation/
    command: python evaluate.py --model ${{{{inputs.model}}}} --data ${{{{inputs.heldout}}}}
    inputs: {{heldout: {{datastore: store, path: held/, digest: "{HELD}"}}}}
    metrics: [score]
"""
MODEL = "models/mean/model.yaml"
FILES = build.edited(MODEL, "  gates:\n", EVALUATION + "  gates:\n")
PLAIN = {**FILES, MODEL: FILES[MODEL].replace("  channels: {production: 2}\n", "  channels: {}\n")}
PLAIN[MODEL] = PLAIN[MODEL].replace('  withdrawn: {1: "wrong labels"}\n', "")


def desired(files: Mapping[str, str] = PLAIN, code: str = "code") -> Desired:
    return replace(build.desired(files), evaluations={"mean": EvaluationFiles(digest_of(code))})


def evaluated(run: RunRecord, state: Desired, score: float = 0.5, **slices: float) -> RunRecord:
    """The run as its model's evaluation has judged it."""
    data = copy.deepcopy(dict(run.data))
    of = evaluation_of(state, state.models["mean"], data["identityOf"])
    data |= {"selfReported": data["metrics"], "metricsSource": "evaluated", "metrics": {"score": score}}
    data["evaluation"] = {
        "identity": evaluation_identity(of),
        "identityOf": of,
        "inputs": {"heldout": {"digest": HELD, "files": 1, "bytes": 1}},
        "artifact": data["outputs"]["model"]["digest"],
        "metrics": {"score": score},
        "slices": {name: {"score": value} for name, value in slices.items()},
        "target": "runner",
        "egress": {"level": "enforced"},
        "references": {},
    }
    made = parse_record(run.path, serialise(data))
    assert isinstance(made, RunRecord)
    return made


def changes(state: Desired, *records: Record) -> list[Change]:
    plan = build_plan(state, Recorded.of(records), build.SERVED, None)
    return [change for change in plan.changes if change.id.startswith("evaluation/")]


# --- identity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("--data ", "--from ", False),
        (HELD, build.OTHER_DATA, False),
        ("metrics: [score]", "metrics: [score, loss]", False),
        ("metrics: [score]", "metrics: [score]\n    slices: [north]", False),
        ("metrics: [score]", 'metrics: [score]\n    environment: {python: "3.12"}', False),
        ("path: held/", "path: kept/", True),
        ("min: 0.1", "min: 0.2", True),
    ],
)
def test_what_an_evaluation_is_known_by(old: str, new: str, same: bool) -> None:
    of = build.run(desired()).data["identityOf"]
    other = desired(build.edited(MODEL, old, new, PLAIN))
    before, after = (
        evaluation_identity(evaluation_of(state, state.models["mean"], of)) for state in (desired(), other)
    )
    assert (before == after) is same
    changed = evaluation_of(desired(code="other"), desired().models["mean"], of)
    assert evaluation_identity(changed) != before


def test_the_environment_is_the_runs_own_unless_the_evaluation_names_one() -> None:
    state = desired()
    of = build.run(state).data["identityOf"]
    mine = evaluation_of(state, state.models["mean"], of)
    assert mine is not None
    assert {key: mine[key] for key in ("requirements", "python")} == {
        key: of[key] for key in ("requirements", "python")
    }
    own = desired(build.edited(MODEL, "metrics: [score]", "metrics: [score]\n    environment: {}", PLAIN))
    named = evaluation_of(own, own.models["mean"], of)
    assert named is not None
    assert (named["requirements"], named["python"]) == (None, of["python"])


# --- gates on slices ---------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6)
metrics = st.dictionaries(st.sampled_from(["m", "n"]), numbers)
sliced = st.dictionaries(st.sampled_from(["a", "b", "c"]), metrics)
gates = st.builds(
    Gate,
    metric=st.sampled_from(["m", "n"]),
    goal=st.sampled_from(["maximize", "minimize"]),
    min=st.none() | numbers,
    max=st.none() | numbers,
    reference=st.none() | st.just("production"),
    tolerance=st.floats(0, 10),
    slice=st.none() | st.sampled_from(["*", "a", "z"]),
)


@given(gates, metrics, sliced, metrics, sliced, st.booleans())
def test_what_is_missing_or_measured_otherwise_never_passes(
    gate: Gate, mine: Any, my_slices: Any, theirs: Any, their_slices: Any, alike: bool
) -> None:
    candidate = Scores("candidate", mine, "evaluation", my_slices)
    other = Scores("m@1", theirs, "evaluation" if alike else "another", their_slices)
    results = evaluate([gate], candidate, {"production": other})
    assert results
    for result in results:
        assert result.slice != "*" or result.status is GateStatus.MISSING
        held = candidate.of(result.slice)
        if held is None or gate.metric not in held:
            assert result.status is GateStatus.MISSING
        elif result.rule.startswith("notWorseThan") and (
            not alike or gate.metric not in (other.of(result.slice) or {})
        ):
            assert result.status is GateStatus.NOT_COMPARABLE
        assert not (result.passed and result.status in (GateStatus.MISSING, GateStatus.NOT_COMPARABLE))
    if gate.slice == "*" and gate.reference:
        asked = {result.slice for result in results} - {"*"}
        assert asked == {*my_slices, *their_slices}


# --- what is planned ---------------------------------------------------------------------------------


def test_a_changed_gate_judges_and_a_changed_evaluation_scores() -> None:
    state = desired()
    run = evaluated(build.run(state), state)
    assert changes(state, run) == []
    [change] = changes(desired(build.edited(MODEL, "min: 0.1", "min: 0.2", PLAIN)), run)
    assert (change.operation, change.reason) == (Operation.EVALUATE, "GatesChanged")
    [change] = changes(desired(code="other"), run)
    assert (change.operation, change.reason, change.subject["experiment"]) == (
        Operation.SCORE,
        "EvaluationChanged",
        "mean",
    )
    planned = build_plan(desired(code="other"), Recorded.of([run]), build.SERVED, None).changes
    assert [c.subject["experiment"] for c in planned if c.operation is Operation.TRAIN] == ["search"] * 2


def test_a_run_to_be_made_again_is_judged_by_the_evaluation_of_now() -> None:
    """A retry is not put off by scoring what it replaces."""
    state = desired()
    run = evaluated(build.run(state), state)
    retries = {run_id("mean", run.identity, 2): {"reason": "again"}}
    planned = build_plan(desired(code="other"), Recorded.of([run]), build.SERVED, replace(SEEN, retries=retries))
    mine = [c for c in planned.changes if c.subject.get("experiment") == "mean"]
    assert [(c.operation, c.reason) for c in mine] == [(Operation.TRAIN, "RetryRequested")]


def test_an_evaluation_that_comes_or_goes_judges_again() -> None:
    state, without = desired(), desired({**PLAIN, MODEL: PLAIN[MODEL].replace(EVALUATION, "")})
    [change] = changes(state, build.run(state))
    assert (change.operation, change.reason) == (Operation.SCORE, "EvaluationChanged")
    [change] = changes(without, evaluated(build.run(state), state))
    assert (change.operation, change.reason) == (Operation.EVALUATE, "EvaluationChanged")


def test_a_run_that_could_not_be_evaluated_is_evaluated_by_the_next_one() -> None:
    state = desired()
    run = evaluated(build.run(state), state)
    data = {**run.data, "outcome": Outcome.FAILED.value, "reason": "EvaluationFailed", "metrics": {}}
    failed = parse_record(run.path, serialise(data))
    assert changes(state, failed) == []
    [change] = changes(desired(code="mended"), failed)
    assert change.operation is Operation.SCORE
    other = parse_record(run.path, serialise({**data, "reason": "ExitCode"}))
    assert changes(desired(code="mended"), other) == []


# --- records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        (("identity",), "sha256:" + "0" * 64, "not the digest"),
        (("identity",), None, "no identity"),
        (("inputs", "heldout", "digest"), build.DATA, "not what was evaluated on"),
        (("metrics", "score"), "0.5", "not a number"),
        (("slices",), {"north": {"score": True}}, "not a number"),
        (("slices",), {"north": 1}, "not an object"),
        (("references",), {"production": 1}, "not an object"),
        (("references",), {"production": {"metrics": {}}}, "belong together"),
        (("references",), None, "no inputs or references"),
        (("target",), 1, "is missing"),
    ],
)
def test_an_evaluation_in_a_record_is_sound(path: tuple[str, ...], value: Any, what: str) -> None:
    state = desired()
    run = evaluated(build.run(state), state)
    data = copy.deepcopy(dict(run.data))
    at = data["evaluation"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(ValueError, match=what):
        parse_record(run.path, serialise(data))
