"""The reference of manifests: it is of now, has every key of every schema, and its examples are right."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.kinds import KINDS
from edgetrain.render import manifests
from edgetrain.repo.dialect import validator
from edgetrain.repo.schema import schema_text

ROOT = Path(__file__).parents[2]
SCHEMAS: dict[str, Any] = {kind.name: json.loads(schema_text(kind.lower)) for kind in KINDS}
# Some examples say in words what would be too long.
IN_WORDS = re.compile(r"hex digits|…")


def rows() -> Iterator[tuple[str, manifests.Row]]:
    for name, schema in SCHEMAS.items():
        for section in manifests.sections(schema):
            for row in section.rows:
                yield name, row


def test_page_is_of_now() -> None:
    committed = (ROOT / "docs" / "manifests.md").read_text(encoding="utf-8")
    assert committed == manifests.page(), "run: python -m edgetrain.render.manifests > docs/manifests.md"


def keys_of(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "properties":
                yield from (name for name, one in value.items() if isinstance(one, dict) and "description" in one)
            if key not in ("if", "examples"):
                yield from keys_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from keys_of(value)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_key_of_the_schema_has_a_row(kind: str) -> None:
    told = {row.key for name, row in rows() if name == kind}
    # A secret is told once, as a form.
    assert set(keys_of(SCHEMAS[kind])) - {"secret"} <= told


def test_every_row_has_an_example_that_its_schema_takes() -> None:
    count = 0
    for kind, row in rows():
        said = json.dumps(row.example, ensure_ascii=False)
        if IN_WORDS.search(said):
            continue
        whole = {**row.schema, "$defs": SCHEMAS[kind]["$defs"]}
        errors = [error.message for error in validator(whole).iter_errors(row.example)]
        assert errors == [], f"{kind} {row.path}: {said}"
        assert row.example not in ({}, []), f"{kind} {row.path}"
        count += 1
    assert count > 200


def test_a_table_has_the_same_cells_in_every_row() -> None:
    for line in manifests.page().splitlines():
        if line.startswith("| `"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 6), line
