"""The quick ways of the content check find what the slow ways do: each beside a plain one, written down here."""

from __future__ import annotations

import base64
import random
import re
import struct
import unicodedata
from array import array
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.onsite.content import encodings, marks, numbers, opener, words
from edgetrain.onsite.content.budget import Budget
from edgetrain.onsite.content.marks import Marks
from edgetrain.onsite.content.scan import Scan
from tests.walk import sample

from .content import ROWS, TABLE

figures = st.text("0123456789.+-e ,x_aé²\n", max_size=60)


@given(figures)
def test_tokens_and_figures_of_ascii(text: str) -> None:
    plain = words.plain(text)
    assert words.tokens(plain) == words.TOKEN.findall(plain)
    assert words.figures(plain) == words.NUMBER.findall(plain)


@given(figures)
def test_a_token_has_one_spelling(text: str) -> None:
    def slow(token: str) -> str:
        try:
            return f"{float(token):.6g}" if not token[-1].isalpha() and len(token) <= words.MAX_NUMBER else token
        except ValueError:
            return token

    found = words.TOKEN.findall(words.plain(text))
    spelling = words.Spelling()
    assert spelling.of(found) == [slow(token) for token in found] == spelling.of(found)


@given(st.lists(st.sampled_from([b"a", b"~", b"\n", b"\0", b"\x7f", b"\xc2", b"\xf4", b"\x80", b"\xbf", b"\xc1"])))
def test_runs_of_text(parts: list[bytes]) -> None:
    slow = re.compile(rb"(?:[\t\n\r\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3}){6,}")
    assert words.RUNS.findall(b"".join(parts)) == slow.findall(b"".join(parts))


def encoded(parts: Iterable[tuple[int, str]]) -> str:
    return "".join(part * count for count, part in parts)


PIECES = [
    "0a",
    "0x1f, ",
    "12 ",
    "255,",
    "1,  ",
    "01010101",
    "0",
    " ",
    "A7",
    "x",
    "é",
    "\u2003",
    "g",
    "\\x",
    "(",
    "5]",
    "?",
]


@given(st.lists(st.tuples(st.sampled_from([1, 2, 16, 24, 33]), st.sampled_from(PIECES)), max_size=8).map(encoded))
def test_readings_are_looked_for_where_they_can_be(text: str) -> None:
    flat = text.encode("ascii", "replace")
    for pattern, table, least in (
        (encodings.HEX, encodings._HEX, 48),
        (encodings.INTEGERS, encodings._INTEGERS, 33),
        (encodings.BITS, encodings._BITS, 128),
    ):
        quick = [found.span() for found in encodings.within(pattern, text, flat, table, least)]
        assert quick == [found.span() for found in pattern.finditer(text)]
    for pattern, table, least in (
        (encodings.BASE64, encodings._BASE64, 20),
        (encodings.BASE32, encodings._BASE32, 24),
    ):
        assert encodings.has(flat, table, least) or not pattern.search(text)


@given(st.text("ABab01+/_-", max_size=12))
def test_base64_of_a_line(letters: str) -> None:
    def slow() -> list[bytes]:
        found = []
        for skip in range(4):
            part = letters[skip:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            try:
                found.append(base64.b64decode(part + "=" * (-len(part) % 4)))
            except ValueError:
                continue
            if encodings.likely(found[-1]):
                return found[-1:]
        return found

    assert encodings._base64(letters) == slow()


@given(
    st.one_of(
        st.text(encodings._B85.decode() + ' "', max_size=40),
        st.text("!usztyA0 ~|", max_size=12),
        st.binary(max_size=40).map(lambda data: base64.b85encode(data).decode()),
        st.binary(max_size=40).map(lambda data: base64.a85encode(data, wrapcol=20).decode()),
        st.just(base64.a85encode(bytes(12)).decode()),
    )
)
def test_base85(text: str) -> None:
    def slow() -> Iterator[bytes]:
        for decode in (base64.b85decode, base64.a85decode):
            try:
                yield decode("".join(text.split()))
            except ValueError:
                continue

    assert list(encodings._base85(text)) == list(slow())


@given(
    st.text(
        st.one_of(st.characters(), st.sampled_from("aé\u0301\u0323\ufb01\xad\u200b\U000e0041가ΣΟ")), max_size=20
    )
)
def test_plain_text(text: str) -> None:
    shown = unicodedata.normalize("NFKC", text.translate(words.HIDDEN))
    assert words.plain(text) == words.ACCENTS.sub("", unicodedata.normalize("NFD", shown)).lower()


def slow_pages(data: bytes, size: int, sane: bytes, shift: int, least: float) -> set[int]:
    """Where pages begin that may hold numbers: each looked at by itself."""
    found = set()
    for at in range(shift, len(data), opener.GATE):
        page = data[at : min(at + opener.GATE, len(data))]
        high = page[size - 1 :: size]
        passes = sum(sane[byte] for byte in high) >= len(high) * least and len(high) > 2
        if passes and len(set(page)) > 1:
            found.add(at)
    return found


@given(
    st.lists(st.tuples(st.sampled_from(["zeros", "noise", "numbers", "low"]), st.integers(1, 9000)), max_size=4),
    st.sampled_from([("f8", opener.SANE8, 0.12), ("f4", opener.SANE4, 0.25), ("i4", opener.SMALL, 0.9),
                     ("u1", opener.LOW, 0.9)]),
    st.integers(0, 7),
)  # fmt: skip
def test_pages_of_numbers(parts: list[tuple[str, int]], kind: tuple[str, bytes, float], shift: int) -> None:
    dice = random.Random(repr(parts))
    made = {
        "zeros": bytes,
        "noise": dice.randbytes,
        "numbers": lambda size: array("d", (dice.gauss(0, 1) for _ in range(size // 8))).tobytes(),
        "low": lambda size: bytes(dice.randrange(128) for _ in range(size)),
    }
    data = b"".join(made[name](size) for name, size in parts)
    size, shift = int(kind[0][1]), shift % int(kind[0][1])
    told = list(opener.pages(memoryview(data), size, kind[1], shift, kind[2]))
    assert {at for at, _, passes in told if passes} == slow_pages(data, size, kind[1], shift, kind[2])
    borders = [shift, *(end for _, end, _ in told)]
    assert [at for at, _, _ in told] == borders[:-1]
    assert borders[-1] == max(len(data), shift)


def slow_windows(known: Marks, data: bytes) -> int:
    """How many windows of the data's files are among these bytes: each place looked at by itself."""
    one, two = set(range(5, 256, 8)), set(range(3, 256, 8))
    found = set()
    for at in range(len(data) - marks.WINDOW + 1):
        window = data[at : at + marks.WINDOW]
        if window[0] in one and window[1] in two and len(set(window)) >= 10:
            found |= {hash(window)} & {mark for mark, file in known.windows.items() if file >= 0}
    return len(found)


@pytest.mark.parametrize("number", sample(60, 20))
def test_pieces_of_a_file_at_any_place(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "CHUNK", 512)
    dice = random.Random(number)
    file = dice.randbytes(6000)
    known = Marks(len(file))
    known.learn_bytes(memoryview(file))
    at, size, before = dice.randrange(5000), dice.randrange(40, 900), 512 * dice.randrange(3) - dice.randrange(60)
    data = dice.randbytes(max(0, before)) + file[at : at + size] + bytes(dice.randrange(700))
    assert known.find_bytes(memoryview(data)) == (slow_windows(known, data) >= marks.WINDOWS_ENOUGH)


# ---- the whole, with and without knowing which tokens the data has


class Slowly(Marks):
    """Looks every gram up."""

    def candidates(self, found: list[str]) -> list[str]:
        self.rows.tokens = None
        return super().candidates(found)

    def find_tokens(self, tokens: list[str]) -> bool:
        self.rows.tokens = None
        return super().find_tokens(tokens)

    def find_numbers(self, values: array[float]) -> bool:
        self.fine.tokens = self.coarse.tokens = None
        return super().find_numbers(values)


def learned(known: Marks) -> Marks:
    plain = words.plain(TABLE)
    known.learn_tokens(known.spelling.of(words.tokens(plain)))
    known.learn_numbers(numbers.floats(map(float, words.figures(plain))))
    return known


@given(st.lists(st.sampled_from(["ab", "cd", "ef", "dose", "id", "7", "7.0", "1e3", "x"]), max_size=30))
def test_words_that_may_be_of_rows(found: list[str]) -> None:
    known = Marks(100)
    known.public |= {"dose", "id"}
    known.learn_tokens(["ab", "cd", "ef", "7"])
    told = [token for token in found if token not in known.public]
    flags = bytes(token in ("ab", "cd", "ef", "7") or not token.isalpha() for token in told)
    slow = [
        part for place in re.finditer(rb"\x01{4,}", flags) for part in (*told[slice(*place.span())], marks.BETWEEN)
    ]
    assert known.candidates(found) == words.Spelling().of(slow)


@pytest.mark.parametrize("number", sample(300, 60))
def test_numbers_are_looked_up_where_they_can_be(number: int) -> None:
    dice = random.Random(number)
    some: list[float] = [*range(10), 0.0, *(dice.gauss(0, 30) for _ in range(dice.choice([0, 20])))]
    data = array("f", dice.choices(some, k=dice.randrange(4, 400)))
    at, size = dice.randrange(len(data)), dice.randrange(3, 60)
    values = array(
        "f", [*dice.choices(some, k=dice.randrange(200)), *data[at : at + size], *dice.choices(some, k=9)]
    )
    quick, slow = Marks(2000), Slowly(2000)
    for known in (quick, slow):
        known.learn_numbers(data)
    assert quick.find_numbers(values) == slow.find_numbers(values)


@given(st.lists(st.integers(0, 2**15 - 1), max_size=9))
def test_the_signs_of_four_tell_of_these_four_alone(codes: list[int]) -> None:
    found = "".join(map(chr, codes))
    each = [numbers.fours(found[at : at + 4]) for at in range(len(found) - 3)]
    assert numbers.fours(found) == "".join(each)
    assert all(len(two) == 2 and two[0] < "\u8000" <= two[1] < "\ud800" for two in each)


def secrets(dice: random.Random) -> Iterator[bytes]:
    at = dice.randrange(390)
    rows = ROWS[at : at + dice.randrange(1, 9)]
    text = "\n".join(rows).encode()
    values = [float(cell) for row in rows for cell in row.split(",")[2:6]]
    yield from (
        b"",
        text,
        text[::-1],
        base64.b64encode(text),
        text.hex().encode(),
        text.decode().encode("utf-16-le"),
    )
    yield b"\n".join(base64.b64encode(row.encode()) for row in rows)
    yield from (struct.pack(f"<{len(values)}{kind}", *values) for kind in "df")


def filler(dice: random.Random, size: int) -> bytes:
    kinds = ["the", "loss", "7", "unit", "3.50", "epoch", "=", "é", "&#65;", "%41", "12.75"]
    return dice.choice([
        dice.randbytes, bytes, lambda size: " ".join(dice.choices(kinds, k=size // 4)).encode(),
        lambda size: array("f", (dice.gauss(0, 0.1) for _ in range(size // 4))).tobytes(),
    ])(size)  # fmt: skip


@pytest.mark.parametrize("number", sample(200, 25))
def test_the_same_is_found_at_the_borders_of_blocks(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opener, "BLOCK", 8192)
    monkeypatch.setattr(opener, "OVERLAP", 1024)
    dice = random.Random(number)
    secret = dice.choice(list(secrets(dice)))
    before = max(0, dice.choice([4096, 8192, 16384]) - dice.randrange(len(secret) + 40))
    data = filler(dice, before) + secret + filler(dice, dice.randrange(9000))
    found = []
    for kind in (Marks, Slowly):
        scan = Scan(learned(kind(len(TABLE))), Budget(2**30, 600))
        scan.where = "model"
        scan.opener.open(data, "model")
        found.append(scan.findings)
    assert found[0] == found[1]
