"""The command template of an experiment: `${{inputs.x}}` and `${{outputs.x}}`, nothing else."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_REFERENCE = re.compile(r"\s*(inputs|outputs)\.([A-Za-z][A-Za-z0-9_-]*)\s*")


@dataclass(frozen=True)
class Reference:
    """One expression in a command; `name` is None if it is not of the form that we know."""

    text: str
    side: str
    name: str | None


@lru_cache(256)
def references(command: str) -> tuple[Reference, ...]:
    """All expressions of the command, in order."""
    return tuple(_references(command))


def _references(command: str) -> Iterator[Reference]:
    for found in _EXPRESSION.finditer(command):
        known = _REFERENCE.fullmatch(found[1])
        yield Reference(found[0], known[1] if known else "", known[2] if known else None)


def literal(value: Any) -> str:
    """A parameter as the shell and the script see it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def render(command: str, parameters: Mapping[str, Any], data: Container[str], outputs: Mapping[str, str]) -> str:
    """The command with parameters quoted in, and paths left as the markers `{{inputs.NAME}}`/`{{outputs}}`.

    Only the target knows where its folders are, so it replaces the markers (see `ports.RunSpec.command`).
    """

    def replace(found: re.Match[str]) -> str:
        known = _REFERENCE.fullmatch(found[1])
        if known is None:
            raise ValueError(f"unknown expression {found[0]}")
        side, name = known[1], known[2]
        if side == "outputs":
            return "{{outputs}}/" + _quoted(outputs[name])
        if name in data:
            return "{{inputs." + name + "}}"
        return _quoted(literal(parameters[name]))

    return _EXPRESSION.sub(replace, command)


def _quoted(text: str) -> str:
    """Quoted for the shell, with braces split by empty quotations so that no value is taken for a marker."""
    return shlex.quote(text).replace("{", "{''")
