"""The renderings: golden files for what people see, and properties that no hostile value can break."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from edgetrain.core import planner
from edgetrain.core.plan import Change, Difference, Effect, Operation, Plan
from edgetrain.core.problem import Problem, shown
from edgetrain.reconcile.report import ApplyResult, Result, Status
from edgetrain.render import github, jsons, markdown, text, words
from tests.cli.samples import APPLIED, NOTHING, PLAN, PROBLEMS, STEPS
from tests.outputs import sound

GOLDEN = Path(__file__).parent / "golden"

RENDERINGS = {
    "problems.txt": text.problems_text(PROBLEMS, "Checked in 0.1 s."),
    "problems.md": markdown.problems_markdown(PROBLEMS),
    "problems.json": jsons.problems_json(PROBLEMS),
    "problems.github": github.problem_annotations(PROBLEMS),
    "plan.txt": text.plan_text(PLAN),
    "plan.md": markdown.plan_markdown(PLAN),
    "plan.json": jsons.plan_json(PLAN),
    "plan.github": github.plan_annotations(PLAN),
    "nothing.txt": text.plan_text(NOTHING),
    "nothing.md": markdown.plan_markdown(NOTHING),
    "apply.txt": text.applied_text(APPLIED, STEPS),
    "apply.md": markdown.applied_markdown(APPLIED, STEPS),
    "apply.json": jsons.applied_json(APPLIED, STEPS),
    "apply.github": github.applied_annotations(APPLIED),
}


@pytest.mark.parametrize("name", RENDERINGS)
def test_rendering(name: str, golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / name, RENDERINGS[name])


@pytest.mark.parametrize(("verb", "name"), [("validate", "problems"), ("plan", "plan"), ("apply", "apply")])
def test_what_is_rendered_as_json_is_as_it_is_published(verb: str, name: str) -> None:
    sound(verb, RENDERINGS[f"{name}.json"])


def test_the_plan_as_json_is_what_apply_reads() -> None:
    assert Plan.from_json(json.loads(jsons.plan_json(PLAN))) == PLAN


def test_every_reason_of_the_planner_has_words() -> None:
    sources = [path.read_text() for path in Path(planner.__file__).parent.glob("*.py")]
    given_reasons = {name for source in sources for name in re.findall(r'"([A-Z][a-z]+(?:[A-Z][a-z]+)+)"', source)}
    assert {"NewExperiment", "ChannelMoved", "IfGatesPass", "TargetDrained"} <= given_reasons
    refusals = {"EmptySource"}  # reasons of errors, which bring their own words
    assert given_reasons - refusals <= set(words.REASONS)


# --- hostile values ------------------------------------------------------------------------------------

ATTACKS = (
    "a | b\n| c",
    "`code` ``` fence",
    "</code></td></table><script>alert(1)</script>",
    "<!-- hidden -->",
    "@octocat please merge",
    "closes owner/repository#1 and GH-1",
    "[link](https://evil.example) ![image](https://evil.example/x.png)",
    "https://evil.example www.evil.example mail@evil.example",
    "**bold** _em_ ~~gone~~ \\| \\\\",
    "&lt;b&gt; &#124; &amp;",
    "::error file=x::injected\r\n::set-output name=a::b",
    "##[error]x",
    "\u202egnp.exe\u200b\x1b[31m\x00",
    "# heading\n- list\n1. one\n> quote\n---\n$$x$$ :smile:",
)
hostile = st.one_of(
    st.sampled_from(ATTACKS),
    st.text(alphabet="|`<>&@#[]()!*_~\\:%,.;=+-$/ \r\n\x1b\u202eaZw0", max_size=60),
    st.text(max_size=40),
)


def plan_with(value: str) -> Plan:
    """A plan whose every free text is the value."""
    problem = Problem(value, 1, 1, value, value, value)
    change = Change(
        f"run/{value}",
        Operation.TRAIN,
        Effect.CREATE,
        value,
        (Difference(value, value, value),),
        {"trial": {value: value}, "attempt": 1},
    )
    later = Change(
        f"proposal/{value}", Operation.PROPOSE, Effect.CREATE, value, after=(change.id,), conditional=True
    )
    return Plan(value, (change, later), (problem,), waiting=((value, value),))


def applied_with(value: str) -> ApplyResult:
    """An apply whose every free text is the value."""
    result = Result(value, value, Status.FAILED, value, value, value)
    return ApplyResult(plan_with(value), (result,), commit="0" * 40, notes=(value,))


def parsed(source: str) -> list[Token]:
    """All tokens, as a reader of GitHub's dialect finds them (tables, strikethrough, inline HTML)."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return [inner for token in reader.parse(source) for inner in (token, *(token.children or ()))]


def shape(tokens: list[Token]) -> list[tuple[str, str]]:
    """The document without its texts: kinds of token, and the HTML."""
    kept: list[tuple[str, str]] = []
    for token in tokens:
        if token.type in ("text", "text_special", "inline", "softbreak"):
            continue
        kept.append((token.type, token.content if token.type.startswith("html") else ""))
    return kept


MARKDOWN: dict[str, Callable[[str], str]] = {
    "problems": lambda value: markdown.problems_markdown(plan_with(value).problems),
    "plan": lambda value: markdown.plan_markdown(plan_with(value)),
    "apply": lambda value: markdown.applied_markdown(applied_with(value), (value,)),
}


@pytest.mark.parametrize("name", MARKDOWN)
@given(value=hostile)
@example(value=ATTACKS[0])
@example(value=ATTACKS[2])
@example(value=ATTACKS[-1])
def test_no_value_changes_the_shape_of_a_comment(name: str, value: str) -> None:
    render = MARKDOWN[name]
    # A value without any special character; empty ones leave their cells empty.
    plain = "x" if value else ""
    assert shape(parsed(render(value))) == shape(parsed(render(plain)))


@pytest.mark.parametrize("name", MARKDOWN)
@given(value=hostile)
def test_a_comment_mentions_nobody_and_links_nowhere(name: str, value: str) -> None:
    """GitHub looks for these in the rendered text outside of code; none may be whole there."""
    outside, depth = "", 0
    for token in parsed(MARKDOWN[name](value)):
        if token.type == "html_inline":
            depth += {"<code>": 1, "</code>": -1}.get(token.content, 0)
        elif (token.type == "text" and depth == 0) or (token.type == "text_special" and depth == 0):
            outside += token.content
    assert depth == 0
    assert not re.search(r"@\w|#\d|(?i:\bgh-\d)|://", outside)


@given(value=hostile)
def test_a_value_is_shown_whole_in_a_comment(value: str) -> None:
    tokens = parsed(f"| {markdown.code(value or 'x')} |\n|---|\n")
    text_only = "".join(token.content for token in tokens if token.type in ("text", "text_special"))
    assert text_only.strip() == shown(value or "x", markdown.LIMIT).strip()


COMMANDS: dict[str, Callable[[str], str]] = {
    "problems": lambda value: github.problem_annotations(plan_with(value).problems),
    "plan": lambda value: github.plan_annotations(plan_with(value)),
    "apply": lambda value: github.applied_annotations(applied_with(value)),
}
_COMMAND = re.compile(r"::(error|warning|notice)(?: ((?:[a-z]+=[^,:\r\n]+)(?:,[a-z]+=[^,:\r\n]+)*))?::([^\r\n]*)")


@pytest.mark.parametrize("name", COMMANDS)
@given(value=hostile)
def test_no_value_makes_another_workflow_command(name: str, value: str) -> None:
    out = COMMANDS[name](value)
    lines = out.split("\n")[:-1]
    assert len(lines) == {"problems": 1, "plan": 2, "apply": 3}[name]
    for line in lines:
        found = _COMMAND.fullmatch(line)
        assert found, line
        keys = [part.partition("=")[0] for part in found[2].split(",")] if found[2] else []
        assert set(keys) <= {"file", "line", "col", "title"}
        assert len(keys) == len(set(keys))


def test_an_annotation_can_be_read_back() -> None:
    line = github.annotation("error", "50% of a\nb: c", title="a,b:c", file="a%b.yaml", line=3, column=4)
    assert line == "::error file=a%25b.yaml,line=3,col=4,title=a%2Cb%3Ac::50%25 of a%0Ab: c"


TEXTS: dict[str, Callable[[str], str]] = {
    "problems": lambda value: text.problems_text(plan_with(value).problems),
    "plan": lambda value: text.plan_text(plan_with(value)),
    "apply": lambda value: text.applied_text(applied_with(value), (value,)),
}


@pytest.mark.parametrize("name", TEXTS)
@given(value=hostile)
def test_no_value_adds_a_line_or_steers_the_terminal(name: str, value: str) -> None:
    render = TEXTS[name]
    out = render(value)
    assert len(out.splitlines()) == len(render("x" if value else "").splitlines())
    assert all(line.isprintable() for line in out.split("\n"))


def test_long_values_are_cut() -> None:
    out = text.plan_text(plan_with("x" * 100_000))
    assert len(out) < 40_000
    assert len(markdown.plan_markdown(plan_with("|" * 100_000))) < 60_000  # GitHub's limit is 65,536


def test_a_json_value_stays_one_value() -> None:
    value: Any = {"a": [1, None, "b|c"]}
    assert words.value(value) == '{"a": [1, null, "b|c"]}'
    assert words.value(None) == "none"
    assert words.value("") == '""'
    assert words.value(" x") == '" x"'
    assert words.value("sha256:" + "0" * 64) == "sha256:000000000000"


def test_the_summary_counts_repairs_apart_from_releases() -> None:
    lost = Change("image/mean@1", Operation.PUSH, Effect.CREATE, "Missing")
    plan = replace(NOTHING, changes=(lost,))
    assert (
        words.summary(plan) == "0 to train, 0 to release, 0 channels to move, 1 to repair; 0 updates, 0 deletions"
    )
