"""Fingerprints of the training data, and what is found again of them.

Four kinds: *rows* (several consecutive tokens of text), *fine* and *coarse* (several consecutive numbers),
*windows* (pieces of other bytes, at places that the bytes themselves mark, so that a copy at any offset has
the same), and *wholes* (entire files). A gram is kept only if it tells enough: the bits of a token are bounded
by how often it is there and by its own length, and repeats count nothing; grams that are common in the data are
left out. What matches is judged again by itself, so that counting up, labels and zeros are no match.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, chain, compress, filterfalse
from operator import eq, sub
from typing import Any

from . import numbers, words

KS = (4, 6, 8, 16, 32)
# Bits that a gram must tell to be kept, and that a match must show by itself.
ENOUGH, SHOWN, DISTINCT = 48.0, 32.0, 4
ROUNDING = 1e-6
LEAST = 2**14
COMMON = 8
CAP = 1_200_000
WINDOW = 32
WINDOWS_ENOUGH = 3
WHOLE = 48
RARE_WORDS = 25
CHUNK = 2**20
MAX_TOKENS = 600_000
DENSE = 2**14  # so many signs of numbers are too many to tell numbers of the data from others
BETWEEN = "B"  # tokens are in lower case
STRETCH = re.compile(rb"\x01{4,}")
# Kinds of tokens in a text: a number or not (as `isalpha` tells), unless the data has it, or it names a field.
OURS, NAME = 2, 3
MAYBE = re.compile(rb"[\0\x02]\x03*[\0\x02]\x03*[\0\x02]\x03*[\0\x02][\0\x02\x03]*")


def slices(tokens: bytes, k: int, size: int) -> list[bytes]:
    """The grams of packed tokens."""
    width = k * size
    return [tokens[at : at + width] for at in range(0, len(tokens) - width + 1, size)]


def tuples(tokens: Sequence[str], k: int) -> Iterable[tuple[str, ...]]:
    """The grams of a list of tokens."""
    return zip(*(tokens[at:] for at in range(k)))  # noqa: B905 - the shortest rules, and strict= is of 3.10


class Grams:
    """One kind of gram: its fingerprints, the lengths in use, how many were seen and what part is kept."""

    def __init__(self) -> None:
        self.kept: set[int] = set()
        self.ks: set[int] = set()
        self.seen = 0
        self.step = 1
        self.tokens: set[Any] | None = set()  # None if there are too many to help
        # Of numbers: the signs of four together, and the patterns of stretches that may be of the data.
        self.fours: set[str] = set()
        self.patterns: list[re.Pattern[str]] = []

    def learn(self, hashes: Iterable[int], k: int) -> None:
        """Keep these fingerprints of length `k`, but for common ones."""
        count = Counter(hashes)
        if not count:
            return
        self.ks.add(k)
        self.seen += sum(count.values())
        rare = {mark for mark, times in count.items() if times <= COMMON}
        if self.step > 1:
            rare = {mark for mark in rare if not mark & (self.step - 1)}
        self.kept |= rare
        while len(self.kept) > CAP:
            self.step *= 2
            self.kept = {mark for mark in self.kept if not mark & (self.step - 1)}

    def note(self, tokens: Iterable[Any]) -> None:
        """Remember which tokens there are: most of an output's need no more be looked at."""
        if self.tokens is not None:
            self.tokens.update(tokens)
            self.patterns = []
            if len(self.tokens) > MAX_TOKENS:
                self.tokens = None

    def stretches(self, tokens: Sequence[Any], bits: Any) -> Iterable[slice]:
        """The parts of tokens in which all are of the data, if they are long enough and tell enough to be shown."""
        if not self.ks:
            return
        if self.tokens is None:
            yield slice(0, len(tokens))
            return
        least = min(self.ks)
        known = bytes(map(self.tokens.__contains__, tokens))
        for found in STRETCH.finditer(known):
            if found.end() - found.start() >= least:
                different = set(tokens[found.start() : found.end()])
                if len(different) >= DISTINCT and sum(map(bits, different)) >= SHOWN:
                    yield slice(*found.span())

    def places(self, packed: bytes, size: int) -> Iterable[slice]:
        """Where packed numbers may be of the data, several together: what is `shown` is within one of these."""
        if not self.ks:
            return
        if self.tokens is None:
            yield slice(0, len(packed) // size)
            return
        if not self.patterns:
            least = min(self.ks)
            known = set(numbers.signs(b"".join(self.tokens), size))
            low = {sign for sign in self.fours if sign < "\u8000"}
            self.patterns = [together(least, known), together(least - 3, low, self.fours - low)]
        one, four = self.patterns
        found = numbers.signs(packed, size)
        for near in one.finditer(found):
            for place in four.finditer(numbers.fours(near.group())):
                first, last = place.span()
                yield slice(near.start() + first // 2, near.start() + last // 2 + 3)

    def shown(self, tokens: Sequence[Any], cut: Callable[[int], Iterable[Any]], bits: Any) -> bool:
        """Whether grams of the data that tell enough are among these tokens; `cut` gives all grams of a length."""
        sums = [0.0, *accumulate(map(bits, tokens))]
        for k in sorted(self.ks):
            # No gram was kept that tells less; what the data told of it was no more.
            telling = list(map((ENOUGH - ROUNDING).__le__, map(sub, sums[k:], sums)))
            if True not in telling or not self.hits(map(hash, compress(cut(k), telling))):
                continue
            known = [hash(gram) in self.kept for gram in cut(k)]
            if any(shown(tokens[first:last], bits) for first, last in spans(known, k)):
                return True
        return False

    def hits(self, hashes: Sequence[int] | Iterable[int]) -> bool:
        """Whether any is known."""
        return not self.kept.isdisjoint(hashes)


def together(least: int, *known: set[str]) -> re.Pattern[str]:
    """So many or more that stand together, each of a sign of every set; perhaps the first signs of another."""
    if max(map(len, known)) > DENSE:
        return re.compile(".+", re.DOTALL)
    # It begins with a set, which is looked for first; and what repeats is one sign.
    sets = [f"[{''.join(map(re.escape, sorted(signs)))}]" for signs in known]
    rest = f"[{''.join(map(re.escape, sorted(set().union(*known))))}]"
    return re.compile("".join(sets) + rest + f"{{{(least - 1) * len(sets)},}}")


def lengths(total: float, count: int, least: int) -> list[int]:
    """The lengths to keep grams of: up to the one at which the average gram tells enough."""
    enough = next((k for k in KS if total * k >= 1.25 * ENOUGH * count), KS[-1])
    return [k for k in KS if least <= k <= max(enough, least) and k <= count]


class Marks:
    """All fingerprints of one check."""

    def __init__(self, size: int) -> None:
        """`size` is about how many bytes of data there are."""
        self.rows, self.fine, self.coarse = Grams(), Grams(), Grams()
        self.windows: dict[int, int] = {}
        self.window_step = 1
        self.wholes: set[int] = set()
        self.rare: Counter[str] = Counter()
        self.public: set[str] = set()
        self.spelling = words.Spelling()
        self.kinds: dict[str, int] = {}  # of tokens; made when all are learned
        self.files = 0
        self.share = 1.0  # of the rows that were learned
        self.small = False  # whether the data has numbers of one byte
        self.sizes: set[int] = set()  # of whole files
        # Anchors: two bytes, each of a class, so that one position in 64, 256 or 4096 is one; none begins within
        # another.
        one, two = (8, 8) if size < 64 * 2**20 else (16, 16) if size < 2**30 else (16, 256)
        first, second = bytes(range(5, 256, one)), bytes(range(3, 256, two))
        anchor = b"[" + re.escape(first) + b"][" + re.escape(second) + b"]"
        self.anchored = re.compile(b"(?=(" + anchor + b".{%d}))" % (WINDOW - 2), re.DOTALL)

    @property
    def count(self) -> int:
        """Fingerprints taken."""
        return self.rows.seen + self.fine.seen + self.coarse.seen + len(self.windows) + len(self.wholes)

    @property
    def coverage(self) -> float:
        """The least share that any kind keeps, of the rows that were learned."""
        return self.share / max(self.rows.step, self.fine.step, self.coarse.step, self.window_step)

    # ---- tokens of text

    def values(self, found: list[str]) -> list[str]:
        """Tokens without the names of fields."""
        return list(filterfalse(self.public.__contains__, found)) if self.public else found

    def learn_tokens(self, tokens: list[str]) -> None:
        """Keep the grams of one block of text."""
        count = Counter(tokens)
        self.rows.note(count)
        self.kinds = {}
        top = math.log2(max(len(tokens), LEAST))
        bits = {token: min(words.token_bits(token), top - math.log2(times)) for token, times in count.items()}
        told = list(map(bits.__getitem__, tokens))
        for at in compress(range(1, len(tokens)), map(eq, tokens[1:], tokens)):
            told[at] = 0.0
        sums = [0.0, *accumulate(told)]
        for k in lengths(sums[-1], len(tokens), KS[0]):
            enough = map(ENOUGH.__le__, map(sub, sums[k:], sums))
            self.rows.learn(map(hash, compress(tuples(tokens, k), enough)), k)

    def candidates(self, found: list[str]) -> list[str]:
        """Those tokens, as they are spelled, that may be of rows: words that the data has, but for names of fields,
        and any numbers.

        At least four stand together; between them stands what is no token.
        """
        if self.rows.tokens is None:
            return self.spelling.of(self.values(found))
        if not self.kinds:
            self.kinds = {**dict.fromkeys(self.rows.tokens, OURS), **dict.fromkeys(self.public, NAME)}
        kinds = bytes(map(self.kinds.get, found, map(str.isalpha, found)))
        parts = ((*self.values(found[place.start() : place.end()]), BETWEEN) for place in MAYBE.finditer(kinds))
        return self.spelling.of(list(chain.from_iterable(parts)))

    def find_tokens(self, tokens: list[str]) -> bool:
        """Whether rows of the data are among these tokens."""
        for place in self.rows.stretches(tokens, words.token_bits):
            part = tokens[place]
            if self.rows.shown(part, partial(tuples, part), words.token_bits):
                return True
        return False

    # ---- numbers

    def learn_numbers(self, values: array[float]) -> None:
        """Keep the grams of one block of numbers."""
        if len(values) < KS[0]:
            return
        gaps = list(map(sub, values[1:], values))
        even = [at + 2 for at in compress(range(len(gaps) - 1), map(eq, gaps[1:], gaps))]
        fine, coarse = numbers.quantised(values)
        for grams, packed, size, least in (
            (self.fine, fine, numbers.FINE, 4),
            (self.coarse, coarse, numbers.COARSE, 6),
        ):
            tokens = slices(packed, 1, size)
            count = Counter(tokens)
            grams.note(count)
            grams.fours.update(numbers.fours(numbers.signs(packed, size)))
            top = math.log2(max(len(tokens), LEAST))
            bits = {t: min(numbers.digits_bits(t), top - math.log2(times)) for t, times in count.items()}
            told = list(map(bits.__getitem__, tokens))
            for at in even:
                told[at] = 0.0
            if gaps[0] == 0:
                told[1] = 0.0
            sums = [0.0, *accumulate(told)]
            for k in lengths(sums[-1], len(tokens), least):
                enough = map(ENOUGH.__le__, map(sub, sums[k:], sums))
                grams.learn(map(hash, compress(slices(packed, k, size), enough)), k)

    def find_numbers(self, values: array[float]) -> bool:
        """Whether rows of the data are among these numbers."""
        if len(values) < KS[0]:
            return False
        fine, coarse = numbers.quantised(values)
        for grams, packed, size in ((self.fine, fine, numbers.FINE), (self.coarse, coarse, numbers.COARSE)):
            for near in grams.places(packed, size):
                within = packed[near.start * size : near.stop * size]
                tokens = slices(within, 1, size)
                for place in grams.stretches(tokens, numbers.digits_bits):
                    part = within[place.start * size : place.stop * size]
                    if grams.shown(tokens[place], partial(slices, part, size=size), numbers.digits_bits):
                        return True
        return False

    # ---- other bytes

    def marks_of(self, data: Any) -> Iterable[int]:
        """The fingerprints of the windows of bytes."""
        for at in range(0, len(data), CHUNK):
            for window in self.anchored.findall(data[at : at + CHUNK + WINDOW - 1]):
                if len(set(window)) >= 10:
                    yield hash(window)

    def learn_bytes(self, data: Any) -> None:
        """Keep the windows of one block of a file; those that several files have are no secret of one."""
        known, mask = self.windows, self.window_step - 1
        for mark in self.marks_of(data):
            if not mask or not mark & mask:
                known[mark] = self.files if known.get(mark, self.files) == self.files else -1
        while len(known) > CAP:
            self.window_step *= 2
            mask = self.window_step - 1
            self.windows = known = {mark: file for mark, file in known.items() if not mark & mask}

    def find_bytes(self, data: Any) -> bool:
        """Whether pieces of the data's files are among these bytes."""
        found: set[int] = set()
        for at in range(0, len(data) if self.windows else 0, CHUNK):
            piece = bytes(data[at : at + CHUNK + WINDOW - 1])
            if piece.count(piece[0]) < len(piece):
                known = self.windows.keys() & map(hash, self.anchored.findall(piece))
                found.update(mark for mark in known if self.windows[mark] >= 0)
            if len(found) >= WINDOWS_ENOUGH:
                return True
        return False

    def learn_whole(self, data: Any) -> None:
        """Keep an entire file's fingerprint; of a nearly empty one there is none."""
        if len(data) >= WHOLE and len(set(bytes(data[:4096]))) >= 6:
            self.wholes.add(whole(data))
            self.sizes.add(len(data))

    def is_whole(self, data: Any) -> bool:
        """Whether these bytes are an entire file of the data."""
        return len(data) in self.sizes and whole(data) in self.wholes

    def rare_words(self, tokens: Iterable[str]) -> bool:
        """Whether many values that few rows have are here, in whatever order."""
        return len(self.rare.keys() & set(tokens)) >= RARE_WORDS


def whole(data: Any) -> int:
    """The fingerprint of bytes, however many."""
    return hash((len(data), *(hash(bytes(data[at : at + CHUNK])) for at in range(0, len(data), CHUNK))))


def spans(known: Sequence[bool], k: int) -> Iterable[tuple[int, int]]:
    """The stretches of tokens that grams of length `k` cover without a gap."""
    at = 0
    while True:
        try:
            first = known.index(True, at)
        except ValueError:
            return
        last = first
        while last + 1 < len(known) and known[last + 1]:
            last += 1
        yield first, last + k
        at = last + 1


def shown(tokens: Sequence[Any], bits: Any) -> bool:
    """Whether a match tells enough by itself: several different values, not counted up or down."""
    different = set(tokens)
    if len(different) < DISTINCT:
        return False
    if isinstance(tokens[0], str):
        even = _even([_number(token) for token in tokens])
    else:
        pad = b"" if len(tokens[0]) == numbers.FINE else b"\0\0"
        even = _even(list(numbers.decode(b"".join(pad + token for token in tokens), "f4")))
    if even > len(tokens) * 0.6:
        return False
    return bool(sum(map(bits, different)) >= SHOWN)


def _number(token: str) -> float | None:
    try:
        return None if token[-1].isalpha() else float(token)
    except ValueError:
        return None


def _even(values: Sequence[float | None]) -> int:
    """How many values follow from the two before by the same step."""
    count = 0
    for first, second, third in zip(values, values[1:], values[2:]):  # noqa: B905 - as in `tuples`
        if first is not None and second is not None and third is not None:
            count += abs((third - second) - (second - first)) <= 1e-6 * max(1.0, abs(third))
    return count
