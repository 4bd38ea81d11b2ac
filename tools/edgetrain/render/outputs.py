"""Writes the JSON Schemas of what verbs print with `--format json`, from the values that they print:
`python -m edgetrain.render.outputs > tools/edgetrain/schemas/outputs.schema.json`.

One file with shared definitions; `edgetrain schema VERB-output` gives a verb's own with those that it needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgetrain.core.plan import Plan
from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import Code, Problem
from edgetrain.core.record import Outcome
from edgetrain.core.step import Step
from edgetrain.render import (
    compare,
    data_watch,
    drift,
    models,
    period,
    reproduction,
    runs,
    story,
    touched,
    trial,
    verify,
)
from edgetrain.render.outcome import STATUSES
from edgetrain.render.tables import camel

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
REPORT = "urn:edgetrain:schema:v1:report"  # a schema of its own: report.schema.json

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
TRUTH: Schema = {"type": "boolean"}
VERSION: Schema = {"const": "edgetrain/v1"}
SIMPLE: dict[Any, Schema] = {
    str: TEXT,
    int: NUMBER,
    float: {"type": "number"},
    bool: TRUTH,
    NoneType: {"type": "null"},
    Any: {},
}


def many(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def by_name(values: Schema) -> Schema:
    """A mapping with free keys."""
    return {"type": "object", "additionalProperties": values}


def closed(properties: Mapping[str, Schema], description: str = "") -> Schema:
    """A mapping with exactly these keys."""
    said = {"description": " ".join(description.split())} if description else {}
    shape = {"required": list(properties), "properties": dict(properties), "additionalProperties": False}
    return {**said, "type": "object", **shape}


class Definitions:
    """The shared definitions, filled as they are named."""

    def __init__(self) -> None:
        self.made: dict[str, Schema] = {}
        self._names: dict[type, str] = {}

    def name(self, name: str, schema: Schema) -> Schema:
        """Keep it; answers the reference."""
        self.made[name] = schema
        return {"$ref": f"#/$defs/{name}"}

    def of(self, hint: Any) -> Schema:
        """The schema of a value of this type, as `render.tables.plain` writes it."""
        if hint in SIMPLE:
            return SIMPLE[hint]
        if isinstance(hint, type) and issubclass(hint, Enum):
            return {"enum": [each.value for each in hint]}
        if isinstance(hint, type) and is_dataclass(hint):
            if hint not in self._names:
                self._names[hint] = self._free_name(hint)
                self.name(self._names[hint], {})  # before what it holds, in the file too
                self.name(self._names[hint], closed(self.fields(hint), (hint.__doc__ or "").replace("`", "")))
            return {"$ref": f"#/$defs/{self._names[hint]}"}
        origin, inner = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            return {"anyOf": [self.of(each) for each in inner]}
        if origin is tuple and inner[-1] is not Ellipsis:
            parts = [self.of(each) for each in inner]
            return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return by_name(self.of(inner[1]))
        if isinstance(origin, type) and issubclass(origin, Sequence):
            return many(self.of(inner[0]))
        raise TypeError(f"no schema for {hint}")

    def fields(self, of: type, *without: str) -> dict[str, Schema]:
        """Each field of the class, by its name in JSON."""
        hints = get_type_hints(of)
        return {camel(item.name): self.of(hints[item.name]) for item in fields(of) if item.name not in without}

    def _free_name(self, of: type) -> str:
        taken = of.__name__ in self.made
        return f"{of.__module__.rpartition('.')[2].capitalize()}{of.__name__}" if taken else of.__name__


def schema() -> Schema:
    """The whole file."""
    every = Definitions()
    failure = _failure(every)
    verbs = {f"{name}-output": {"anyOf": [*shapes, failure]} for name, shapes in _verbs(every).items()}
    return {
        "$schema": DIALECT,
        "$id": "urn:edgetrain:schema:v1:outputs",
        "title": "Outputs",
        "description": "What the verbs print with --format json, in $defs by VERB-output; "
        "a verb that could not do its work prints a Failure.",
        "$defs": {**verbs, **every.made},
    }


def _failure(every: Definitions) -> Schema:
    error = closed(
        {"reason": TEXT, "message": TEXT, "fix": TEXT}, "A stable CamelCase reason, and words for people."
    )
    return every.name("Failure", closed({"error": error}, "Why nothing was done."))


def _verbs(every: Definitions) -> dict[str, list[Schema]]:
    """What each verb can print, but for failures."""
    problem, plan = every.of(Problem), _plan(every)
    problems = every.name(
        "Problems", closed({"problems": many(problem), "counts": closed({"problems": NUMBER, "warnings": NUMBER})})
    )
    check = every.of(Check)
    parts = many(every.name("Part", closed({"kind": TEXT, "name": TEXT, "checks": many(check)})))
    counts = closed({status.value: NUMBER for status in CheckStatus})
    checked = {"counts": counts, "parts": parts}
    said = _said(every)
    audits = [
        _kind(every, "Audit", every.fields(story.Story)),
        _kind(every, "AuditReport", {**every.fields(period.Period), "totals": _totals()}),
        _kind(every, "Touched", every.fields(touched.Touched)),
    ]
    watch = _kind(every, "DataWatch", {**every.fields(data_watch.DataWatch), "good": TRUTH})
    initialised = {
        "folder": TEXT,
        "written": many(TEXT),
        "kept": many(TEXT),
        "commit": TEXT,
        "notes": many(TEXT),
        "checklist": many(every.of(Step)),
    }
    made = every.name("Written", closed({"written": many(TEXT), "next": many(TEXT)}))
    repeated = every.fields(reproduction.Reproduction, "folder")
    happening = {**every.fields(models.Happening), "details": by_name(TEXT)}
    compared = {**every.fields(compare.Comparison), "metricsStatus": {"enum": ["comparable", "not_comparable"]}}
    looked = {"site": TEXT, "good": TRUTH, **checked}
    return {
        "validate": [problems],
        "plan": [plan, problems],
        "apply": [_applied(every, plan), problems],
        "doctor": [_kind(every, "Diagnosis", looked), problems],
        "drift": [_kind(every, "Drift", _drift(every)), problems],
        "run": [every.of(trial.Trial), problems],
        "runs": [closed({"runs": many(every.of(runs.RunRow)), "notes": many(TEXT)}), problems],
        "logs": [closed({"lines": many(TEXT)}), problems],
        "cancel": [said, problems],
        "retry": [said, problems],
        "propose": [said, watch, problems],
        "gc": [every.of(runs.Collection), problems],
        "models": [closed({"models": many(every.of(models.Overview))}), problems],
        "audit": [*audits, problems],
        "log": [closed({"model": TEXT, "log": many(closed(happening)), "notes": many(TEXT)}), problems],
        "verify": [_kind(every, "Verification", {**_scope(every), **checked}), problems],
        "reproduce": [
            _kind(every, "Reproduction", {**repeated, "good": TRUTH, "where": many(every.of(reproduction.Where))}),
            problems,
        ],
        "compare": [closed(compared), problems],
        "init": [_kind(every, "Initialisation", initialised), _kind(every, "RepositoryCheck", looked), problems],
        "new-compute": [made, problems],
        "new-experiment": [made, problems],
        "new-model": [made, problems],
        "lock": [_lock(), problems],
        "emulator-up": [_emulator()],
        "emulator-log": [every.name("Request", _request())],
        "github-check": [{"$ref": REPORT}],
        "github-comment": [_comment(), problems],
        "github-due": [_due(), problems],
        "explain": [many(every.of(Code))],
        "completion": [closed({"shell": TEXT, "script": TEXT})],
        "schema": [many(TEXT), {"type": "object", "required": ["$schema"]}],
    }


def _kind(every: Definitions, name: str, properties: Mapping[str, Schema]) -> Schema:
    return every.name(name, closed({"apiVersion": VERSION, "kind": {"const": name}, **properties}))


def _plan(every: Definitions) -> Schema:
    properties = {"apiVersion": VERSION, "kind": {"const": "Plan"}, "digest": TEXT, **every.fields(Plan)}
    return every.name("Plan", closed(properties, Plan.__doc__ or ""))


def _applied(every: Definitions, plan: Schema) -> Schema:
    row = {
        "change": TEXT,
        "operation": TEXT,
        "status": {"enum": list(STATUSES)},
        "reason": TEXT,
        "message": TEXT,
        "fix": TEXT,
        "outcome": every.of(Outcome | None),
    }
    head = {"good": TRUTH, "stopped": TRUTH, "rounds": NUMBER, "commit": TEXT}
    tail = {"notes": many(TEXT), "next": many(TEXT), "plan": plan}
    return every.name("Applied", closed({**head, "results": many(closed(row)), **tail}))


def _said(every: Definitions) -> Schema:
    words = closed({"message": TEXT, "run": TEXT, "version": TEXT, "branch": TEXT})
    return every.name("Said", {**words, "required": ["message"]})


def _drift(every: Definitions) -> dict[str, Schema]:
    pair, told = every.of(tuple[tuple[str, str], ...]), many(closed({"object": TEXT, "what": TEXT}))
    found = every.fields(drift.Drift)
    return {**{name: told if shape == pair else shape for name, shape in found.items()}, "any": TRUTH}


def _scope(every: Definitions) -> dict[str, Schema]:
    return {**every.fields(verify.Verification, "parts"), "holds": TRUTH, "answered": TRUTH}


def _totals() -> Schema:
    egress = {"files": NUMBER, "bytes": NUMBER, "logs": NUMBER}
    names = ["merges", "selfApproved", "withoutApproval", "runs", "outcomes", "releases", "channelMoves"]
    names += ["withdrawals", "waivers", "advisoryRuns"]
    left = closed({**egress, "targets": by_name(closed({"runs": NUMBER, **egress}))})
    return closed({**dict.fromkeys(names, NUMBER), "outcomes": by_name(NUMBER), "egress": left})


def _lock() -> Schema:
    moves = {name: many(TEXT) for name in ("added", "removed", "changed")}
    return closed({"path": TEXT, "packages": NUMBER, **moves})


def _comment() -> Schema:
    properties: dict[str, Schema] = {"number": NUMBER, "head": TEXT, "url": TEXT}
    return {"anyOf": [closed(properties), closed({"superseded": {"const": True}}, "A newer run comments.")]}


def _due() -> Schema:
    lanes = {"train": TRUTH, "release": TRUTH}
    why = closed({lane: many(TEXT) for lane in lanes})
    return closed({"commit": TEXT, **lanes, "why": why, "notes": many(TEXT)})


def _emulator() -> Schema:
    principal = closed(dict.fromkeys(("name", "role", "clientId", "clientSecret"), TEXT))
    where = dict.fromkeys(("url", "proxy", "folder", "controlKey"), TEXT)
    environment = closed({"A": by_name(TEXT), "B": by_name(TEXT)})
    told = {"workspace": by_name(TEXT), "principals": many(principal), "github": by_name(TEXT)}
    return closed({**where, **told, "environment": environment})


def _request() -> Schema:
    """A line of the emulator's log: a request, or one that its proxy refused."""
    texts = dict.fromkeys(("id", "method", "host", "path", "route", "refused"), TEXT)
    maps = {name: by_name(TEXT) for name in ("query", "headers", "answerHeaders")}
    free: dict[str, Schema] = {"body": {}, "answer": {}, "fault": {"type": ["integer", "string"]}}
    numbers: dict[str, Schema] = {"status": NUMBER, "milliseconds": SIMPLE[float]}
    shape = closed({"time": TEXT, **texts, **maps, **free, **numbers}, "A request to the emulator; one a line.")
    return {**shape, "required": ["time"]}


def written() -> str:
    """The file: a line for each definition."""
    whole = schema()
    head = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in whole.items() if key != "$defs"]
    definitions = [f"    {json.dumps(name)}: {json.dumps(shape)}" for name, shape in whole["$defs"].items()]
    return "\n".join(["{", *head, '  "$defs": {', ",\n".join(definitions), "  }", "}"]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(written())
