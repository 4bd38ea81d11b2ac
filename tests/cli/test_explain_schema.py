"""`explain` and `schema`: what is known, found by name, by words, or suggested."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgetrain.cli.app import app
from edgetrain.core.codes import CODES
from edgetrain.core.kinds import KINDS


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_is_explained(code: str) -> None:
    status, out, _ = call("explain", code.lower())
    assert status == 0
    assert out.startswith(f"{code} {CODES[code].title}")
    assert CODES[code].why in out
    assert CODES[code].fix in out


def test_all_codes_are_listed() -> None:
    _, out, _ = call("explain")
    assert [line.split()[0] for line in out.splitlines()] == list(CODES)
    _, out, _ = call("explain", "--format", "json")
    assert [code["id"] for code in json.loads(out)] == list(CODES)


def test_words_of_a_title_find_it() -> None:
    assert call("explain", "given", "twice", "key")[1].startswith("Y107 key given twice")
    assert "M201  unknown apiVersion" in call("explain", "unknown")[1].splitlines()


def test_an_unknown_code_suggests() -> None:
    status, out, err = call("explain", "M24")
    assert (status, out) == (2, "")
    assert 'no problem code "m24"; did you mean "M2' in err
    assert "reason: UnknownCode" in err


def test_the_kinds_and_their_schemas() -> None:
    _, out, _ = call("schema")
    assert out.split() == sorted(kind.lower for kind in KINDS)
    for name in out.split():
        status, text, _ = call("schema", name)
        assert status == 0
        assert json.loads(text)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_an_unknown_kind_suggests() -> None:
    status, out, err = call("schema", "experimnt")
    assert (status, out) == (2, "")
    assert 'did you mean "experiment"?' in err
