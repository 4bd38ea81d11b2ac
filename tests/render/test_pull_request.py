"""The comment on a pull request: golden files, and properties that no hostile report can break."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetrain.core.attention import ORDER
from edgetrain.providers.github.marks import marked
from edgetrain.render.attention_words import WORDS
from edgetrain.render.comment_parts import LONGEST, MOST_PARTS, Block, length, packed
from edgetrain.render.pull_request import comment_parts
from edgetrain.repo.dialect import validator
from tests.cli.test_renderings import hostile, parsed, shape
from tests.render import reports

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = validator(json.loads((resources.files("edgetrain") / "schemas" / "report.schema.json").read_text()))
COMMENTS = {
    "pull-request-good.md": (reports.GOOD, False),
    "pull-request-bad.md": (reports.BAD, True),
    "pull-request-conflict.md": (reports.CONFLICT, False),
    "pull-request-nothing.md": (reports.NOTHING, False),
}


@pytest.mark.parametrize("name", COMMENTS)
def test_comment(name: str, golden: Callable[[Path, str], None]) -> None:
    report, own = COMMENTS[name]
    assert not list(SCHEMA.iter_errors(report))
    (part,) = comment_parts(report, own_workflows=own)
    golden(GOLDEN / name, part)


def test_everything_that_needs_an_eye_has_words() -> None:
    assert set(WORDS) == set(ORDER)


# --- hostile values ------------------------------------------------------------------------------------

FREE = {"apiVersion", "kind", "head", "base", "commit", "merge", "operation", "effect", "severity", "logs", "code"}


def spoiled(value: Any, text: str, key: str = "") -> Any:
    """The report with the text in the place of every text that its schema leaves free."""
    if isinstance(value, dict):
        return {name: spoiled(item, text, name) for name, item in value.items()}
    if isinstance(value, list):
        return [spoiled(item, text, key) for item in value]
    return text if isinstance(value, str) and key not in FREE else value


def with_text(text: str) -> dict[str, Any]:
    """The whole report, each free text replaced; what is left out where empty is left out in every one."""
    report: dict[str, Any] = spoiled(reports.GOOD, text)
    report["problems"] = [{**spoiled(found, text), "touched": True} for found in reports.PROBLEMS]
    report["notes"] = [text]
    return report


TAG = re.compile(r"<[^<>]*>")


def form(comment: str) -> list[tuple[str, str]]:
    """The comment without its texts; of blocks of HTML the tags."""
    kept = shape(parsed(comment))
    return [(kind, "".join(TAG.findall(text)) if kind == "html_block" else text) for kind, text in kept]


def outside_code(text: str) -> str:
    """What GitHub looks through for mentions, issues and addresses once it is rendered."""
    found, depth = "", 0
    for token in parsed(text):
        if token.type == "html_block":
            found += html.unescape(TAG.sub("", re.sub(r"<code>.*?</code>", "", token.content)))
        elif token.type == "html_inline":
            depth += {"<code>": 1, "</code>": -1}.get(token.content, 0)
        elif token.type in ("text", "text_special") and depth == 0:
            found += token.content
    assert depth == 0
    return found


def lines(report: dict[str, Any]) -> str:
    return "".join(comment_parts(report, own_workflows=True))


@given(value=hostile)
@settings(deadline=None)
def test_no_value_changes_the_shape_of_the_comment(value: str) -> None:
    if not value:
        return
    assert form(lines(with_text(value))) == form(lines(with_text("x")))


@given(value=hostile)
@settings(deadline=None)
def test_the_comment_mentions_nobody_and_links_nowhere(value: str) -> None:
    assert not re.search(r"@\w|#\d|(?i:\bgh-\d)|://", outside_code(lines(with_text(value))))


@given(value=hostile)
@settings(deadline=None)
def test_the_comment_holds_nothing_invisible(value: str) -> None:
    text = lines(with_text(value))
    assert all(c == "\n" or c.isprintable() for c in text)
    assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", text)


# --- length --------------------------------------------------------------------------------------------


def folds(part: str) -> list[str]:
    """The tags of the folds, in order."""
    return re.findall(r"</?details>", part)


def rows(part: str) -> Iterator[list[str]]:
    """The tables of a part, each with its lines."""
    found: list[str] = []
    for line in [*part.split("\n"), ""]:
        if line.startswith("|"):
            found.append(line)
        elif found:
            yield found
            found = []


def test_a_long_comment_is_told_in_parts_that_are_whole() -> None:
    many = [{**reports.PROBLEMS[0], "what": f"number {n} " + "|" * 120} for n in range(300)]
    parts = comment_parts(reports.report(problems=many, plan=None, leftOut={"problems": 17}))
    assert 1 < len(parts) <= MOST_PARTS
    marked("plan", parts)  # raises for one that the forge would not take
    told = 0
    for number, part in enumerate(parts, 1):
        assert length(part) <= LONGEST
        assert f"(part {number} of {len(parts)})" in part.split("\n")[0]
        assert folds(part) == ["<details>", "</details>"] * (len(folds(part)) // 2)
        for lines_ in rows(part):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines_}) == 1
            assert lines_[1] == "|---|---|---|---|"
            told += len(lines_) - 2
    assert told == 301
    assert "and 17 more" in parts[-1]
    assert parts[-1].count("<sub>") == 1 and "<sub>" not in parts[0]
    assert parts == comment_parts(reports.report(problems=many, plan=None, leftOut={"problems": 17}))


def test_what_no_number_of_parts_holds_is_left_out_and_said_so() -> None:
    found = reports.difference("|" * 80, "|" * 60, "|" * 60)
    many = [reports.change("train", "|" * 300, "NewTrial", differences=[found] * 50) for _ in range(300)]
    plan = {"digest": reports.DATA, "summary": "300 to train", "due": ""}
    parts = comment_parts(reports.report(changes=many, plan=plan))
    assert len(parts) == MOST_PARTS
    assert "There is more, left out here for its length" in parts[-1]
    assert all(length(part) <= LONGEST for part in parts)
    assert "<sub>" in parts[-1]


@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.lists(st.integers(0, 9000), max_size=30), st.booleans()), max_size=25
    )
)
@settings(deadline=None)
def test_packing_loses_nothing_and_breaks_nothing(shapes: list[tuple[int, list[int], bool]]) -> None:
    blocks = [
        Block(f"head{n} " + "h" * head, tuple(f"row{n}.{m} " + "r" * size for m, size in enumerate(sizes)), "foot")
        if sizes
        else Block(f"head{n} " + "h" * head)
        for n, (head, sizes, _) in enumerate(shapes)
    ]
    parts = packed("### heading", blocks, "footer", "rest")
    assert all(length(part) <= LONGEST for part in parts)
    assert parts[-1].rstrip().endswith("footer")
    whole = "\n".join(parts)
    wanted = [row for block in blocks for row in block.rows]
    found = re.findall(r"^row\d+\.\d+ r*$", whole, re.MULTILINE)
    if "\nrest\n" in whole:
        assert found == wanted[: len(found)]
    else:
        assert found == wanted


def test_a_row_longer_than_a_comment_is_left_out_alone() -> None:
    blocks = [Block("head", ("a", "x" * 70_000, "b")), Block("y" * 70_000), Block("end")]
    (part,) = packed("### heading", blocks, "footer", "rest")
    assert part == "### heading\n\nhead\na\nb\n\nend\n\nrest\n\nfooter\n"


def test_characters_beyond_the_basic_plane_count_twice() -> None:
    assert length("a\U0001f600") == 3
