"""Command templates: what a real shell gets is the value, whatever it holds."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetrain.core.checks.contract import quoted_expressions
from edgetrain.core.template import literal, references, render
from tests.walk import examples

text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
hostile = text | st.sampled_from(
    [
        "$(id)",
        "`id`",
        "'; id #",
        '"',
        "\\",
        "{{inputs.table}}",
        "{{outputs}}",
        "${{inputs.a}}",
        "-n",
        "\n",
        "*",
        "~",
    ]
)
values = hostile | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


def shell(command: str) -> list[str]:
    """The arguments that the command `show` would get."""
    script = 'show() { for a in "$@"; do printf "%s\\0" "$a"; done; }; ' + command
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=30, check=True)
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(values, min_size=1, max_size=4))
def test_values_reach_the_script_as_they_are(given_values: list[Any]) -> None:
    parameters = {f"p{index}": value for index, value in enumerate(given_values)}
    command = render("show " + " ".join(f"${{{{inputs.{name}}}}}" for name in parameters), parameters, {}, {})
    assert shell(command) == [literal(value) for value in given_values]


@given(hostile, hostile)
def test_no_value_becomes_a_marker(value: str, path: str) -> None:
    command = render("x ${{inputs.a}} ${{outputs.m}} ${{inputs.table}}", {"a": value}, {"table": 1}, {"m": path})
    assert command.count("{{inputs.") == 1
    assert command.count("{{outputs}}") == 1


@settings(max_examples=examples(30), deadline=None)
@given(hostile.filter(bool))
def test_output_paths_are_quoted_below_the_marker(path: str) -> None:
    command = render("show ${{ outputs.m }}", {}, {}, {"m": path})
    assert shell(command.replace("{{outputs}}", "/out", 1)) == ["/out/" + path]


def test_only_the_two_forms_are_expressions() -> None:
    found = list(references("${{inputs.a}} ${{ outputs.b }} ${{ env.c }} ${{inputs.a.b}} $HOME ${d}"))
    assert [(reference.side, reference.name) for reference in found] == [
        ("inputs", "a"),
        ("outputs", "b"),
        ("", None),
        ("", None),
    ]
    with pytest.raises(ValueError, match="unknown expression"):
        render("${{ env.c }}", {}, {}, {})


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("a ${{inputs.x}} 'b' \"c\"", []),
        ("a '${{inputs.x}}'", ["${{inputs.x}}"]),
        ('a "b ${{inputs.x}} c"', ["${{inputs.x}}"]),
        ("a \\' ${{inputs.x}}", []),
        ("a '\\' ${{inputs.x}}", []),
        ('a "\\"" ${{inputs.x}}', []),
        ('a "\\${{inputs.x}}"', ["${{inputs.x}}"]),
        ("# don't\na ${{inputs.x}}", []),
        ("a#'b ${{inputs.x}}'", ["${{inputs.x}}"]),
        ("a 'b'${{inputs.x}}'c'", []),
    ],
)
def test_expressions_inside_quotation_marks(command: str, found: list[str]) -> None:
    assert quoted_expressions(command) == found
