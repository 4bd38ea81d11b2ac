"""The strict reader: every code by a bad file, equal readings by both parsers, and hostile input."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.codes import yaml as codes
from edgetrain.core.document import Document
from edgetrain.core.problem import Code, Mark, Problem
from edgetrain.repo import strict as reader
from edgetrain.repo.strict import read_strictly as read

CASES = Path(__file__).parents[1] / "cases" / "yaml"
FILES = sorted(CASES.glob("*.yaml"))
LARGE = {
    "Y101": b"a: " + b"x" * 2**20,
    "Y120": b"- a\n" * 150_000,
    "Y121": b"- yes\n" * 150_000,
}


def report(problems: list[Problem]) -> str:
    return "".join(f"{p.line}:{p.column} {p.code} {p.what}\n    fix: {p.fix}\n" for p in problems)


def data_of(text: str) -> Any:
    document, problems = read(text.encode(), "x.yaml")
    assert problems == []
    assert document is not None
    return document.data


@pytest.fixture(params=["libyaml", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers: PyYAML may have been built without libyaml."""
    monkeypatch.setattr(reader, "_PARSER", yaml.CLoader if request.param == "libyaml" else yaml.Loader)
    return str(request.param)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_bad_file_gives_its_report(file: Path, golden: Callable[[Path, str], None]) -> None:
    _, problems = read(file.read_bytes(), file.name)
    assert file.name.partition("-")[0] in {p.code for p in problems}
    golden(file.with_suffix(".expected"), report(problems))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_both_parsers_find_the_same_codes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(loader: Any) -> set[str]:
        monkeypatch.setattr(reader, "_PARSER", loader)
        return {p.code for p in read(file.read_bytes(), file.name)[1]}

    assert found(yaml.CLoader) == found(yaml.Loader)


@pytest.mark.parametrize("code", LARGE)
def test_too_much_is_refused(code: str) -> None:
    document, problems = read(LARGE[code], "x.yaml")
    assert document is None
    assert problems[-1].code == code
    assert len(problems) <= reader.MAX_PROBLEMS + 1


def test_every_code_has_a_case() -> None:
    known = {value.id for value in vars(codes).values() if isinstance(value, Code)}
    assert known == {file.name.partition("-")[0] for file in FILES} | set(LARGE)


def test_places_of_values_and_keys(parser: str) -> None:
    text = "# a comment\nspec:\n  limits:\n    timeout: 4h\n  metrics: [a, b]\n"
    document, problems = read(text.encode(), "x.yaml")
    assert document is not None
    assert problems == []
    assert document.data == {"spec": {"limits": {"timeout": "4h"}, "metrics": ["a", "b"]}}
    assert document.mark("spec", "limits", "timeout") == Mark(4, 14)
    assert document.key_mark("spec", "limits", "timeout") == Mark(4, 5)
    assert document.mark("spec", "metrics", 1) == Mark(5, 16)
    assert document.mark("spec", "metrics", 7) == Mark(5, 12)


def test_plain_values(parser: str) -> None:
    text = "{a: true, b: false, c: null, d: , e: 12, f: -3, g: 1.5, h: 1.0e-4, i: text, j: '12', k: \"yes\"}"
    values = {"a": True, "b": False, "c": None, "d": None, "e": 12, "f": -3}
    values |= {"g": 1.5, "h": 1e-4, "i": "text", "j": "12", "k": "yes"}
    read_back = data_of(text)
    assert read_back == values
    assert {k: type(v) for k, v in read_back.items()} == {k: type(v) for k, v in values.items()}


def test_whole_numbers_as_keys_become_text(parser: str) -> None:
    assert data_of('withdrawn: {2: "wrong labels"}') == {"withdrawn": {"2": "wrong labels"}}


def test_aliases_within_the_bound_are_expanded(parser: str) -> None:
    text = "a: &a {x: 1}\nb: [*a, *a]\nc: &n 5\nd: *n\n"
    assert data_of(text) == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}], "c": 5, "d": 5}


def test_an_anchor_given_again_stands_for_the_later_value(parser: str) -> None:
    assert data_of("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_byte_order_mark_and_line_ends_of_windows(parser: str) -> None:
    document, problems = read(b"\xef\xbb\xbfa: 1\r\nb: yes\r\n", "x.yaml")
    assert document is not None
    assert [(p.code, p.line, p.column) for p in problems] == [("Y113", 2, 4)]


def test_refused_values_stand_as_most_likely_meant() -> None:
    document, _ = read(b"{a: True, b: 0x1F, c: 1_000, d: ~, e: 2026-12-31, f: yes, g: 1e-4}", "x.yaml")
    assert document is not None
    meant = {"a": True, "b": 31, "c": 1000, "d": None, "e": "2026-12-31", "f": "yes", "g": 1e-4}
    assert document.data == meant
    # In a list as well; a key stays the text that it is.
    document, problems = read(b"a: [True, 0x1F, ~, 1_000]\n0x10: 1\n", "x.yaml")
    assert document is not None
    assert document.data == {"a": [True, 31, None, 1000], "0x10": 1}
    assert len(problems) == 5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("null\n", "the file is empty"),
        ("words\n", "the top level is a single value, not a mapping"),
        ("- a\n", "the top level is a list, not a mapping"),
        ("? \n: 1\n", "the key is empty"),
        ("a: [,]\n", "a value is missing, or begins with a character that needs quotes"),
        ("a: {1.5: 1}\n", "the key is 1.5, which is not text"),
    ],
)
def test_what_is_missing_is_said(parser: str, text: str, what: str) -> None:
    _, problems = read(text.encode(), "x.yaml")
    assert [found.what for found in problems] == [what]


HOSTILE = {
    "brackets": b"[" * 2**20,
    "braces": b"{" * 2**20,
    "questions": b"? " * 2**19,
    "dashes": b"- " * 2**19,
    "quoted keys": b'"a":' * 2**18,
    "digits": b"a: " + b"9" * (2**20 - 3),
    "hex digits": b"a: 0x" + b"9" * (2**20 - 5),
    "colons": b"a: 1" + b":1" * (2**19 - 2),
    "underscores": b"a: 1" + b"_" * (2**20 - 4),
    "escapes": b'a: "' + b"\\0" * (2**19 - 3) + b'"',
    "anchors": b"".join(b"k%d: &k%d 1\n" % (i, i) for i in range(40_000)),
    "long key": b"a" * (2**20 - 4) + b": 1",
    "nul bytes": b"\0" * 2**20,
    "flow breaks": b"a: [" + b"\n" * (2**20 - 5) + b"]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_survived(name: str) -> None:
    document, problems = read(HOSTILE[name], "x.yaml")
    assert document is not None or problems
    assert len(problems) <= 101
    assert all(len(p.what) < 400 for p in problems)


def test_no_problem_shows_what_a_terminal_would_obey() -> None:
    _, problems = read(b'"\\e[31m": 1\n"\\e[31m": 1\n', "x.yaml")
    assert problems
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(p.what for p in problems))


# What the reader refuses by design, however it is quoted.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"))).filter(lambda text: not reader._CONTROL.search(text))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


class Quoting(yaml.SafeDumper):
    """The default dumper, with all text in quotes."""


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, '"'))


@given(st.dictionaries(TEXT, JSON, max_size=6), st.booleans())
def test_what_is_dumped_with_quotes_reads_back(value: dict[str, Any], allow_unicode: bool) -> None:
    assert data_of(yaml.dump(value, Dumper=Quoting, allow_unicode=allow_unicode)) == value


@given(st.dictionaries(TEXT, JSON, max_size=6), st.sampled_from([None, False, True]))
def test_what_is_dumped_with_default_quoting_reads_back_or_is_ambiguous(
    value: dict[str, Any], flow: bool | None
) -> None:
    document, problems = read(yaml.safe_dump(value, default_flow_style=flow).encode(), "x.yaml")
    # PyYAML leaves text such as 1e4 or y bare, which other readers take for a number or a boolean.
    assert {p.code for p in problems} <= {"Y113", "Y115"}
    if not problems:
        assert document is not None
        assert document.data == value


YAML_LIKE = st.lists(
    st.sampled_from(
        ["a", "b", ": ", "- ", "\n", "  ", "{", "}", "[", "]", ",", "&x ", "*x", "!t ", '"', "'", "#", "|\n", "? "],
    )
    | st.sampled_from(
        ["yes", "1", "1.5", "~", "<<", "---\n", "...\n", "%", "\t", "\r", "\\", "é", "\u202e", "@", "`"]
    ),
    max_size=40,
).map("".join)


@given(
    YAML_LIKE.map(str.encode)
    | st.binary(max_size=200)
    | st.text(max_size=100).map(lambda t: t.encode("utf-8", "replace"))
)
def test_anything_gives_a_document_or_problems_inside_the_file(data: bytes) -> None:
    document, problems = read(data, "x.yaml")
    assert document is not None or problems
    lines = re.split(r"\r\n|\r|\n", data.decode("utf-8", "replace").removeprefix("\ufeff"))
    for mark in [*marks(document), *(Mark(p.line, p.column) for p in problems)]:
        assert 1 <= mark.line <= len(lines)
        assert 1 <= mark.column <= len(lines[mark.line - 1]) + 1


def marks(document: Document | None) -> Iterator[Mark]:
    if document is not None:
        yield from document.marks.values()
        yield from document.key_marks.values()
