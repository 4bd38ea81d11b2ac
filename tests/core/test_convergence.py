"""What must hold of plans in every history: applied, they plan to nothing; the order of files says nothing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edgetrain.core.plan import Plan
from edgetrain.core.planner import build as build_plan
from edgetrain.core.record import Outcome
from edgetrain.core.recorded import Recorded
from tests.core import build
from tests.core.simulation import begin
from tests.walk import examples


@settings(max_examples=examples(40))
@given(st.data(), st.integers(0, 5))
def test_apply_then_plan_gives_no_change(data: st.DataObject, steps: int) -> None:
    world = begin(lambda options: data.draw(st.sampled_from(options)))
    world.apply()
    for _ in range(steps):
        world.edit()
        world.apply()
        assert world.plan().changes == ()
        # Nor does who asks nobody but the records.
        assert world.plan(offline=True).changes == ()
        recorded = Recorded.of(world.records)
        proposed = [run for run in map(recorded.run, world.observed.proposals.values()) if run]
        assert [run.run_id for run in proposed if recorded.outcome(run) is not Outcome.CANDIDATE] == []


@settings(max_examples=examples(25))
@given(st.data(), st.integers(0, 3), st.randoms())
def test_the_plan_is_independent_of_the_order_of_files(data: st.DataObject, steps: int, random: Any) -> None:
    world = begin(lambda options: data.draw(st.sampled_from(options)))
    for _ in range(steps):
        world.apply()
        world.edit()
    straight = world.plan()
    records = list(world.records)
    random.shuffle(records)
    desired = world.desired(lambda paths: random.sample(paths, len(paths)))
    shuffled = build_plan(desired, Recorded.of(records), build.SERVED, world.observed)
    assert shuffled.to_json() == straight.to_json()
    assert Plan.from_json(json.loads(json.dumps(straight.to_json()))).digest == straight.digest
