"""The quick ways of reading and checking say nothing that the strict ones don't: held together on many inputs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from edgetrain.core.kinds import KINDS
from edgetrain.repo import beside, load
from edgetrain.repo.accept import Unfit, acceptor
from edgetrain.repo.dialect import validator
from edgetrain.repo.git import Git
from edgetrain.repo.load import read_repository
from edgetrain.repo.plain import read_plain
from edgetrain.repo.reader import read
from edgetrain.repo.schema import schema_text
from edgetrain.repo.strict import read_strictly
from edgetrain.repo.tree import CommitTree
from edgetrain.repo.work_tree import WorkTree
from tests.core.case import Case

CASES = Path(__file__).parents[1] / "cases"
FILES = sorted(file for file in CASES.rglob("*.yaml"))
GOOD = sorted((CASES / "manifests").glob("*.yaml"))
SCHEMAS: dict[str, Any] = {kind.name: json.loads(schema_text(kind.lower)) for kind in KINDS}
CHECKS = {name: acceptor(schema) for name, schema in SCHEMAS.items()}
VALIDATORS = {name: validator(schema) for name, schema in SCHEMAS.items()}

PIECES = st.sampled_from([
    ": ", ":", " ", "\n", "\n\n", "- ", "-", "#", " #", "{", "}", "[", "]", ",", ", ", '"', "'", "a", "b: c", "yes",
    "null", "~", "~/x", "1", "0.5", "\n  ", "\n    ", "\n- ", "\n  - ", "|", ">", ">-", ">-\n    x y\n    z\n",
    "&a ", "*a", "!t ", "\\", "%", "@", "`", "---\n", "...\n", "? ", "\t", "\r", "<<: ", "1e5", "2020-01-01", "-1",
    ".5", "+1", "/", "$", "=", "--- a", ": a: b", "{a: 1}", "{a: {b: [1, x y]}}", "[x, y]", "  ", "0x1", "1_0",
    "12:30", "2: ", "é", "\u2028",
])  # fmt: skip
LIKE_YAML = st.tuples(st.sampled_from(["", "a: ", "a:\n  ", "a:\n- "]), st.lists(PIECES, max_size=14)).map(
    lambda drawn: drawn[0] + "".join(drawn[1])
)
TEXTS = [file.read_bytes().decode("utf-8", "replace") for file in FILES if file.stat().st_size < 2**14]


@st.composite
def edited(draw: st.DrawFn) -> str:
    """Some lines of a real file, with a few edits."""
    lines = draw(st.sampled_from(TEXTS)).split("\n")
    start = draw(st.integers(0, len(lines) - 1))
    text = "\n".join(lines[start : start + draw(st.integers(1, 12))])
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES | st.just("")) + text[at + draw(st.integers(0, 3)) :]
    return text


def agree(data: bytes) -> bool:
    """Whether the quick reader answered; then the strict one must say the same."""
    plain = read_plain(data)
    if plain is None:
        return False
    document, problems = read_strictly(data, "x.yaml")
    assert problems == []
    assert document is not None
    assert json.dumps(plain) == json.dumps(document.data)  # types and the order of keys, too
    return True


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_real_files_read_alike(file: Path) -> None:
    agree(file.read_bytes())


def test_manifests_take_the_quick_way() -> None:
    slow = {file.name for file in GOOD if read_plain(file.read_bytes()) is None}
    assert len(slow) < len(GOOD) / 2, slow


@given(edited())
@example("a: >-\n  foo\n\n    #b: c")
@example("a: >-\n  foo\n# b\n  c")
@example("a: >-\n  foo\n     \nb: 1")
@example("a:\n- b: 1\n  c: 2\nd:\n  - e")
@example("a: {b: 1, b: 2}")
@example("a: {b: {}, c: []}")
@example("a: {b : 1}")
@example("a: {b: }")
@example("a: {b: , c: 1}")
@example("a: {b: [c, ]}")
@example("a: [b c, d]  # e")
@example("a: b  #c\n  d")
def test_edited_files_read_alike(text: str) -> None:
    agree(text.encode())


@given(LIKE_YAML)
def test_what_looks_like_yaml_reads_alike(text: str) -> None:
    agree(text.encode())


PLAIN = st.from_regex(r"[ -~]{0,12}", fullmatch=True)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), st.sampled_from([None, False, True]))
def test_what_is_dumped_reads_alike(value: dict[str, Any], flow: bool | None) -> None:
    agree(yaml.safe_dump(value, default_flow_style=flow, width=1000).encode())


def test_places_are_the_strict_readers() -> None:
    text = b"a:\n  b: [1, x]\n"
    quick, strict = read(text, "x.yaml")[0], read_strictly(text, "x.yaml")[0]
    assert quick is not None
    assert strict is not None
    assert dict(quick.marks) == dict(strict.marks)
    assert dict(quick.key_marks) == dict(strict.key_marks)
    assert quick.mark("a", "b", 1) == strict.mark("a", "b", 1)
    assert quick.key_mark("a", "none") == strict.key_mark("a", "none")


def sound(file: Path) -> dict[str, Any]:
    document = read_strictly(file.read_bytes(), file.name)[0]
    assert document is not None
    return document.data


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good_manifests_are_accepted(file: Path) -> None:
    data = sound(file)
    assert CHECKS[data["kind"]](data)


@pytest.mark.parametrize("file", sorted((CASES / "schema").glob("*.yaml")), ids=lambda file: file.stem)
def test_bad_manifests_are_not(file: Path) -> None:
    kind = file.read_text(encoding="utf-8").splitlines()[0].rpartition(" ")[2]
    assert not CHECKS[kind](sound(file))


def test_a_keyword_that_is_not_known_is_for_the_validator() -> None:
    for schema in ({"contains": {}}, {"enum": [1.5]}, {"format": "uri"}, {"$ref": "https://example.org"}):
        with pytest.raises(Unfit):
            acceptor(schema)


EDGES: list[tuple[dict[str, Any], list[Any]]] = [
    ({"uniqueItems": True}, [[], ["a"], ["a", "a"], ["a", "b"], ["a", "b", "a"], [{"x": 1}, {"x": 1}], "aa"]),
    ({"minLength": 2, "maxLength": 3}, ["a", "ab", "abc", "abcd", ["a"]]),
    ({"minItems": 1, "maxItems": 2}, [[], [1], [1, 2], [1, 2, 3], "abc", {}]),
    ({"minProperties": 1, "maxProperties": 2}, [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, []]),
    ({"minimum": 1, "maximum": 2}, [0, 1, 2, 3, 0.99, 2.0, 2.01, "0"]),
    ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1, 1.01, 1.99, 2, None]),
    ({"type": "integer"}, [1, True, "1", None]),
    ({"type": ["number", "null"]}, [1, 1.5, None, False, "x"]),
    ({"enum": ["a", True, None]}, ["a", "b", True, 1, None, False, 0]),
    ({"const": "a"}, ["a", "b"]),
    ({"pattern": "^a$"}, ["a", "ab", "a\n", 1]),
    ({"format": "date"}, ["2026-12-31", "2026-13-01", 1]),
    ({"format": "cidr"}, ["10.0.0.0/8", "10.0.0.1/8", "10.0.0.0", "x/1", 1]),
    ({"x-order": ["a", "b"]}, [{"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1}, {"a": "2", "b": 1}, []]),
    ({"dependentRequired": {"a": ["b"]}}, [{}, {"a": 1}, {"b": 1}, {"a": 1, "b": 1}, "a"]),
    ({"required": ["a"]}, [{}, {"a": 1}, []]),
    (
        {"properties": {"a": {"type": "string"}}, "additionalProperties": False},
        [{}, {"a": "x"}, {"a": 1}, {"b": 1}],
    ),
    ({"propertyNames": {"maxLength": 1}}, [{}, {"a": 1}, {"ab": 1}, "ab"]),
    ({"items": {"type": "string"}}, [[], ["a"], ["a", 1], "a"]),
    ({"allOf": [{"minLength": 1}, {"maxLength": 1}, {"pattern": "a"}]}, ["", "a", "b", "aa"]),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["a", None, 1]),
    ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, [{}, {"a": 1}, {"a": 1, "b": 1}]),
    ({"if": {"required": ["a"]}, "else": {"required": ["b"]}}, [{}, {"a": 1}, {"b": 1}]),
    ({"$defs": {"d": {"type": "string"}}, "$ref": "#/$defs/d", "maxLength": 1}, ["a", "ab", 1]),
]


@pytest.mark.parametrize(("schema", "values"), EDGES, ids=[next(iter(schema)) for schema, _ in EDGES])
def test_at_every_edge_the_answer_is_the_validator_s(schema: dict[str, Any], values: list[Any]) -> None:
    quick, strict = acceptor(schema), validator(schema)
    assert [quick(value) for value in values] == [not list(strict.iter_errors(value)) for value in values]


@st.composite
def altered(draw: st.DrawFn) -> dict[str, Any]:
    """A good manifest with up to three values replaced, removed, added or exchanged with another's."""
    data: Any = json.loads(json.dumps(sound(draw(st.sampled_from(GOOD)))))
    other: Any = json.loads(json.dumps(sound(draw(st.sampled_from(GOOD)))))
    for _ in range(draw(st.integers(1, 3))):
        node: Any = data
        while True:
            inner = [
                v for v in (node.values() if isinstance(node, dict) else node) if v and isinstance(v, dict | list)
            ]
            if not inner or draw(st.integers(0, 4)) == 0:
                break
            node = draw(st.sampled_from(inner))
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        spare = draw(VALUES | st.sampled_from([*other["spec"].values(), True, 0, 1.0, -1, "", "x" * 300, [], {}]))
        if isinstance(node, dict) and draw(st.integers(0, 3)) == 0:
            node[draw(KEYS | st.sampled_from(["type", *other["spec"]]))] = spare
        elif keys:
            key = draw(st.sampled_from(keys))
            if draw(st.booleans()):
                node[key] = spare
            else:
                del node[key]
    return data


@given(altered(), st.sampled_from(sorted(CHECKS)))
def test_what_is_accepted_has_no_fault(data: dict[str, Any], kind: str) -> None:
    for name in {kind, str(data.get("kind"))} & CHECKS.keys():
        if CHECKS[name](data):
            assert list(VALIDATORS[name].iter_errors(data)) == []


def test_a_second_process_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Case(tmp_path).make()
    for number in range(12):
        folder = tmp_path / "models" / f"more-{number}"
        folder.mkdir(parents=True)
        text = (CASES / "manifests" / "model.yaml").read_text().replace("cxr-triage", folder.name)
        (folder / "model.yaml").write_text(text if number % 3 else text.replace("spec:", "spek: yes\nspec: &a"))
    for number in (3, 4):  # of records, too, each process reads sound and other ones
        (tmp_path / f"models/mean/versions/{number}.release-1.json").write_text("{}")
    alone = read_repository(WorkTree(tmp_path))
    monkeypatch.setattr(load, "WORTH_IT", 2)
    monkeypatch.setattr(beside.threading, "active_count", lambda: 1)
    person = ("-c", "user.name=Dana", "-c", "user.email=dana@example.org")
    for line in (("init", "--quiet"), ("add", "--all", "--force"), (*person, "commit", "--quiet", "-m", "All")):
        subprocess.run(("git", *line), cwd=tmp_path, check=True)
    with CommitTree(Git.find(tmp_path), "HEAD") as commit:
        for tree in (WorkTree(tmp_path), commit):
            helped = read_repository(tree)
            assert helped.problems == alone.problems != ()
            assert helped.broken == alone.broken
            assert helped.recorded == alone.recorded
            assert len(alone.recorded.runs) == len(alone.recorded.releases) == 2
            assert helped.desired == alone.desired
            assert alone.desired is not None
            assert list(helped.desired.models) == list(alone.desired.models)
