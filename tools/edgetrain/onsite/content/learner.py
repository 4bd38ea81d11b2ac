"""Reads the training data, and keeps its fingerprints."""

from __future__ import annotations

import contextlib
import csv
import io
import mmap
import os
import re
import stat
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import numbers, words
from .budget import Budget
from .marks import Marks
from .opener import MAX_COLUMNS, How, Opener

DELIMITERS = ",;\t|"
HEAD = 65536
MAX_HEADS = 20_000
MAX_RARE = 400_000
RARE_SHARE = 0.01
# So many bytes of rows are learned in about a minute.
LEARN = 48 * 2**20
STRETCH = 64
_NAME = re.compile(r"[^\W\d][\w .:/%()\[\]#-]{0,80}")


def files(root: str) -> Iterator[str]:
    """All regular files below a folder, or the file itself, in a fixed order; links are not followed."""
    if Path(root).is_file():
        yield root
        return
    for folder, below, names in os.walk(root):
        below.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield str(path)


@contextlib.contextmanager
def mapped(path: str | Path) -> Iterator[Any]:
    """A file's bytes, without reading them all."""
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        # Unmapped when the last view of it is gone.
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def header(text: str) -> tuple[str, list[str]]:
    """The delimiter of a table in text and the names in its first line; both may be empty."""
    lines = text.splitlines()[:2]
    if len(lines) < 2:
        return "", []
    delimiter = max(DELIMITERS, key=lines[0].count)
    if not lines[0].count(delimiter) or lines[0].count(delimiter) != lines[1].count(delimiter):
        return "", []
    names = [name.strip(" \"'") for name in lines[0].split(delimiter)]
    if all(_NAME.fullmatch(name) or not name for name in names) and any(names):
        return delimiter, names
    return delimiter, []


class Learner:
    """The sink that learns: all of data up to `LEARN` bytes, of more a share of its rows.

    Which rows is decided by the key of the process, stretch by stretch, so that nobody can know them.
    """

    def __init__(self, marks: Marks, budget: Budget, size: int, most: int = LEARN) -> None:
        """`size` is how many bytes of data there are, packed as they lie; `most` of them are learned."""
        self.marks = marks
        self.size, self.most = size, most
        self.opener = Opener(budget, self, closely=False)
        self.budget = budget
        self.lines = self.stretches = 0
        self.delimiter = ""

    def learn(self, inputs: dict[str, str]) -> None:
        """Read all inputs. Raises Cut, OSError."""
        paths = [(root, path) for _, root in sorted(inputs.items()) for path in files(root)]
        for _, path in paths[:MAX_HEADS]:
            self.public(path)
        names = [os.path.relpath(path, root) for root, path in paths if path != root]
        if len(names) > 3:
            self.marks.learn_tokens(self.tokens(words.plain("\n".join(names[:1_000_000]))))
        for _, path in paths:
            self.marks.files += 1
            with mapped(path) as data:
                if len(data):
                    self.delimiter = ""
                    self.opener.open(data, Path(path).name)
        most = max(3, self.lines * RARE_SHARE)
        for word in [word for word, count in self.marks.rare.items() if count > most or word in self.marks.public]:
            del self.marks.rare[word]

    def public(self, path: str) -> None:
        """Note the names of columns and keys: they are no row."""
        with Path(path).open("rb") as file:
            text = words.decoded(file.read(HEAD))
        if text is not None:
            plain = words.plain(text)
            found = {word for name in header(plain)[1] for word in words.TOKEN.findall(name)} | words.keys(plain)
            self.marks.public |= {word for word in found if word[-1].isalpha()}

    def whole(self, data: Any, how: How) -> None:
        """An entire file, or an entire member of an archive."""
        self.marks.learn_whole(data)

    def share(self) -> float:
        """What part of the rows to learn."""
        share = min(1.0, self.most / max(self.size, self.budget.bytes, 1))
        self.marks.share = min(self.marks.share, share)
        return share

    def chosen(self, count: int) -> Iterator[slice]:
        """The stretches of `count` rows that are learned."""
        bound = int(self.share() * 2**32)
        for at in range(0, count, STRETCH):
            self.stretches += 1
            if hash(str(self.stretches)) & 0xFFFFFFFF < bound:
                yield slice(at, at + STRETCH)

    def text(self, text: str, how: How, depth: int) -> None:
        """Rows of text."""
        marks = self.marks
        if self.share() < 1:
            lines = text.splitlines(keepends=True)
            text = "".join("".join(lines[part]) for part in self.chosen(len(lines)))
        plain = words.plain(text)
        tokens = self.tokens(plain)
        if len(tokens) > 3:
            marks.learn_tokens(tokens)
        figures = words.figures(plain)
        if len(figures) > 3:
            marks.learn_numbers(numbers.floats(map(float, figures)))
        if not self.delimiter:
            self.delimiter = header(plain)[0] or "\0"
        if self.delimiter != "\0":
            self.columns(plain)

    def tokens(self, plain: str) -> list[str]:
        """The tokens of plain text as they are spelled, without the names of fields."""
        return self.marks.values(self.marks.spelling.of(words.tokens(plain)))

    def columns(self, text: str) -> None:
        """The columns of a table in text: numbers in the order of rows, and values that few rows have."""
        try:
            rows = list(csv.reader(io.StringIO(text), delimiter=self.delimiter))
        except csv.Error:
            return
        self.lines += len(rows)
        width = len(rows[0]) if rows else 0
        rows = [row for row in rows if len(row) == width]
        if not 1 < width <= MAX_COLUMNS:
            return
        for column in zip(*rows):  # noqa: B905 - as in `marks.tuples`
            self.budget.check()
            figures = []
            texts = []
            for value in column:
                try:
                    figures.append(float(value))
                except ValueError:
                    texts.append(value)
            if len(figures) > len(column) // 2:
                self.marks.learn_numbers(numbers.floats(figures))
            elif len(self.marks.rare) < MAX_RARE:
                self.values(texts)

    def values(self, texts: list[str]) -> None:
        """A column of text: its order, and the words of short values such as names."""
        found = [words.TOKEN.findall(text) for text in texts]
        tokens = self.marks.spelling.of([word for cell in found for word in cell])
        if len(tokens) > 3:
            self.marks.learn_tokens(tokens)
        self.marks.rare.update(word for cell in found if len(cell) <= 3 for word in cell if len(word) >= 4)

    def numbers(self, values: array[float], columns: int, how: How, depth: int) -> None:
        """Rows of numbers, and their columns."""
        if self.share() < 1:
            wide = max(columns, 1)
            parts = self.chosen(len(values) // wide)
            values = array(values.typecode, (v for p in parts for v in values[p.start * wide : p.stop * wide]))
        self.marks.learn_numbers(values)
        if 1 < columns <= MAX_COLUMNS:
            for column in range(columns):
                self.budget.check()
                self.marks.learn_numbers(values[column::columns])

    def raw(self, data: Any, how: How) -> None:
        """Other bytes."""
        self.marks.learn_bytes(data)

    def refuse(self, code: str, what: str, how: How) -> None:
        """Data may be as it likes."""


def size_of(inputs: dict[str, str]) -> int:
    """Bytes of all inputs."""
    return sum(Path(path).lstat().st_size for root in inputs.values() for path in files(root))
