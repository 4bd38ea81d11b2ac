"""JSON Schema 2020-12 as the manifests need it: strict whole numbers, ECMA patterns, real formats, ordered bounds.

The only place that imports jsonschema; it takes a tenth of a second, so `repo.schema` imports it on first use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from ipaddress import ip_network
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

# Bounds that must be in order: `x-order: [min, max]` in a schema.
ORDER = "x-order"

Found = Iterator[ValidationError]


def validator(schema: Mapping[str, Any]) -> Any:
    """A validator of this schema, whose references must all be to its own `$defs`, without cycles."""
    return _Validator(_inline(schema, schema.get("$defs", {})), format_checker=_FORMATS)


def _inline(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with each reference replaced by what it refers to: looking them up each time costs most."""
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inlined = {key: _inline(value, definitions) for key, value in schema.items() if key not in ("$ref", "$defs")}
    for key, value in inlined.get("properties", {}).items():
        if value is False:
            # The same, but the library tells which key it was.
            inlined["properties"][key] = {"not": {}}
    if reference := schema.get("$ref"):
        # The definition's own title is what messages call the value.
        inlined |= _inline(definitions[reference.removeprefix("#/$defs/")], definitions)
    return inlined


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Found:
    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield ValidationError("does not match")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # In ECMA's expressions `$` is the very end; in Python's also before a last line end.
    return re.compile(pattern.replace("$", r"\Z"))


def _unique_items(_: Any, wanted: bool, instance: Any, __: Any) -> Found:
    """One error for each repetition, in linear time: the library compares each with each."""
    if not wanted or not isinstance(instance, list):
        return
    seen: set[str] = set()
    for index, item in enumerate(instance):
        form = json.dumps(item, sort_keys=True)
        if form in seen:
            yield ValidationError("repeated", path=(index,), instance=item)
        seen.add(form)


def _order(_: Any, keys: Sequence[str], instance: Any, __: Any) -> Found:
    if not isinstance(instance, dict):
        return
    low, high = (instance.get(key) for key in keys)
    if low is not None and high is not None and _is_number(low) and _is_number(high) and low > high:
        yield ValidationError("not in order", path=(keys[0],), instance=low)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern, "uniqueItems": _unique_items, ORDER: _order},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)

_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("date", ValueError)
def _date(value: object) -> bool:
    return not isinstance(value, str) or bool(date.fromisoformat(value))


@_FORMATS.checks("cidr", ValueError)
def _cidr(value: object) -> bool:
    return not isinstance(value, str) or ("/" in value and bool(ip_network(value)))
