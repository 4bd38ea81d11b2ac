"""Looks for the training data in what would leave."""

from __future__ import annotations

import stat
from array import array
from collections.abc import Sequence
from itertools import filterfalse
from pathlib import Path
from typing import Any

from . import encodings, numbers, words
from .budget import Budget, Cut
from .learner import mapped
from .marks import Marks
from .opener import How, Opener

ROWS, COPIES, VALUES = "E701", "E702", "E705"
WHAT = {
    ROWS: "holds rows of the training data",
    COPIES: "holds a file of the training data, or pieces of one",
    VALUES: "holds many values that only few rows of the training data have",
}
MAX_FINDINGS = 100
MAX_UNWRAPPED = 3
NUMBERS = "numbers"
TURNED = 4 * 2**20
CAREFUL = 2 * 2**20
BACKWARDS = 2**17


class Scan:
    """The sink that compares. `findings` are (code, where, what, path)."""

    def __init__(self, marks: Marks, budget: Budget) -> None:
        self.marks = marks
        self.budget = budget
        self.opener = Opener(budget, self, closely=True)
        self.findings: dict[tuple[str, str], tuple[str, str]] = {}
        self.where = self.path = ""

    def found(self, code: str, how: How, what: str = "") -> None:
        """Note a finding: once for each place and code."""
        key = (code, self.where)
        if key not in self.findings and len(self.findings) < MAX_FINDINGS:
            inside = f" (in {', in '.join(reversed(how[-4:]))})" if how else ""
            self.findings[key] = ((what or WHAT[code]) + inside, self.path)

    def known(self, code: str) -> bool:
        """Whether this place has such a finding already, so that no more need be looked for."""
        return (code, self.where) in self.findings

    # ---- places

    def file(self, root: str, path: str) -> None:
        """An output file. Raises Cut, OSError."""
        self.where = self.path = path
        self.opener.met.clear()
        full = Path(root, path)
        entry = full.lstat()
        if not stat.S_ISREG(entry.st_mode) or entry.st_nlink > 1:
            raise Cut("an output is not a file of its own any more")
        with mapped(full) as data:
            self.opener.open(data, full.name)

    def place(self, where: str, text: str) -> None:
        """A text that would show."""
        self.where, self.path = where, ""
        self.opener.met.clear()
        self.opener.open(text.encode("utf-8", "replace"), "")

    def series(self, where: str, values: Sequence[float]) -> None:
        """Numbers that would show, in their order."""
        self.where, self.path = where, ""
        self.opener.met.clear()
        self.budget.take(8 * len(values))
        self.numbers(numbers.floats(values), 1, (), 0)
        self.readings(values, (), 0, bits=True)

    # ---- the sink

    def whole(self, data: Any, how: How) -> None:
        """Compare everything at once."""
        if self.marks.is_whole(data):
            self.found(COPIES, how)

    def refuse(self, code: str, what: str, how: How) -> None:
        """Note what is refused for itself."""
        self.found(code, how, what)

    def raw(self, data: Any, how: How) -> None:
        """Compare windows of bytes."""
        if not self.known(COPIES) and self.marks.find_bytes(data):
            self.found(COPIES, how)
        if not self.known(COPIES) and len(data) <= TURNED and self.marks.find_bytes(bytes(data)[::-1]):
            self.found(COPIES, (*how, "reversed order"))

    def text(self, text: str, how: How, depth: int) -> None:
        """Compare text as it is, turned round, and read in other ways."""
        self.budget.check()
        told = self.rows(text, how, depth, [])
        if len(text) <= TURNED:
            self.rows(text[::-1], (*how, "reversed order"), depth, [])
        if self.marks.rows.kept and depth <= 2 and len(text) <= CAREFUL:
            self.rows(encodings.rotated(text), (*how, "turned letters"), depth, told)
        for name, data in encodings.of_text(text):
            if len(data) >= encodings.LEAST:
                self.opener.guess(data, (*how, name), depth + 1)

    def rows(self, text: str, how: How, depth: int, told: list[str]) -> list[str]:
        """Compare the tokens of text; its numbers only if they are not those `told` before. Answers its numbers."""
        plain = words.plain(text)
        found = words.tokens(plain)
        if not self.known(ROWS):
            keys = words.keys(plain)
            ways = [found, list(filterfalse(keys.__contains__, found))] if keys else [found]
            if any(self.marks.find_tokens(self.marks.candidates(way)) for way in ways):
                self.found(ROWS, how)
        figures = words.figures(plain)
        if len(figures) > 3 and figures != told:
            values = numbers.floats(map(float, figures))
            if not self.known(ROWS) and self.marks.find_numbers(values):
                self.found(ROWS, how)
            if depth <= MAX_UNWRAPPED and "reversed order" not in how and len(figures) <= CAREFUL:
                self.readings(list(map(float, figures)), how, depth, bits=True)
        if self.marks.rare and not self.known(VALUES) and self.marks.rare_words(found):
            self.found(VALUES, how)
        return figures

    def numbers(self, values: array[float], columns: int, how: How, depth: int) -> None:
        """Compare numbers as they are, from the last to the first, and column by column."""
        self.budget.check()
        if not self.known(ROWS):
            if self.marks.find_numbers(values):
                self.found(ROWS, how)
            elif len(values) <= BACKWARDS and self.marks.find_numbers(encodings.backwards(values)):
                self.found(ROWS, (*how, "reversed order"))
            elif columns > 1 and len(values) > columns:
                turned = array("f")
                for column in range(columns):
                    turned.extend(values[column::columns])
                if self.marks.find_numbers(turned):
                    self.found(ROWS, (*how, "columns"))
        if how and depth <= MAX_UNWRAPPED and len(values) <= CAREFUL:
            self.readings(values.tolist(), how, depth, bits=False)

    def readings(self, values: Sequence[float], how: How, depth: int, bits: bool) -> None:
        """Read numbers as something else."""
        if NUMBERS in how:
            return
        for name, data in encodings.of_numbers(values, bits):
            self.opener.guess(data, (*how, NUMBERS, name), depth + 1)
