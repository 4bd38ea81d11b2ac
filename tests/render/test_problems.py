"""The registry of problem codes and the page made from it."""

from __future__ import annotations

import re
from pathlib import Path

from edgetrain.core.codes import CODES, FAMILIES
from edgetrain.core.problem import Code, Severity
from edgetrain.render import problems

ROOT = Path(__file__).parents[2]


def constants() -> list[tuple[str, str, Code]]:
    """Family, constant's name and code, in the order of the files."""
    return [
        (family.__name__.rpartition(".")[2], name, value)
        for family in FAMILIES
        for name, value in vars(family).items()
        if isinstance(value, Code)
    ]


def test_page_in_docs_is_current() -> None:
    committed = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
    assert committed == problems.page(), "run: python -m edgetrain.render.problems > docs/problems.md"


def test_ids_are_unique_well_formed_and_in_order() -> None:
    letters = {"yaml": "Y1", "schema": "M2", "references": "R3", "history": "H4", "policy": "P5", "egress": "E6"}
    for family, prefix in letters.items():
        ids = [code.id for of, _, code in constants() if of == family]
        assert ids == sorted(set(ids))
        assert all(re.fullmatch(prefix + "[0-9]{2}", id_) for id_ in ids)
    assert len(CODES) == len(constants())


def test_every_code_is_raised_somewhere() -> None:
    folder = ROOT / "tools" / "edgetrain"
    sources = [file for file in folder.rglob("*.py") if folder / "core" / "codes" not in file.parents]
    text = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    # The scanner of scripts imports nothing of ours: it names codes by their ids.
    unused = [
        f"{family}.{name}" for family, name, code in constants() if not re.search(rf"\b({name}|{code.id})\b", text)
    ]
    assert unused == []


def test_every_code_says_what_why_and_fix() -> None:
    for code in CODES.values():
        assert code.title
        assert not code.title.endswith(".")
        assert code.why.endswith("."), code.id
        assert code.fix.rstrip('"`').endswith("."), code.id


def test_sections() -> None:
    warning = Code("Y199", "a title", "Because.", "Do so.", Severity.WARNING)
    assert problems.section(warning) == (
        '<a id="y199"></a>\n### Y199: a title\n\n*A warning: it does not change the exit code.*\n\n'
        "**Why.** Because.\n\n**Fix.** Do so.\n"
    )
