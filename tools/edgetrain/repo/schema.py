"""Checks a document against its kind's JSON Schema and says in plain words what is wrong, and where."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from edgetrain.core.codes import schema as codes
from edgetrain.core.codes.yaml import TOO_MANY_PROBLEMS
from edgetrain.core.document import Document, Pointer
from edgetrain.core.errors import UsageError
from edgetrain.core.kinds import KINDS
from edgetrain.core.problem import Code, Mark, Problem, did_you_mean, problem, shown
from edgetrain.repo.accept import Check, Unfit, acceptor

MAX_PROBLEMS = 100

_SCHEMAS = Path(__file__).parents[1] / "schemas"
_LOWER = {kind.name: kind.lower for kind in KINDS}
_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_UNITS = {"Length": "characters", "Items": "items", "Properties": "keys"}
_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
}


def kind_of(document: Document) -> str | None:
    """The document's kind, such as `Experiment`, if it is a known one."""
    kind = document.data.get("kind")
    return kind if isinstance(kind, str) and kind in _LOWER else None


def schema_text(kind: str) -> str:
    """The published JSON Schema of a kind, in any case. Raises UsageError for an unknown one."""
    known = sorted(_LOWER.values())
    given, kind = kind, kind.lower()
    if kind not in known:
        message = f'no kind "{shown(given)}"{did_you_mean(kind, known)}'
        raise UsageError(message, reason="UnknownKind", fix=f"use one of {', '.join(known)}")
    return (_SCHEMAS / f"{kind}.schema.json").read_text(encoding="utf-8")


def check(document: Document, kind: str) -> list[Problem]:
    """All problems of a document that must be of `kind` (such as `Experiment`), in the order of places.

    At most 100, then one that says that there are more. Raises KeyError if `kind` itself is unknown.
    """
    lower = _LOWER[kind]
    if accepts(document.data, kind):
        return []
    if kind_of(document) not in (None, kind):
        what = f"kind {document.data['kind']} at a place of kind {kind}"
        return [problem(codes.MISPLACED_KIND, document.path, document.mark("kind"), what)]
    errors = _validator(lower).iter_errors(document.data)
    # The same fault can be met twice, by a pattern and by a format.
    found = dict.fromkeys(p for error in islice(errors, 1000) for p in islice(_problems(document, error), 1000))
    ordered = sorted(found)
    if len(ordered) > MAX_PROBLEMS:
        after = Mark(ordered[MAX_PROBLEMS].line, ordered[MAX_PROBLEMS].column)
        del ordered[MAX_PROBLEMS:]
        ordered.append(problem(TOO_MANY_PROBLEMS, document.path, after, "more problems follow"))
    return ordered


def accepts(data: Mapping[str, Any], kind: str) -> bool:
    """Whether the data is beyond doubt a sound manifest of the kind; if not, `check` knows."""
    accept = _acceptor(_LOWER[kind])
    return accept is not None and accept(data)


@cache
def _acceptor(lower: str) -> Check | None:
    try:
        return acceptor(json.loads(schema_text(lower)))
    except Unfit:
        return None


@cache
def _validator(lower: str) -> Any:
    from edgetrain.repo.dialect import validator

    return validator(json.loads(schema_text(lower)))


def _problems(document: Document, error: Any) -> Iterator[Problem]:
    """The problems that one of the library's errors stands for."""
    pointer: Pointer = tuple(error.absolute_path)
    keyword = str(error.validator)
    rule, value, schema = error.validator_value, error.instance, error.schema

    def at_key(code: Code, key: str, what: str, fix: str | None = None) -> Problem:
        mark = document.key_mark(*pointer, key)
        return problem(code, document.path, mark, f"{_name(*pointer, key)}: {what}", fix)

    def here(code: Code, what: str, fix: str | None = None, mark: Mark | None = None) -> Problem:
        place = _name(*pointer)
        said = f"{place}: {what}" if place else what
        return problem(code, document.path, mark or document.mark(*pointer), said, fix)

    def missing(what: str) -> Problem:
        return here(codes.MISSING_KEY, what, mark=document.key_mark(*pointer))

    if keyword == "not":
        yield here(codes.UNFIT_KEY, _unfit(document, pointer), mark=document.key_mark(*pointer))
    elif "propertyNames" in error.schema_path:
        yield at_key(codes.BAD_KEY_NAME, value, f"the name is not {_form(schema)}", schema["description"])
    elif keyword == "additionalProperties":
        known = schema["properties"]
        for key in value:
            if key not in known:
                yield at_key(codes.UNKNOWN_KEY, key, f"unknown key{did_you_mean(key, known)}")
    elif keyword == "required":
        for key in rule:
            if key not in value:
                yield missing(f'the key "{key}" is missing')
    elif keyword == "anyOf":
        keys = [f'"{key}"' for branch in rule for key in branch["required"]]
        yield missing(f"needs {' or '.join([', '.join(keys[:-1]), keys[-1]])}")
    elif keyword == "dependentRequired":
        for key, needed in rule.items():
            if key in value:
                for other in needed:
                    if other not in value:
                        yield at_key(codes.MISSING_KEY, key, f'needs "{other}" beside it')
    else:
        yield from _value_problems(pointer, keyword, rule, value, schema, here)


def _value_problems(
    pointer: Pointer, keyword: str, rule: Any, value: Any, schema: Any, here: Callable[..., Problem]
) -> Iterator[Problem]:
    """The problems of a single value."""
    if keyword in ("enum", "const"):
        yield _not_allowed(pointer, [rule] if keyword == "const" else rule, value, here)
    elif keyword == "type":
        wanted = [_TYPES[type_] for type_ in ([rule] if isinstance(rule, str) else rule)]
        what = f"{_value(value)} stands where {' or '.join(wanted)} is needed"
        scalar = isinstance(value, bool | int | float)
        # The value as it was written is gone: 3.10 is 3.1 by now.
        fix = "Put the value in quotes." if scalar and "text" in wanted else None
        yield here(codes.WRONG_TYPE, what, fix)
    elif keyword in ("pattern", "format"):
        if value != "":
            yield here(codes.MALFORMED, f"{_value(value)} is not {_form(schema)}", schema["description"])
        elif not schema.get("minLength"):
            yield here(codes.MALFORMED, f"empty text is not {_form(schema)}", schema["description"])
    elif keyword in _BOUNDS:
        yield here(codes.OUT_OF_RANGE, f"{_value(value)} must be {_BOUNDS[keyword]} {rule}")
    elif keyword == "uniqueItems":
        yield here(codes.REPEATED, f"{_value(value)} is in the list already")
    elif keyword == "x-order":
        yield here(codes.BAD_ORDER, f'{_value(value)} is above "{rule[1]}"')
    else:
        side, unit = ("at least", keyword[3:]) if keyword.startswith("min") else ("at most", keyword[3:])
        what = f"has {len(value)} {_UNITS[unit]}; {side} {rule} are needed"
        yield here(codes.WRONG_SIZE, what.replace("are needed", "are allowed") if side == "at most" else what)


def _not_allowed(pointer: Pointer, allowed: list[Any], value: Any, here: Callable[..., Problem]) -> Problem:
    if pointer == ("kind",):
        return here(codes.UNKNOWN_KIND, f"{_value(value)} is no kind{did_you_mean(str(value)[:80], _LOWER)}")
    hint = did_you_mean(value, map(str, allowed)) if isinstance(value, str) else ""
    if pointer == ("apiVersion",):
        return here(codes.UNKNOWN_VERSION, f"{_value(value)} is no version that is known here{hint}")
    return here(codes.NOT_ALLOWED, f"{_value(value)} is not {' or '.join(json.dumps(a) for a in allowed)}{hint}")


def _unfit(document: Document, pointer: Pointer) -> str:
    """Why a known key is out of place, told by the type chosen beside it if there is one."""
    parent: Any = document.data
    for step in pointer[:-1]:
        parent = parent[step]
    type_ = parent.get("type")
    return f"does not fit the type {shown(type_)}" if type_ else "does not fit the other settings beside it"


def _form(schema: Any) -> str:
    """`a duration such as 90s, 4h or 1h30m`."""
    title, examples = schema["title"], schema.get("examples", [])
    article = "an" if title[0].lower() in "aeio" else "a"
    such = f" such as {' or '.join(filter(None, [', '.join(examples[:-1]), examples[-1]]))}" if examples else ""
    return f"{article} {title}{such}"


def _value(value: Any) -> str:
    """A value in a message: short, and never a whole tree."""
    if isinstance(value, str):
        return f'"{shown(value)}"'
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return json.dumps(value)


def _name(*pointer: str | int) -> str:
    """`spec.gates[0].min`"""
    text = ""
    for step in pointer:
        text += f"[{step}]" if isinstance(step, int) else f".{shown(step, 40)}"
    return text.removeprefix(".")
