"""`explain` and `schema`: what is known, found by name, by words, or suggested."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from edgetrain.cli.app import app
from edgetrain.cli.table import VERBS
from edgetrain.core.codes import CODES
from edgetrain.core.kinds import KINDS
from edgetrain.render.outputs import written
from edgetrain.repo.output import output_text, outputs
from tests.cli.test_app import leaves
from tests.outputs import sound

FILE = Path(str(resources.files("edgetrain"))) / "schemas" / "outputs.schema.json"


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
    assert [code["id"] for code in sound("explain", out)] == list(CODES)


def test_words_of_a_title_find_it() -> None:
    assert call("explain", "given", "twice", "key")[1].startswith("Y107 key given twice")
    assert "M201  unknown apiVersion" in call("explain", "unknown")[1].splitlines()


def test_an_unknown_code_suggests() -> None:
    status, out, err = call("explain", "M24")
    assert (status, out) == (2, "")
    assert 'no problem code "M24"; did you mean "M2' in err
    assert "reason: UnknownCode" in err


def test_what_is_unknown_is_told_as_it_was_typed() -> None:
    assert 'no problem code "X999 Nope"' in call("explain", "X999", "Nope")[2]
    assert 'no kind "Modle"; did you mean "model"?' in call("schema", "Modle")[2]


def test_a_tolerance_is_a_number() -> None:
    for wrong in ("nan", "inf", "-1"):
        status, out, err = call("reproduce", "mean@1", "--tolerance", wrong)
        assert (status, out) == (2, "")
        assert "Invalid value for '--tolerance'" in err


def test_the_kinds_and_their_schemas() -> None:
    _, out, _ = call("schema")
    assert out.split() == [*sorted(kind.lower for kind in KINDS), *outputs()]
    _, listed, _ = call("schema", "--format", "json")
    assert sound("schema", listed) == out.split()
    for name in out.split():
        status, text, _ = call("schema", name)
        assert status == 0
        assert json.loads(text)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_verb_has_a_schema_of_what_it_prints() -> None:
    root = click.Context(app)
    verbs = [(name, app.get_command(root, name)) for name in VERBS]
    paths = [
        "-".join([name, leaf.name or ""] if isinstance(command, click.Group) else [name])
        for name, command in verbs
        if command is not None
        for leaf in leaves(command)
    ]
    assert sorted(outputs()) == sorted(f"{path}-output" for path in paths)


def test_a_schema_of_an_output_allows_no_other_keys_and_is_whole() -> None:
    assert FILE.read_text(encoding="utf-8") == written(), "outputs.schema.json is behind the code: run make docs"
    for name in outputs():
        schema = json.loads(output_text(name))
        Draft202012Validator.check_schema(schema)
        assert Draft202012Validator(schema).is_valid({"error": {"reason": "Usage", "message": "no", "fix": ""}})
        assert not Draft202012Validator(schema).is_valid({"error": {"reason": "Usage", "message": "no"}})
        assert not Draft202012Validator(schema).is_valid({})


def test_an_unknown_kind_suggests() -> None:
    status, out, err = call("schema", "experimnt")
    assert (status, out) == (2, "")
    assert 'did you mean "experiment"?' in err
    status, out, err = call("schema", "verfy-output")
    assert (status, out) == (2, "")
    assert 'did you mean "verify-output"?' in err
