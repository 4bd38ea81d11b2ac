"""Holds requests and answers to the descriptions in `spec/` (see its README)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

FOLDER = Path(__file__).parent / "spec"
WORKSPACE = (
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices/workspaces/[^/]+"
)
_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_SIMPLE: dict[str, Any] = {
    "any": {},
    "object": {"type": "object"},
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "date-time": {"type": "string", "pattern": _TIME},
    "uuid": {"type": "string", "pattern": _UUID},
}
# A value of a query is text.
_TEXTS: dict[str, str] = {"integer": r"-?[0-9]+", "boolean": r"(?i:true|false)", "string": r"(?s).*"}


class Description:
    """One service's published description."""

    def __init__(self, name: str) -> None:
        self._said: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        self._beyond: Mapping[str, Mapping[str, Any]] = self._said["beyond"]
        types = self._said["types"].items()
        self._definitions = {title: self._type(title, fields) for title, fields in types}

    def _type(self, title: str, described: Mapping[str, Any]) -> dict[str, Any]:
        required = described.get("required", [])
        fields = {**described["fields"], **self._beyond.get(title, {})}
        schemas = {}
        for key, kind in fields.items():
            schema = self._schema(kind)
            schemas[key] = schema if key in required else {"anyOf": [schema, {"type": "null"}]}
        return {
            "type": "object",
            "properties": schemas,
            "required": required,
            "additionalProperties": False,
        }

    def _schema(self, kind: Any) -> dict[str, Any]:
        if isinstance(kind, list):
            return {"enum": kind}
        if kind.startswith("["):
            return {"type": "array", "items": self._schema(kind[1:-1])}
        if kind.startswith("{"):
            values = {"anyOf": [self._schema(kind[1:-1]), {"type": "null"}]}
            return {"type": "object", "additionalProperties": values}
        return _SIMPLE.get(kind) or {"$ref": f"#/definitions/{kind}"}

    def operation(self, method: str, path: str) -> Mapping[str, Any] | None:
        """The operation of a request, None if it is none of this service's."""
        for one in self._said["operations"]:
            if one["method"] == method and re.fullmatch(_pattern(one["path"]), path, re.IGNORECASE):
                found: Mapping[str, Any] = one
                return found
        return None

    def check(self, requests: Iterable[Mapping[str, Any]]) -> set[str]:
        """Hold the emulator's log of requests to the description; the operations that were seen to succeed.

        Raises AssertionError or jsonschema.ValidationError.
        """
        seen = set()
        for entry in requests:
            one = self.operation(entry["method"], entry["path"])
            if one is None:
                continue
            beyond = self._beyond.get(one["id"], {})
            self._query(one, beyond, entry["query"])
            status, answers = str(entry["status"]), {**one["answers"], **beyond}
            if status in answers:
                # What was refused may well have been a bad request.
                if one.get("body"):
                    self._validate(one["body"], entry["body"])
                self._answer(one["id"], answers[status], entry["answer"])
                seen.add(one["id"])
            else:
                assert entry["status"] >= 400, f"{one['id']} answers {status}"
                self._answer(one["id"], self._said["error"], entry["answer"])
        return seen

    def _query(self, one: Mapping[str, Any], beyond: Mapping[str, Any], query: Mapping[str, str]) -> None:
        allowed = {**one.get("query", {}), **beyond}
        for key, value in query.items():
            assert key in allowed, f"{one['id']} has no parameter {key}"
            kind = allowed[key]
            if isinstance(kind, list):
                assert value in kind, f"{one['id']}: {key}={value}"
            else:
                assert re.fullmatch(_TEXTS[kind], value), f"{one['id']}: {key}={value}"

    def _answer(self, operation: str, kind: str | None, answer: Any) -> None:
        if kind is None:
            assert answer is None, f"{operation} answers with a body"
        else:
            self._validate(kind, answer)

    def _validate(self, kind: str, value: Any) -> None:
        schema = {**self._schema(kind), "definitions": self._definitions}
        jsonschema.Draft7Validator(schema).validate(value)

    @property
    def operations(self) -> set[str]:
        """All operations."""
        return {one["id"] for one in self._said["operations"]}


def _pattern(path: str) -> str:
    pattern = re.escape(path).replace(re.escape("{WS}"), WORKSPACE)
    pattern = re.sub(r"\\\{[A-Za-z]+\\\*\\\}", "(?!_).+", pattern)
    return re.sub(r"\\\{[A-Za-z]+\\\}", "[^/]+", pattern)


@cache
def description(name: str) -> Description:
    """The description of a service by its file's name."""
    return Description(name)
