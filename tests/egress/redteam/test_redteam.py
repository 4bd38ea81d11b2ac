"""Every attempt is tried for real, in the sandbox, and the docs say what became of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.walk import sample

from .attempt import AFTER, DURING, Attempt, leaks, play
from .table import BEGIN, END, every, table

PAGE = Path(__file__).parents[3] / "docs" / "egress.md"


def test_there_are_enough_of_each_kind() -> None:
    names = [attempt.name for attempt in every()]
    assert len(names) == len(set(names)) >= 40


@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize("attempt", [every()[at] for at in sample(len(every()), 40)], ids=lambda one: one.name)
def test_what_becomes_of(attempt: Attempt, tmp_path: Path) -> None:
    outcome = play(attempt, tmp_path)
    assert outcome.stopped == attempt.stopped, outcome
    if attempt.stopped == AFTER:
        assert outcome.by == attempt.by, outcome
        assert not leaks(outcome.message, tmp_path), outcome
    elif attempt.stopped == DURING and "run failed" not in attempt.by and "limit" not in attempt.by:
        assert "held back" in outcome.message, outcome
    if outcome.examination is not None:
        assert not leaks(repr(outcome.examination.findings), tmp_path)


def test_an_honest_run_passes(tmp_path: Path) -> None:
    script = """
    import random
    weights = array.array("f", [random.gauss(0, 1) for _ in range(9999)])
    (model / "m").write_bytes(weights.tobytes())
    """
    outcome = play(Attempt("honest", script), tmp_path)
    assert outcome.examination is not None, outcome
    assert (outcome.examination.complete, list(outcome.examination.findings)) == (True, []), outcome


def test_the_docs_tell_of_all(golden: Callable[[Path, str], None]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    golden(PAGE, f"{before}{BEGIN}\n\n{table()}\n{END}{after}")
