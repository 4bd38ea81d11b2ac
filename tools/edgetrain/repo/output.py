"""The published JSON Schemas of what verbs print with `--format json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from edgetrain.core.errors import UsageError
from edgetrain.core.problem import did_you_mean, shown

OUTPUT = "-output"
_SCHEMAS = Path(__file__).parents[1] / "schemas"
_LOCAL = "#/$defs/"


def outputs() -> list[str]:
    """Their names, such as `verify-output` and `new-model-output`, in the order of verbs."""
    return [name for name in _all()["$defs"] if name.endswith(OUTPUT)]


def output_text(name: str) -> str:
    """One output's schema with all that it refers to. Raises UsageError for an unknown one."""
    if name not in outputs():
        message = f'no output "{shown(name)}"{did_you_mean(name, outputs())}'
        raise UsageError(message, reason="UnknownKind", fix="edgetrain schema lists the schemas")
    every = _all()
    verb = name.removesuffix(OUTPUT)
    head = {
        "$schema": every["$schema"],
        "$id": f"urn:edgetrain:schema:v1:{name}",
        "title": name,
        "description": f"What `edgetrain {_called(verb)} --format json` prints.",
    }
    needed: dict[str, Any] = {}
    _gather(every["$defs"], every["$defs"][name], needed)
    return json.dumps({**head, **every["$defs"][name], "$defs": needed}, indent=2) + "\n"


def _called(verb: str) -> str:
    group, dash, rest = verb.partition("-")
    return f"{group} {rest}" if dash else group


def _gather(every: dict[str, Any], shape: Any, into: dict[str, Any]) -> None:
    """Add what the shape refers to, and what that refers to."""
    for reference in _references(shape):
        name = reference.removeprefix(_LOCAL)
        if name in into:
            continue
        if reference.startswith(_LOCAL):
            into[name] = every[name]
            _gather(every, every[name], into)
        else:  # another published schema; here too it keeps its own `$id` and definitions
            file = f"{reference.rpartition(':')[2]}.schema.json"
            into[name] = json.loads((_SCHEMAS / file).read_text(encoding="utf-8"))


def _references(shape: Any) -> Iterator[str]:
    if isinstance(shape, dict):
        if isinstance(shape.get("$ref"), str):
            yield shape["$ref"]
        for value in shape.values():
            yield from _references(value)
    elif isinstance(shape, list):
        for value in shape:
            yield from _references(value)


@cache
def _all() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_SCHEMAS / "outputs.schema.json").read_text(encoding="utf-8"))
    return found
