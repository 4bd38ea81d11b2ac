"""Trials of a sweep: an explicit list, a grid, or a seeded random sample that can grow."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.kinds.experiment import Sweep

MAX_TRIALS = 1000


def trials(sweep: Sweep) -> list[dict[str, Any]]:
    """The parameters of each trial, without repetition, in a stable order.

    A longer list, a wider grid or a larger `maxTotalTrials` keeps the trials that were there, so that
    only the new ones are run. Never more than `maxTotalTrials`, nor more than 1,000.
    """
    made: dict[str, dict[str, Any]] = {}
    bound = min(sweep.max_trials or MAX_TRIALS, MAX_TRIALS)
    for trial in _generate(sweep):
        made.setdefault(digest_of(trial), trial)
        if len(made) >= bound:
            break
    return list(made.values())


def _generate(sweep: Sweep) -> Iterator[dict[str, Any]]:
    names = sorted(sweep.space)
    if sweep.algorithm == "list":
        yield from (dict(trial) for trial in sweep.trials)
    elif sweep.algorithm == "grid":
        for values in itertools.product(*(sweep.space[name].get("values", ()) for name in names)):
            yield dict(zip(names, values, strict=True))
    else:
        # Twice the bound is drawn at most, for a small discrete space repeats itself.
        for index in range(2 * min(sweep.max_trials or MAX_TRIALS, MAX_TRIALS)):
            yield {name: _draw(sweep.space[name], _unit(sweep.seed, index, name)) for name in names}


def _unit(seed: int, index: int, name: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments, on every version of Python."""
    digest = hashlib.sha256(f"{seed}/{index}/{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _draw(space: Mapping[str, Any], unit: float) -> Any:
    kind = space["type"]
    if kind == "choice":
        values = space["values"]
        return values[int(unit * len(values))]
    low, high = space["min"], space["max"]
    if kind == "randint":
        return low + int(unit * (high - low + 1))
    if kind == "loguniform":
        return _rounded(math.exp(math.log(low) + unit * (math.log(high) - math.log(low))))
    return _rounded(low + unit * (high - low))


def _rounded(value: float) -> float:
    """Ten significant digits: short to read, and free of the last bits in which libraries differ."""
    return float(f"{value:.10g}")
