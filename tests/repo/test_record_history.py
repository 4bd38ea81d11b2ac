"""record_history.py: which records a commit had, told from those of another."""

from __future__ import annotations

import pytest

from edgetrain.repo.record_history import records_at, records_before

pytestmark = pytest.mark.needs("git>=2.34")

RUN = "experiments/x/runs/0123456789ab-{}.json"


def test_earlier_records_from_those_of_now(make):
    checkout = make()
    earlier = checkout.commit("one", **{RUN.format(n): str(n) for n in range(3)}, **{"models/x": "x"})
    (checkout.root / RUN.format(1)).unlink()
    (checkout.root / "models/x").unlink()
    added = {RUN.format(4): "4", "models/m/proposals/1-a-1.json": "x", "models/y": "y"}
    later = checkout.commit("two", **{RUN.format(2): "changed"}, **added)
    assert len(records_at(checkout.git, earlier)) == 3
    for before, after in ((earlier, later), (later, earlier), (later, later)):
        present = records_at(checkout.git, after)
        assert records_before(checkout.git, before, after, present) == records_at(checkout.git, before)
