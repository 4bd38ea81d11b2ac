"""Long walks: which of many steps a run of the tests takes, sampled by a seed that the log prints."""

from __future__ import annotations

import os
import random
import time

WALK_ALL = os.environ.get("EDGETRAIN_WALK") == "all"
# One seed a day unless given: every run of a day repeats it, and the days between them see every step.
SEED = int(os.environ.get("EDGETRAIN_SEED") or time.time() // 86400)


def sample(steps: int, size: int) -> list[int]:
    """`size` of the numbers 0..steps-1, or all of them for `make test-all`."""
    if WALK_ALL or steps <= size:
        return list(range(steps))
    return sorted(random.Random(SEED).sample(range(steps), size))


def examples(number: int) -> int:
    """How many examples a property is tried with: so many in a run of all tests, fifty times more in
    `make test-all`."""
    return number * 50 if WALK_ALL else number
