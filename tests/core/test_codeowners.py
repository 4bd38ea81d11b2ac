"""CODEOWNERS as GitHub reads it: the examples of its documentation, and the corners of its patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.codeowners import by_owners, owners_of, parse


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("*", ["a", "a/b", ".github/x"], []),
        ("*.js", ["a.js", "lib/a.js"], ["a.jsx", "a.js.map"]),
        ("/build/logs/", ["build/logs/a", "build/logs/a/b"], ["build/logs", "x/build/logs/a"]),
        ("docs/*", ["docs/a.md"], ["docs/build/a.md", "x/docs/a.md", "docs"]),
        ("apps/", ["apps/a", "x/apps/a/b"], ["apps"]),
        ("/docs/", ["docs/a", "docs/a/b"], ["x/docs/a"]),
        ("**/logs", ["logs", "logs/a", "build/logs/a", "a/b/logs"], ["logsx"]),
        ("/scripts/**", ["scripts/a", "scripts/a/b"], ["scripts", "x/scripts/a"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z/more"], ["az", "b/a/z"]),
        ("/edgetrain.yaml", ["edgetrain.yaml"], ["x/edgetrain.yaml", "edgetrainXyaml"]),
        ("edgetrain.yaml", ["edgetrain.yaml", "x/edgetrain.yaml"], []),
        ("experiments/*/experiment.yaml", ["experiments/a/experiment.yaml"], ["experiments/a/b/experiment.yaml"]),
        ("models/??", ["models/ab", "models/ab/c"], ["models/abc", "models/a"]),
        ("a\\ b", ["a b", "x/a b"], ["a\\ b"]),
        ("\\#x", ["#x"], ["x"]),
    ],
)
def test_patterns(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    rules = parse(f"{pattern} @o\n")
    assert [path for path in fits if owners_of(rules, path) != ("@o",)] == []
    assert [path for path in fits_not if owners_of(rules, path)] == []


def test_the_last_rule_that_fits_decides_and_may_name_nobody() -> None:
    rules = parse("* @all\n/docs/ @writers @grace # comment\n\n# /docs/ @nobody\n/docs/free\n")
    assert owners_of(rules, "x") == ("@all",)
    assert owners_of(rules, "docs/a") == ("@writers", "@grace")
    assert owners_of(rules, "docs/free") == ()
    assert by_owners(rules, ["docs/a", "x", "docs/b"]) == {
        ("@writers", "@grace"): ["docs/a", "docs/b"],
        ("@all",): ["x"],
    }


def test_lines_that_github_does_not_take_are_left_out() -> None:
    assert parse("!x @o\n[ab] @o\n" + "x" * 501 + " @o\n") == ()


@given(st.text(alphabet="*?/\\#! ab.@[]()+|^$\n", max_size=60), st.text(alphabet="/ab.*?", max_size=20))
def test_no_text_breaks_the_reader(text: str, path: str) -> None:
    owners_of(parse(text), path)
