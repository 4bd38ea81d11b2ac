"""Plans as values: the round trip through JSON, tampering, surprises and limits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.errors import UnsafePlan
from edgetrain.core.plan import Change, Difference, Effect, Operation, Plan
from edgetrain.core.planner import check_limits, surprises
from edgetrain.core.problem import Problem, Severity
from tests.core import build

scalars = st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
)
words = st.text(max_size=10)
changes = st.builds(
    Change,
    id=words,
    operation=st.sampled_from(Operation),
    effect=st.sampled_from(Effect),
    reason=words,
    differences=st.lists(st.builds(Difference, words, values, values), max_size=2).map(tuple),
    subject=st.dictionaries(words, values, max_size=3),
    after=st.lists(words, max_size=2).map(tuple),
    conditional=st.booleans(),
)
problems = st.builds(
    Problem, words, st.integers(1, 99), st.integers(1, 99), words, words, words, st.sampled_from(Severity)
)
plans = st.builds(
    Plan,
    desired=words,
    changes=st.lists(changes, max_size=3).map(tuple),
    problems=st.lists(problems, max_size=2).map(tuple),
    refreshed=st.booleans(),
    waiting=st.lists(st.tuples(words, words), max_size=2).map(tuple),
    managed=st.integers(0, 9),
    commit=words,
)


@given(plans)
def test_a_plan_comes_back_from_json(plan: Plan) -> None:
    read = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert read == plan
    assert read.digest == plan.digest


def change(id_: str = "run/mean", effect: Effect = Effect.UPDATE, **facts: Any) -> Change:
    return Change(id_, facts.pop("operation", Operation.TRAIN), effect, facts.pop("reason", "Test"), **facts)


def alterations() -> list[Any]:
    def altered(**facts: Any) -> Any:
        return lambda value: value["changes"][0].update(facts)

    return [
        altered(id="run/other"),
        altered(operation="withdraw"),
        altered(effect="create"),
        altered(reason="Other"),
        altered(subject={"version": 3}),
        altered(after=[]),
        altered(conditional=True),
        altered(differences=[{"path": "p", "actual": 1, "desired": 2}]),
        lambda value: value.update(desired="sha256:other"),
        lambda value: value.update(refreshed=True),
        lambda value: value["changes"].pop(),
        lambda value: value["changes"].reverse(),
        lambda value: value["problems"].pop(),
        lambda value: value.update(digest="sha256:" + "0" * 64),
        lambda value: value.pop("digest"),
    ]


@pytest.mark.parametrize("alter", alterations())
def test_an_altered_plan_is_refused(alter: Any) -> None:
    difference = Difference("p", 0, 1)
    plan = Plan(
        "sha256:d",
        (change(differences=(difference,), subject={"version": 2}, after=("a",)), change("run/second")),
        (Problem("a.yaml", 1, 1, "P501", "what", "fix"),),
    )
    value = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(value) == plan
    alter(value)
    with pytest.raises(ValueError, match="altered"):
        Plan.from_json(value)


@pytest.mark.parametrize(
    "value", [None, [], {}, "plan", {"changes": [1]}, {**Plan("d", ()).to_json(), "waiting": [1]}]
)
def test_what_is_no_plan_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not a plan"):
        Plan.from_json(value)


def test_the_commit_is_noted_and_not_hashed() -> None:
    plan = Plan("sha256:d", (change(),), commit="a")
    assert replace(plan, commit="b").digest == plan.digest
    assert replace(plan, waiting=(("run/x", "TargetDrained"),)).digest == plan.digest


def test_surprises_are_what_only_the_refreshed_plan_updates_or_deletes() -> None:
    offline = Plan("d", (change("a"), change("b", Effect.CREATE)))
    refreshed = Plan(
        "d",
        (
            change("a"),
            change("b", Effect.UPDATE),
            change("c", Effect.CREATE),
            change("d", Effect.DELETE),
            change("e", Effect.UPDATE),
        ),
        refreshed=True,
    )
    assert surprises(offline, refreshed) == {"b", "d", "e"}
    assert surprises(refreshed, refreshed) == set()


LIMITED = build.desired(
    build.edited(
        "edgetrain.yaml",
        "  machine:",
        "  limits: {updates: {absolute: 4, relative: 0.2}, deletions: {absolute: 1, relative: 0.5}}\n  machine:",
    )
)


def plan_of(updates: int, deletions: int, managed: int) -> Plan:
    made = [change(f"u{index}") for index in range(updates)]
    made += [change(f"d{index}", Effect.DELETE) for index in range(deletions)]
    return Plan("d", tuple(made), managed=managed)


@pytest.mark.parametrize(
    ("updates", "deletions", "managed", "good"),
    [
        (4, 1, 100, True),
        (5, 0, 100, False),
        (0, 2, 100, False),
        (2, 0, 10, True),
        (3, 0, 10, False),
        (4, 1, 9, True),  # below ten objects only the number counts
        (5, 0, 9, False),
        (0, 0, 0, True),
    ],
)
def test_limits(updates: int, deletions: int, managed: int, good: bool) -> None:
    plan = plan_of(updates, deletions, managed)
    if good:
        check_limits(plan, LIMITED)
        return
    with pytest.raises(UnsafePlan) as caught:
        check_limits(plan, LIMITED)
    assert caught.value.reason == "LimitPassed"
    check_limits(plan, LIMITED, updates=updates, deletions=deletions)


def test_a_given_number_is_a_limit_too() -> None:
    with pytest.raises(UnsafePlan, match="3 updates and 2 are allowed"):
        check_limits(plan_of(3, 0, 100), LIMITED, updates=2)


def test_an_empty_source_deletes_nothing_whatever_is_allowed() -> None:
    empty = replace(LIMITED, experiments={}, models={})
    with pytest.raises(UnsafePlan) as caught:
        check_limits(plan_of(0, 1, 100), empty, deletions=5)
    assert caught.value.reason == "EmptySource"
    check_limits(plan_of(1, 0, 100), empty)
