"""What people meet on GitHub: owners of their own for what guards the site, and templates."""

from __future__ import annotations

import re

import pytest

from edgetrain.core.kinds import KINDS
from tests.github.files import GITHUB, ROOT


def owners(path: str) -> list[str]:
    """Who must approve the path: of GitHub's CODEOWNERS the last line that matches."""
    found: list[str] = []
    for line in (GITHUB / "CODEOWNERS").read_text().splitlines():
        pattern, *names = line.partition("#")[0].split() or [""]
        if pattern == "*" or (pattern and (f"/{path}" == pattern or f"/{path}".startswith(pattern))):
            found = names
    return found


@pytest.mark.parametrize(
    "path",
    [
        "edgetrain.yaml",
        "compute/runner.yaml",
        "tools/edgetrain/__init__.py",
        ".github/CODEOWNERS",
        ".github/allowed_signers",
        ".github/workflows/apply.yml",
    ],
)
def test_what_guards_the_site_has_owners_of_its_own(path: str) -> None:
    assert owners(path)
    assert not set(owners(path)) & set(owners("experiments/digits/train.py"))


def test_every_pattern_of_codeowners_names_something() -> None:
    for line in (GITHUB / "CODEOWNERS").read_text().splitlines():
        pattern = line.partition("#")[0].split()[:1]
        if pattern and pattern != ["*"]:
            assert (ROOT / pattern[0].strip("/")).exists(), pattern


def test_each_kind_of_change_has_a_template() -> None:
    there = {file.stem for file in (GITHUB / "PULL_REQUEST_TEMPLATE").glob("*.md")}
    assert there == {"compute", "experiment", "model", "release", "tools"}
    default = (GITHUB / "PULL_REQUEST_TEMPLATE.md").read_text()
    assert set(re.findall(r"(\w+)\.md", default)) == there
    assert {"ComputeTarget", "Experiment", "Model", "ModelVersion", "Configuration"} == {
        kind.name for kind in KINDS
    }


def test_verbs_that_templates_name_are_there() -> None:
    from edgetrain.cli.table import VERBS

    for file in (GITHUB / "PULL_REQUEST_TEMPLATE").glob("*.md"):
        for verb in re.findall(r"`edgetrain (\w+)", file.read_text()):
            assert verb in VERBS, f"{file.name}: {verb}"
