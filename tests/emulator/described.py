"""Holds logged requests and answers against a compact public description in `spec/`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).parent / "spec"
WORKSPACE = (
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices/workspaces/[^/]+"
)
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
# A value of a query is text.
_TEXTS = {"integer": r"-?[0-9]+", "boolean": r"(?i:true|false)", "string": r"(?s).*"}


@dataclass(frozen=True)
class Operation:
    """One described operation."""

    name: str
    method: str
    pattern: re.Pattern[str]
    query: tuple[str, ...]
    parameters: Mapping[str, Any] | None
    body: str | None
    answers: Mapping[str, str | None]
    headers: Mapping[str, list[str]]


class Description:
    """A file's operations and schemas. Answers hold nothing that is not described; null stands for what is absent.

    An operation has `name`, `method`, `path` (`{WS}` is the workspace's, `{path}` may hold slashes), `query` (what
    must be there), `parameters` (if given: everything that may be there, with its type), `body` and `answers` (a
    schema's name; null for none). `headers` are those that an answer must have.
    """

    def __init__(self, file: str) -> None:
        said = json.loads((FOLDER / file).read_text())
        self._beyond: Mapping[str, str] = said["beyond"]
        self._asked = {"schemas": _prepared(said["schemas"], closed=False)}
        self._answered = {"schemas": _prepared(said["schemas"], closed=True)}
        self.operations = [
            Operation(
                one["name"],
                one["method"],
                _pattern(one["path"]),
                tuple(one.get("query", ())),
                one.get("parameters"),
                one.get("body"),
                one["answers"],
                one.get("headers", {}),
            )
            for one in said["operations"]
        ]

    def operation(self, method: str, path: str) -> Operation | None:
        """What the request is, None if nothing here describes it."""
        found = (one for one in self.operations if one.method == method and one.pattern.fullmatch(path))
        return next(found, None)

    def faults(self, entry: Mapping[str, Any], path: str) -> list[str]:
        """What in a line of the request log departs from the description."""
        one = self.operation(entry["method"], path)
        if one is None:
            return [f"{entry['method']} {path} is not described"]
        return [f"{one.name}: {fault}" for fault in self._faults(one, entry)]

    def _faults(self, one: Operation, entry: Mapping[str, Any]) -> Iterator[str]:
        yield from (f"{name} is missing in the query" for name in one.query if name not in entry["query"])
        if one.parameters is not None:
            for name, value in entry["query"].items():
                if not _fits(value, one.parameters.get(name)):
                    yield f"{name}={value} in the query is not described"
        status = str(entry["status"])
        if f"{one.name} {status}" in self._beyond:
            return
        if status not in one.answers:
            if entry["status"] < 400:
                yield f"the answer {status} is not described"
            yield from self._wrong("Error", entry["answer"], self._answered)
            return
        if one.body:
            yield from self._wrong(one.body, entry["body"], self._asked)
        given = entry["answerHeaders"]
        yield from (f"the answer has no {name}" for name in one.headers.get(status, []) if name not in given)
        kind = one.answers[status]
        if kind is None and entry["answer"]:
            yield "the answer has a body"
        if kind is not None:
            yield from self._wrong(kind, entry["answer"], self._answered)

    @staticmethod
    def _wrong(kind: str, value: Any, schemas: Mapping[str, Any]) -> Iterator[str]:
        schema = {"$ref": f"#/schemas/{kind}", **schemas}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(value):
            yield f"{kind}{error.json_path[1:]}: {error.message}"


def _prepared(schema: Any, *, closed: bool) -> Any:
    """The schema with null for absent fields and, if closed, without room for others."""
    if isinstance(schema, list):
        return [_prepared(item, closed=closed) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _prepared(item, closed=closed) for key, item in schema.items()}
    if schema.get("format") == "date-time":
        made["pattern"] = _TIME
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        needed = schema.get("required", [])
        made["properties"] = {
            name: item if name in needed else {"anyOf": [{"type": "null"}, item]}
            for name, item in made["properties"].items()
        }
        if closed:
            made.setdefault("additionalProperties", False)
    return made


def _fits(value: str, kind: Any) -> bool:
    """Whether a query's text is of the type: the name of one, or a list of all values; None is no type."""
    if isinstance(kind, list):
        return value in kind
    return kind is not None and re.fullmatch(_TEXTS[kind], value) is not None


def _pattern(path: str) -> re.Pattern[str]:
    found = re.escape(path).replace(re.escape("{WS}"), WORKSPACE).replace(re.escape("{path}"), ".+")
    return re.compile(re.sub(r"\\\{[A-Za-z]+\\\}", "[^/]+", found), re.IGNORECASE)
