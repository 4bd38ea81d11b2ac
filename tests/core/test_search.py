"""Sweeps: trials without repetition, in an order that growth keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.kinds.experiment import Sweep
from edgetrain.core.search import MAX_TRIALS, trials


def sweep(algorithm: str, space: Any = None, listed: Any = (), maximum: int | None = None, seed: int = 0) -> Sweep:
    return Sweep(algorithm, seed, space or {}, tuple(listed), maximum, "maximize", "score")


SPACE = {
    "lr": {"type": "loguniform", "min": 1e-5, "max": 0.1},
    "drop": {"type": "uniform", "min": 0, "max": 0.5},
    "depth": {"type": "randint", "min": 2, "max": 8},
    "kind": {"type": "choice", "values": ["a", "b"]},
}
values = st.lists(st.integers(-5, 5) | st.text(max_size=3) | st.booleans(), min_size=1, max_size=4)
spaces = st.dictionaries(st.sampled_from("abc"), values, min_size=1)


def grid(space: dict[str, list[Any]]) -> Sweep:
    return sweep("grid", {name: {"type": "choice", "values": listed} for name, listed in space.items()})


def key(trial: dict[str, Any]) -> str:
    return repr(sorted(trial.items()))


@given(spaces)
def test_a_grid_is_every_combination_once(space: dict[str, list[Any]]) -> None:
    made = trials(grid(space))
    assert len({key(trial) for trial in made}) == len(made)
    assert all(set(trial) == set(space) for trial in made)
    size = 1
    for listed in space.values():
        size *= len({repr(value) for value in listed})
    assert len(made) == size


@given(spaces, values)
def test_a_wider_grid_keeps_its_trials(space: dict[str, list[Any]], more: list[Any]) -> None:
    name = min(space)
    wider = {**space, name: [*space[name], *more]}
    assert {key(trial) for trial in trials(grid(space))} <= {key(trial) for trial in trials(grid(wider))}


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_a_longer_sample_keeps_its_trials(count: int, more: int, seed: int) -> None:
    short = sweep("random", SPACE, maximum=count, seed=seed)
    long = replace(short, max_trials=count + more)
    assert trials(long)[:count] == trials(short)
    assert len(trials(short)) == count


@given(st.integers(0, 2**32 - 1))
def test_samples_lie_in_their_bounds(seed: int) -> None:
    for trial in trials(sweep("random", SPACE, maximum=20, seed=seed)):
        assert 1e-5 <= trial["lr"] <= 0.1
        assert 0 <= trial["drop"] <= 0.5
        assert trial["depth"] in range(2, 9)
        assert trial["kind"] in ("a", "b")


def test_seeds_differ_and_the_sample_is_the_same_everywhere() -> None:
    first = trials(sweep("random", SPACE, maximum=1, seed=7))
    assert first != trials(sweep("random", SPACE, maximum=1, seed=8))
    assert first == [{"depth": 5, "drop": 0.1043595832, "kind": "b", "lr": 0.04693839601}]


def test_a_small_space_ends_and_no_sweep_is_endless() -> None:
    small = {"kind": {"type": "choice", "values": ["a", "b"]}}
    assert {trial["kind"] for trial in trials(sweep("random", small, maximum=1000))} == {"a", "b"}
    huge = {name: {"type": "choice", "values": list(range(50))} for name in "abcdef"}
    assert len(trials(sweep("grid", huge))) == MAX_TRIALS


def test_a_list_is_taken_as_it_is_without_repetition() -> None:
    listed = [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.1}]
    assert trials(sweep("list", listed=listed)) == listed[:2]
