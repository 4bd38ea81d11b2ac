"""Two runs or versions side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.core.errors import UsageError
from edgetrain.reconcile.compare import differ, side
from edgetrain.render.compare import Comparison, compare_json, compare_markdown, compare_text
from tests.outputs import sound
from tests.reconcile import builders as b

GOLDEN = Path(__file__).parent / "golden"


def comparison(data: bytes = b"data") -> Comparison:
    one, two = b.run(0.1, auroc=0.9), b.run(0.2, auroc=0.925, data=data, ordinal=2)
    desired, recorded = b.desired(b.version(one, 1)), b.recorded(one, two)
    return differ(side(desired, recorded, "triage@1"), side(desired, recorded, two.run_id))


def test_a_version_and_a_run(golden: Callable[[Path, str], None]) -> None:
    found = comparison()
    assert found.comparable
    golden(GOLDEN / "compare.txt", compare_text(found))
    golden(GOLDEN / "compare.md", compare_markdown(found))
    golden(GOLDEN / "compare.json", compare_json(found))
    sound("compare", compare_json(found))


def test_other_data_is_never_compared(golden: Callable[[Path, str], None]) -> None:
    found = comparison(b"other data")
    assert not found.comparable
    golden(GOLDEN / "compare-other-data.txt", compare_text(found))
    assert sound("compare", compare_json(found))["metricsStatus"] == "not_comparable"
    assert "+0.025" not in compare_text(found) + compare_markdown(found)


def test_a_version_equals_its_own_run() -> None:
    run = b.run()
    desired, recorded = b.desired(b.version(run, 1)), b.recorded(run)
    found = differ(side(desired, recorded, "triage@1"), side(desired, recorded, run.run_id))
    assert found.differences == ()
    assert [metric.delta for metric in found.metrics] == [0]
    assert found.size_a == found.size_b == 2_000_000


def test_true_is_not_one() -> None:
    one = b.run(parameters={"deep": True})
    two = b.run(0.2, parameters={"deep": 1})
    desired, recorded = b.desired(), b.recorded(one, two)
    found = differ(side(desired, recorded, one.run_id), side(desired, recorded, two.run_id))
    assert ("parameters", "deep", True, 1) in [(f.part, f.name, f.a, f.b) for f in found.differences]


def test_a_metric_that_one_side_lacks_has_no_delta() -> None:
    one, two = b.run(), b.run(0.2, metrics={"loss": 0.5})
    desired, recorded = b.desired(), b.recorded(one, two)
    found = differ(side(desired, recorded, one.run_id), side(desired, recorded, two.run_id))
    assert [(m.name, m.delta) for m in found.metrics] == [("auroc", None), ("loss", None)]


def test_runs_by_the_beginning_of_their_id() -> None:
    one, two = b.run(), b.run(0.2)
    desired, recorded = b.desired(), b.recorded(one, two)
    assert side(desired, recorded, one.run_id[:9])[0].run == one.run_id
    with pytest.raises(UsageError, match="could be 2 runs"):
        side(desired, recorded, "scan-")
    with pytest.raises(UsageError, match="no run"):
        side(desired, recorded, "other")
