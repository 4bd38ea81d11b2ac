"""Whole bad repositories and what validate says of them: each code of references, history and guard, and peace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.core.codes import egress, evaluation, history, references
from edgetrain.core.problem import Code
from tests.core.case import Case, report

# Where records lie: a case that touches one is about records.
PLACES = ("/runs/", "/proposals/", ".release-")
CASES = sorted((Path(__file__).parents[1] / "cases" / "repositories").glob("*.case"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside any repository."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_case_gives_its_report(file: Path, root: Path, golden: Callable[[Path, str], None]) -> None:
    case = Case(root).make().play(file.read_text(encoding="utf-8"))
    problems = case.problems()
    assert problems == sorted(set(problems))
    # Whether a plain folder's history can be told is a case of its own.
    shown = problems if case.git else [p for p in problems if p.code != "H406"]
    codes = {p.code for p in shown}
    assert (file.name.partition("-")[0] in codes) or (file.name.startswith("ok-") and not codes)
    golden(file.with_suffix(".expected"), report(shown))


def test_every_code_has_a_case() -> None:
    known = {
        value.id
        for family in (references, evaluation, history, egress)
        for value in vars(family).values()
        if isinstance(value, Code)
    }
    assert known == {file.name.partition("-")[0] for file in CASES} - {"ok"}


def test_the_corpus_is_wide() -> None:
    """Bad manifests, repositories, records and histories, each with a golden report."""
    folder = CASES[0].parents[1]
    bad = [file for file in CASES if not file.name.startswith("ok-")]
    records = [file for file in bad if any(place in file.read_text(encoding="utf-8") for place in PLACES)]
    groups = {
        "manifests": [*(folder / "yaml").glob("*.yaml"), *(folder / "schema").glob("*.yaml")],
        "histories": [file for file in bad if file.name.startswith("H")],
        "records": [file for file in records if not file.name.startswith("H")],
    }
    groups["repositories"] = [file for file in bad if file not in groups["histories"] + groups["records"]]
    assert all(file.with_suffix(".expected").is_file() for files in groups.values() for file in files)
    counted = {name: len(files) for name, files in groups.items()}
    assert all(count >= 25 for count in counted.values()), counted
