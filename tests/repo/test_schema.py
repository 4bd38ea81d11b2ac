"""Schemas: every code by a bad manifest, the examples of the design, and what the schemas themselves must be."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edgetrain.core.codes import schema as codes
from edgetrain.core.document import Document
from edgetrain.core.errors import UsageError
from edgetrain.core.kinds import KINDS, parse
from edgetrain.core.problem import Code, Problem
from edgetrain.core.quantity import bytes_of, seconds_of
from edgetrain.repo import schema
from edgetrain.repo.dialect import validator
from edgetrain.repo.reader import read

CASES = Path(__file__).parents[1] / "cases"
BAD = sorted((CASES / "schema").glob("*.yaml"))
GOOD = sorted((CASES / "manifests").glob("*.yaml"))
SCHEMAS: dict[str, Any] = {kind.lower: json.loads(schema.schema_text(kind.lower)) for kind in KINDS}


def load(text: str | bytes, path: str = "x.yaml") -> Document:
    document, problems = read(text.encode() if isinstance(text, str) else text, path)
    assert problems == []
    assert document is not None
    return document


def report(problems: list[Problem]) -> str:
    return "".join(f"{p.line}:{p.column} {p.code} {p.what}\n    fix: {p.fix}\n" for p in problems)


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad_manifest_gives_its_report(file: Path, golden: Callable[[Path, str], None]) -> None:
    text = file.read_text(encoding="utf-8")
    kind = text.splitlines()[0].rpartition(" ")[2]
    problems = schema.check(load(text, file.name), kind)
    assert file.name.partition("-")[0] in {p.code for p in problems}
    golden(file.with_suffix(".expected"), report(problems))


def test_every_code_has_a_case() -> None:
    known = {value.id for value in vars(codes).values() if isinstance(value, Code)}
    assert known == {file.name.partition("-")[0] for file in BAD}


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good_manifests_pass_and_parse(file: Path) -> None:
    document = load(file.read_bytes(), file.name)
    kind = next(kind for kind in KINDS if kind.name == schema.kind_of(document))
    assert schema.check(document, kind.name) == []
    assert isinstance(parse(document, kind), kind.type)


def test_every_kind_and_every_union_type_has_a_good_manifest() -> None:
    """So that no branch of a schema is there that nothing can pass."""
    documents = [load(file.read_bytes()).data for file in GOOD]
    assert {data["kind"] for data in documents} == {kind.name for kind in KINDS}
    declared = {value for spec in SCHEMAS.values() for value in types_declared(spec)}
    assert declared <= set(types_used(documents))


def types_declared(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        branch = node.get("if", {})
        if isinstance(branch, dict):
            found = branch.get("properties", {}).get("type", {}).get("const")
            if found:
                yield found
        for value in node.values():
            yield from types_declared(value)
    elif isinstance(node, list):
        for value in node:
            yield from types_declared(value)


def types_used(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield node["type"]
        for value in node.values():
            yield from types_used(value)
    elif isinstance(node, list):
        for value in node:
            yield from types_used(value)


def nodes(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from nodes(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from nodes(value, f"{path}/{index}")


@pytest.mark.parametrize("kind", SCHEMAS)
def test_schema_is_sound(kind: str) -> None:
    whole = SCHEMAS[kind]
    Draft202012Validator.check_schema(whole)
    assert whole["$id"] == f"urn:edgetrain:schema:v1:{kind}"
    used = {node["$ref"] for _, node in nodes(whole) if "$ref" in node}
    assert used == {f"#/$defs/{name}" for name in whole.get("$defs", {})}
    for path, node in nodes(whole):
        if not path.endswith("/properties") and isinstance(node.get("pattern"), str):
            # Python's shorthand classes and `$` differ from ECMA's; see dialect._pattern.
            assert not re.search(r"\\[dwsb]|\\\$|\[[^\]]*\$", node["pattern"]), path
            assert node["title"], path
            assert node["description"], path


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_key_is_described_and_no_mapping_is_open(kind: str) -> None:
    definitions = SCHEMAS[kind].get("$defs", {})
    for path, node in nodes(SCHEMAS[kind]):
        conditional = re.search(r"/(if|then|else)(/|$)", path)
        if path.endswith("/properties") or conditional:
            continue
        if node.get("type") == "object" and "properties" in node:
            union = all("then" in branch for branch in node.get("allOf", [{}]))
            assert node.get("additionalProperties") is False or union, path
        for key, value in node["properties"].items() if isinstance(node.get("properties"), dict) else ():
            definition = definitions.get(value.get("$ref", "").removeprefix("#/$defs/"), {})
            assert value.get("title", definition.get("title")), f"{path}/{key}"
            assert value.get("description", definition.get("description")), f"{path}/{key}"


def test_definitions_of_one_name_are_the_same_everywhere() -> None:
    seen: dict[str, Any] = {}
    for whole in SCHEMAS.values():
        for name, definition in whole.get("$defs", {}).items():
            assert seen.setdefault(name, definition) == definition


@pytest.mark.parametrize("kind", SCHEMAS)
@given(data=st.data())
def test_any_value_is_checked_without_a_crash(kind: str, data: st.DataObject) -> None:
    """A valid skeleton with strange values below: every keyword meets every type."""
    name = next(known.name for known in KINDS if known.lower == kind)
    keys = st.sampled_from(sorted(SCHEMAS[kind]["properties"]["spec"]["properties"])) | st.text(max_size=5)
    inner = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda sub: st.lists(sub, max_size=3) | st.dictionaries(keys | st.just("type"), sub, max_size=3),
        max_leaves=8,
    )
    spec = data.draw(st.dictionaries(keys, inner, max_size=6) | inner)
    value = {"apiVersion": "edgetrain/v1", "kind": name, "metadata": data.draw(inner), "spec": spec}
    problems = schema.check(Document("x.yaml", value), name)
    assert problems == sorted(problems)
    assert all(len(p.what) < 2000 and "\n" not in p.what for p in problems)


def test_problems_are_bounded() -> None:
    text = "apiVersion: edgetrain/v1\nkind: Model\nmetadata: {name: a}\nspec:\n"
    problems = schema.check(load(text + "".join(f"  k{i}: 1\n" for i in range(5000))), "Model")
    assert len(problems) == schema.MAX_PROBLEMS + 1
    assert problems[-1].code == "Y121"


def test_many_unlike_items_are_compared_in_linear_time() -> None:
    """The library's own uniqueItems compares each with each, and would need minutes."""
    items = [{"a": i} for i in range(50_000)] + [{"a": 7}]
    errors = list(validator({"uniqueItems": True}).iter_errors(items))
    assert [list(error.absolute_path) for error in errors] == [[50_000]]


def test_unknown_kinds() -> None:
    with pytest.raises(UsageError, match='did you mean "model"'):
        schema.schema_text("modle")
    assert schema.kind_of(Document("x.yaml", {"kind": ["Model"]})) is None
    assert schema.kind_of(Document("x.yaml", {"kind": "Model"})) == "Model"


def accepts(name: str, value: Any) -> bool:
    definitions = {key: part for whole in SCHEMAS.values() for key, part in whole["$defs"].items()}
    return bool(validator({"$ref": f"#/$defs/{name}", "$defs": definitions}).is_valid(value))


def agrees(check: Callable[[str], object], text: str) -> bool:
    try:
        check(text)
    except ValueError:
        return False
    return True


@given(st.text("0123456789dhmsKMGTik\n ", max_size=6))
def test_sizes_and_durations_are_those_that_the_core_reads(text: str) -> None:
    assert accepts("size", text) == agrees(bytes_of, text)
    assert accepts("duration", text) == agrees(seconds_of, text)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("name", ["a", "cxr-densenet", "a" * 63], ["", "A", "a-", "-a", "1a", "a_b", "a" * 64, "a\n", "ä"]),
        ("path", ["a", "a/b/", "a..b", "...", "ä b"], ["", "/a", "..", "a/..", "../a", "a/../b", "a\\b", "a\nb"]),
        ("digest", ["sha256:" + "0a" * 32], ["sha256:" + "0A" * 32, "sha256:0a", "0a" * 32, "latest"]),
        ("dataDigest", ["latest", "sha256:" + "0a" * 32], ["newest", ""]),
        ("imageReference", ["acr.example:5000/a/b@sha256:" + "0" * 64], ["a:latest", "@sha256:" + "0" * 64]),
        ("repositoryName", ["a", "a/b-c", "a__b"], ["A", "a//b", "/a", "a/", "a___b", "a-"]),
        ("owner", ["@ada", "@hosp/ds", "ada@hosp.example"], ["ada", "@", "@a/b/c", "a b@c"]),
        ("date", ["2026-12-31"], ["2026-02-30", "20261231", "2026-1-1", "2026-12-31\n"]),
        ("network", ["10.0.0.0/8", "fd00::/8", "10.1.2.3/32"], ["10.0.0.1/8", "10.0.0.1", "10.0.0.0/33", "a/8"]),
        ("host", ["10.0.0.1", "a.example", "fd00::1"], ["a b", "-a", "a:22", "", "a/b", "https://a"]),
        ("url", ["https://a.example:8443/x/y", "http://[::1]:1"], ["ftp://a", "https://u:p@a", "https://a?b=c"]),
        ("key", ["lr", "Lr_2"], ["2x", "a-b", "_a", ""]),
        ("hostKey", ["ssh-ed25519 AAAA"], ["ssh-dss AAAA", "host ssh-ed25519 AAAA", "ssh-ed25519"]),
    ],
)
def test_forms(name: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not accepts(name, text)] == []
    assert [text for text in bad if accepts(name, text)] == []


def test_reading_imports_no_validator() -> None:
    """jsonschema takes a good part of the start-up budget: only a check may load it."""
    code = "import sys, edgetrain.repo.reader, edgetrain.repo.schema; sys.exit('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
