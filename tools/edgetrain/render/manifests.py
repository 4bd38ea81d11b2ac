"""Writes the page of all manifests: `python -m edgetrain.render.manifests > docs/manifests.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from edgetrain.core.kinds import KINDS

Schema = Mapping[str, Any]

_HEAD = """\
# Manifests

<!-- Made by `python -m edgetrain.render.manifests`; do not edit. -->

Every key of every manifest, made from the JSON Schemas. `edgetrain schema KIND` prints a schema; `edgetrain new`
writes a manifest to start from; `edgetrain validate` checks all of them. A key that is not here is a problem.

`<name>` stands for a key that you choose, `[]` for an item of a list. *needed* means that the key can't be left
out. Forms such as *size* or *duration* are explained [at the end](#forms). Records are another thing, written by
the machine: [Records](records.md).
"""
_PLACES = {
    "Configuration": "edgetrain.yaml",
    "ComputeTarget": "compute/<name>.yaml",
    "Experiment": "experiments/<name>/experiment.yaml",
    "Model": "models/<name>/model.yaml",
    "ModelVersion": "models/<model>/versions/<number>.yaml",
}
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "array": "list",
    "null": "null",
}
# Mappings that are told among the forms of values.
_SINGLE = ("secret",)
_LONGEST = 110


@dataclass(frozen=True)
class Row:
    """One key. `schema` has its references resolved; `example` is a value that it takes."""

    path: str
    schema: Schema
    needed: bool
    notes: tuple[str, ...]
    example: Any

    @property
    def key(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


@dataclass
class Section:
    """One mapping: its place, for which `type` it holds (empty for all), and its keys."""

    path: str
    only: str
    text: str
    notes: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)


def page() -> str:
    """The whole page, in Markdown: a section a kind, in it one table a mapping, then the forms of values."""
    parts = [_HEAD]
    kinds = [(kind.name, _load(kind.lower)) for kind in KINDS]
    parts.append(_contents(kinds))
    for name, schema in kinds:
        parts.append(f"## {name}\n\n{_plain(schema['description'])} It lies at `{_PLACES[name]}`.\n")
        parts += [_section(name, section, schema) for section in sections(schema)]
    parts.append(_forms([schema for _, schema in kinds]))
    return "\n".join(parts)


def sections(schema: Schema) -> list[Section]:
    """All mappings of a kind's schema, in the order of the manifest, each with its keys."""
    return list(_sections(_resolved(schema, schema), "", "", schema))


def _load(lower: str) -> Schema:
    text = (resources.files("edgetrain") / "schemas" / f"{lower}.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _resolved(node: Any, whole: Schema) -> dict[str, Any]:
    """The node with its own reference replaced; what it says itself goes before what the definition says.

    `x-form` is the definition's name, `x-examples` are its examples: a default of the node's own goes before them.
    """
    if "$ref" not in node:
        return dict(node)
    name = node["$ref"].removeprefix("#/$defs/")
    target: dict[str, Any] = {"x-examples": (), **_resolved(whole["$defs"][name], whole)}
    target["x-examples"] = target.pop("examples", target["x-examples"])
    return {**target, "x-form": name, **{key: value for key, value in node.items() if key != "$ref"}}


# --- mappings --------------------------------------------------------------------------------------------


def _sections(node: Schema, path: str, only: str, whole: Schema) -> Iterator[Section]:
    """The mapping at `path`, then those below it."""
    if "properties" not in node and "allOf" not in node:
        return
    branches = [_branch(rule) for rule in node.get("allOf", ())]
    union = [(value, then) for where, value, then in branches if where == "type" and "$ref" in then]
    if union:
        for value, then in union:
            yield from _sections(_resolved(then, whole), path, f"type: {value}", whole)
        return
    section = Section(path, only, node.get("description", ""), tuple(_notes(node)))
    below: list[tuple[str, Schema]] = []
    for key, raw in node.get("properties", {}).items():
        schema = _resolved(raw, whole)
        place = f"{path}.{key}".lstrip(".")
        section.rows.append(
            Row(
                place,
                schema,
                key in node.get("required", ()),
                tuple(_key_notes(key, branches)),
                _example(schema, whole),
            )
        )
        below += _inner(schema, place, whole)
    yield section
    for place, inner in below:
        yield from _sections(inner, place, "", whole)


def _inner(schema: Schema, path: str, whole: Schema) -> Iterator[tuple[str, Schema]]:
    """The mappings that a value of this schema holds: itself, its items, its values."""
    if schema.get("x-form") in _SINGLE:
        return
    if "properties" in schema or "allOf" in schema:
        yield path, schema
    for key in ("then", "else"):
        if isinstance(schema.get(key), dict):
            yield from _inner(_resolved(schema[key], whole), path, whole)
    if isinstance(schema.get("items"), dict):
        yield from _inner(_resolved(schema["items"], whole), f"{path}[]", whole)
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _inner(_resolved(schema["additionalProperties"], whole), f"{path}.<name>", whole)


def _branch(rule: Schema) -> tuple[str, str, Schema]:
    """Of `if KEY is VALUE then ...`: the key (with a dot where it lies deeper), the value, and what follows."""
    where, node = [], rule["if"]
    while "const" not in node:
        ((key, node),) = node["properties"].items()
        where.append(key)
    return ".".join(where), str(node["const"]), rule["then"]


def _notes(node: Schema) -> Iterator[str]:
    """What holds for several keys together."""
    if "anyOf" in node:
        keys = [key for branch in node["anyOf"] for key in branch["required"]]
        yield f"At least one of {_listed(keys)} is needed."
    if node.get("maxProperties") == 1:
        yield "Exactly one of the keys." if node.get("minProperties") == 1 else "At most one of the keys."
    for key, others in node.get("dependentRequired", {}).items():
        yield f"`{key}` needs {_listed(others)} beside it."


def _key_notes(key: str, branches: Sequence[tuple[str, str, Schema]]) -> Iterator[str]:
    without = [
        f"{where}: {value}" for where, value, then in branches if then.get("properties", {}).get(key) is False
    ]
    needed = [f"{where}: {value}" for where, value, then in branches if key in then.get("required", ())]
    if without:
        yield f"Not with {_listed(without)}."
    if needed:
        yield f"Needed with {_listed(needed)}."


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


# --- examples --------------------------------------------------------------------------------------------


def _example(schema: Schema, whole: Schema) -> Any:
    """A value that the schema takes: given, chosen, or put together from those of its keys."""
    schema = _resolved(schema, whole)
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return schema.get("default", schema["enum"][0])
    if "default" in schema:
        return not schema["default"] if isinstance(schema["default"], bool) else schema["default"]
    if schema.get("x-examples"):
        return schema["x-examples"][0]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return _mapping(schema, whole)
    if kind == "array":
        return [_example(schema["items"], whole)] if "items" in schema else []
    if kind in ("integer", "number"):
        return _number(schema)
    if kind == "boolean":
        return True
    return _loose(schema, whole)


def _mapping(schema: Schema, whole: Schema) -> Any:
    for rule in schema.get("allOf", ()):
        if "$ref" in rule["then"]:
            return _example(rule["then"], whole)
    properties = schema.get("properties", {})
    if properties:
        chosen = _chosen(schema)
        for where, value, then in map(_branch, schema.get("allOf", ())):
            if where in chosen and _example(properties[where], whole) == value:
                chosen += [key for key in _chosen(then) if key not in chosen]
        return {key: _example(properties[key], whole) for key in chosen or list(properties)[:1]}
    if isinstance(schema.get("additionalProperties"), dict):
        return {_example(schema["propertyNames"], whole): _example(schema["additionalProperties"], whole)}
    return {}


def _chosen(schema: Schema) -> list[str]:
    """The keys that can't be left out, with the first of several ways."""
    chosen = [*schema.get("required", ()), *(key for one in schema.get("anyOf", ())[:1] for key in one["required"])]
    beside = schema.get("dependentRequired", {})
    return list(dict.fromkeys(name for key in chosen for name in (*beside.get(key, ()), key)))


def _number(schema: Schema) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1))
    if schema["type"] == "integer":
        return max(low, min(high, 2))
    return (low + min(high, low + 1)) / 2


def _loose(schema: Schema, whole: Schema) -> Any:
    """Of several types at once the first that something is known of."""
    for key in ("then", "else"):
        if isinstance(schema.get(key), dict) and "properties" in _resolved(schema[key], whole):
            return _example(schema[key], whole)
    types = schema.get("type", ())
    return None if "null" in types else {} if "object" in types else 0.5 if "number" in types else "text"


# --- Markdown --------------------------------------------------------------------------------------------


def _contents(kinds: Sequence[tuple[str, Schema]]) -> str:
    rows = "".join(
        f"| [{name}](#{name.lower()}) | `{_PLACES[name]}` | {_plain(schema['description'])} |\n"
        for name, schema in kinds
    )
    return f"| kind | file | what |\n|---|---|---|\n{rows}"


def _section(kind: str, section: Section, whole: Schema) -> str:
    title = f"`{section.path}`" if section.path else "Top level"
    title += f" with `{section.only}`" if section.only else ""
    lines = [f"### {kind}: {title}", ""]
    said = " ".join(filter(None, [_plain(section.text) if section.path else "", *section.notes]))
    lines += [said, ""] if said else []
    lines += ["| key | type | default | what | example |", "|---|---|---|---|---|"]
    lines += [_row(row, whole) for row in section.rows]
    return "\n".join(lines) + "\n"


def _row(row: Row, whole: Schema) -> str:
    default = "*needed*" if row.needed else _code(row.schema["default"]) if "default" in row.schema else ""
    what = " ".join([_plain(row.schema.get("description", "")), *row.notes])
    cells = [f"`{row.key}`", _type(row.schema, whole), default, what, _code(row.example)]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _type(schema: Schema, whole: Schema) -> str:
    if "enum" in schema:
        return " or ".join(_code(value) for value in schema["enum"])
    if "x-form" in schema and ("pattern" in schema or schema["x-form"] in _SINGLE):
        return f"[{schema['x-form']}](#form-{schema['x-form'].lower()})"
    types = schema.get("type", "object")
    names = [_TYPES[one] for one in ([types] if isinstance(types, str) else types)]
    if names == ["list"] and isinstance(schema.get("items"), dict):
        return f"list of {_many(_type(_resolved(schema['items'], whole), whole))}"
    if names == ["mapping"] and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping of {_many(_type(_resolved(schema['additionalProperties'], whole), whole))}"
    return " or ".join(names) + _bounds(schema)


def _many(type_: str) -> str:
    return "mappings" if type_ == "mapping" else type_


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        return f", above {schema['exclusiveMinimum']}"
    if low is not None and high is not None and high < 10**9:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else ""


def _forms(schemas: Sequence[Schema]) -> str:
    """The scalar definitions: a value's form in words."""
    found = {
        name: form
        for schema in schemas
        for name, form in schema.get("$defs", {}).items()
        if "pattern" in form or name in _SINGLE
    }
    rows = []
    for name, form in sorted(found.items()):
        examples = ", ".join(f"`{one if isinstance(one, str) else _yaml(one)}`" for one in form.get("examples", ()))
        cells = [f'<a id="form-{name.lower()}"></a>{name}', _plain(form["description"]), examples]
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |\n")
    return "## Forms\n\n| form | what | examples |\n|---|---|---|\n" + "".join(rows)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _code(value: Any) -> str:
    """A value as it would stand in YAML; one that is too long says where its parts are."""
    if value in ({}, []):
        return ""
    text = _yaml(value)
    return f"`{text}`" if len(text) <= _LONGEST else "see below"


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
