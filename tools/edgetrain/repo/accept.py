"""A JSON Schema as one quick function that says yes or no; what is wrong, and where, is `dialect`'s to say.

Each schema becomes closures over plain data. They never say yes where the dialect's validator finds an error (a
test holds the two together); a keyword that is not known here makes the whole schema unfit for this, as `Unfit`
says. Loops, not `all(...)`: a generator costs more than the checks in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any

Check = Callable[[Any], bool]

# They describe, and forbid nothing.
_WORDS = frozenset({"$schema", "$id", "$defs", "title", "description", "examples", "default"})


class Unfit(Exception):
    """The schema says something that only the dialect's validator knows."""


def acceptor(schema: Mapping[str, Any]) -> Check:
    """Whether data (as the YAML reader gives it) passes the schema. Raises Unfit."""
    return _Compiler(schema.get("$defs", {})).check(schema)


class _Compiler:
    """Compiles one schema; a definition that is used often is compiled once."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self.definitions = definitions
        self.known: dict[str, Check] = {}

    def check(self, schema: Any) -> Check:
        if schema is True or schema == {}:
            return _yes
        if schema is False:
            return _no
        if not isinstance(schema, dict):
            raise Unfit
        checks: list[Check] = []
        keys = schema.keys() - _WORDS
        if "$ref" in keys:
            # Keywords beside a reference are replaced by those of its definition, as the dialect has it.
            keys -= {"$ref"} | (self.definition(schema["$ref"]).keys() - _WORDS)
            checks.append(self.reference(schema["$ref"]))
        if keys & {"properties", "required", "additionalProperties"}:
            checks.append(self.object(schema, keys))
            keys -= {"properties", "required", "additionalProperties"}
        if "if" in keys:
            checks.append(self.condition(schema))
            keys -= {"if", "then", "else"}
        # Types first: what comes after them may then be wrong for other types, as long as it says no.
        for key in sorted(keys, key=lambda key: key != "type"):
            checks.append(self.keyword(key, schema[key]))
        return _all(checks)

    def definition(self, reference: str) -> Mapping[str, Any]:
        name = reference.removeprefix("#/$defs/")
        if name == reference or not isinstance(self.definitions.get(name), dict):
            raise Unfit
        found: Mapping[str, Any] = self.definitions[name]
        return found

    def reference(self, reference: str) -> Check:
        if reference not in self.known:
            self.known[reference] = self.check(self.definition(reference))
        return self.known[reference]

    def keyword(self, key: str, rule: Any) -> Check:
        simple = _KEYWORDS.get(key)
        if simple is not None:
            return simple(rule)
        if key == "items":
            return _each(self.check(rule))
        if key == "propertyNames":
            return _names(self.check(rule))
        if key == "allOf":
            return _all([self.check(each) for each in rule])
        if key == "anyOf":
            checks = [self.check(each) for each in rule]
            return lambda value: any(check(value) for check in checks)
        raise Unfit

    def object(self, schema: Mapping[str, Any], keys: set[str]) -> Check:
        known = schema.get("properties", {}) if "properties" in keys else {}
        checks = {key: self.check(rule) for key, rule in known.items()}
        required = tuple(schema["required"]) if "required" in keys else ()
        other = self.check(schema["additionalProperties"]) if "additionalProperties" in keys else _yes

        def check(value: Any) -> bool:
            if type(value) is not dict:
                return type(value) in _OTHER_TYPES
            for key in required:
                if key not in value:
                    return False
            for key, item in value.items():  # noqa: SIM110
                if not checks.get(key, other)(item):
                    return False
            return True

        return check

    def condition(self, schema: Mapping[str, Any]) -> Check:
        when = self.check(schema["if"])
        then = self.check(schema.get("then", True))
        otherwise = self.check(schema.get("else", True))
        return lambda value: then(value) if when(value) else otherwise(value)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_OTHER_TYPES = frozenset({list, str, int, float, bool, type(None)})


def _yes(_: Any) -> bool:
    return True


def _no(_: Any) -> bool:
    return False


def _all(checks: Sequence[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        first, second = checks
        return lambda value: first(value) and second(value)

    def check(value: Any) -> bool:
        for each in checks:  # noqa: SIM110
            if not each(value):
                return False
        return True

    return check if checks else _yes


def _type(rule: Any) -> Check:
    names = [rule] if isinstance(rule, str) else rule
    types = frozenset(type_ for name in names for type_ in _TYPES[name])
    return lambda value: type(value) in types


def _enum(rule: Any) -> Check:
    # Equal only if of one type: in JSON 1 is not true, and a number is not compared here at all.
    if not all(type(each) in (str, bool, type(None)) for each in rule):
        raise Unfit
    allowed = frozenset((type(each), each) for each in rule)
    return lambda value: type(value) in (str, bool, type(None)) and (type(value), value) in allowed


def _pattern(rule: str) -> Check:
    # In ECMA's expressions `$` is the very end; in Python's also before a last line end.
    search = re.compile(rule.replace("$", r"\Z")).search
    return lambda value: type(value) is not str or search(value) is not None


def _each(check_item: Check) -> Check:
    def check(value: Any) -> bool:
        if type(value) is list:
            for item in value:
                if not check_item(item):
                    return False
        return True

    return check


def _names(check_name: Check) -> Check:
    return lambda value: type(value) is not dict or all(map(check_name, value))


def _needed(rule: Mapping[str, Sequence[str]]) -> Check:
    pairs = [(key, other) for key, others in rule.items() for other in others]

    def check(value: Any) -> bool:
        return type(value) is not dict or all(key not in value or other in value for key, other in pairs)

    return check


def _unique(rule: bool) -> Check:
    def check(value: Any) -> bool:
        if type(value) is not list or len(value) < 2:
            return True
        return len({json.dumps(item, sort_keys=True) for item in value}) == len(value)

    return check if rule else _yes


def _format(rule: str) -> Check:
    if rule == "date":
        return _date
    if rule == "cidr":
        return _cidr
    raise Unfit


def _date(value: Any) -> bool:
    if type(value) is str:
        try:
            date.fromisoformat(value)
        except ValueError:
            return False
    return True


@cache
def _is_network(text: str) -> bool:
    from ipaddress import ip_network  # here: nearly no manifest needs it

    try:
        return "/" in text and bool(ip_network(text))
    except ValueError:
        return False


def _cidr(value: Any) -> bool:
    return type(value) is not str or _is_network(value)


def _ordered(keys: Sequence[str]) -> Check:
    low, high = keys

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return True
        first: Any = value.get(low)
        second: Any = value.get(high)
        numbers = type(first) in (int, float) and type(second) in (int, float)
        return not numbers or not first > second

    return check


def _length(type_: type[str] | type[list[Any]] | type[dict[str, Any]], least: bool) -> Callable[[int], Check]:
    if least:
        return lambda rule: lambda value: not isinstance(value, type_) or len(value) >= rule
    return lambda rule: lambda value: not isinstance(value, type_) or len(value) <= rule


def _bound(within: Callable[[Any, Any], bool]) -> Callable[[Any], Check]:
    return lambda rule: lambda value: type(value) not in (int, float) or within(value, rule)


_KEYWORDS: Mapping[str, Callable[[Any], Check]] = {
    "type": _type,
    "enum": _enum,
    "const": lambda rule: _enum([rule]),
    "pattern": _pattern,
    "format": _format,
    "uniqueItems": _unique,
    "dependentRequired": _needed,
    "x-order": _ordered,
    "minLength": _length(str, True),
    "maxLength": _length(str, False),
    "minItems": _length(list, True),
    "maxItems": _length(list, False),
    "minProperties": _length(dict, True),
    "maxProperties": _length(dict, False),
    "minimum": _bound(lambda value, rule: bool(value >= rule)),
    "maximum": _bound(lambda value, rule: bool(value <= rule)),
    "exclusiveMinimum": _bound(lambda value, rule: bool(value > rule)),
    "exclusiveMaximum": _bound(lambda value, rule: bool(value < rule)),
}
