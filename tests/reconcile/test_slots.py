"""What a target has free: slots, and declared capacity."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.kinds import ComputeTarget
from edgetrain.reconcile.slots import Slots
from tests.reconcile import builders


def machine(**capacity: object) -> ComputeTarget:
    spec = {"type": "local", "site": "ward", "capacity": capacity}
    return ComputeTarget.from_document(builders.document("compute/m.yaml", "ComputeTarget", "m", spec))


def test_slots_are_taken_and_freed_once() -> None:
    slots, target, small = Slots(), machine(slots=2), builders.experiment()
    slots.take("run/a", target, small)
    slots.take("run/b", target, small)
    assert not slots.room(target, small)
    slots.free("run/a")
    slots.free("run/a")
    assert (slots.left(target), slots.of(small.name)) == (1, 1)


def test_declared_capacity_is_shared() -> None:
    slots, target = Slots(), machine(slots=4, cpus=8, memory="16Gi", gpus=1)
    half = builders.experiment(resources={"cpus": 4, "memory": "8Gi"})
    graphic = builders.experiment("train-gpu", resources={"gpus": 1})
    slots.take("run/a", target, half)
    slots.take("run/b", target, graphic)
    assert slots.room(target, half)
    assert not slots.room(target, graphic)
    slots.take("run/c", target, half)
    assert not slots.room(target, half)
    slots.free("run/b")
    assert slots.room(target, graphic)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=40))
def test_what_is_freed_is_as_before(steps: list[tuple[str, bool]]) -> None:
    slots, target, small, held = Slots(), machine(slots=99, cpus=99), builders.experiment(), set[str]()
    for name, takes in steps:
        if takes and name not in held:
            slots.take(name, target, small)
            held.add(name)
        elif not takes:
            slots.free(name)
            held.discard(name)
    assert slots.left(target) == 99 - len(held)
