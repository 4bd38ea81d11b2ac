"""Holds what verbs print as JSON to the schemas that `edgetrain schema VERB-output` gives out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from edgetrain.cli.table import VERBS
from edgetrain.repo.output import output_text

GROUPS = ("new", "emulator", "github")


@cache
def _validator(name: str) -> Any:
    schema = json.loads(output_text(name))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def sound(verb: str, text: str) -> Any:
    """The JSON that the verb printed (`new-model` for a verb of a group), which must be as its schema says."""
    document = json.loads(text)
    fault = best_match(_validator(f"{verb}-output").iter_errors(document))
    assert fault is None, f"{verb}: {fault.json_path}: {fault.message[:500]}"
    return document


def told(arguments: Sequence[str], text: str) -> None:
    """The same for a whole call of the command line, if it asked for JSON."""
    asked = [str(argument) for argument in arguments]
    if "json" not in asked[1:] or asked[asked.index("json") - 1] != "--format":
        return
    at = next((number for number, argument in enumerate(asked) if argument in VERBS), None)
    if at is None or not text:
        return
    parts = asked[at : at + 2] if asked[at] in GROUPS else asked[at : at + 1]
    sound("-".join(parts), text)
