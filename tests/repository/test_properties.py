"""Every property test follows the fuzzing run: none fixes how many examples it is tried with."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
FIXED = re.compile(r"max_examples=\d")


def test_no_property_keeps_the_fuzzing_run_out() -> None:
    files = [file for file in TESTS.rglob("*.py") if file != TESTS / "conftest.py"]
    assert not [file.name for file in files if FIXED.search(file.read_text(encoding="utf-8"))]
