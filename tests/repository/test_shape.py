"""The repository's own shape: valid manifests, documented dependencies, a whole wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from edgetrain.reconcile.validate import validate

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    return [name for name in listed.decode().split("\0") if name]


def test_our_own_manifests_are_valid() -> None:
    assert validate(ROOT) == []


def test_the_top_level_holds_what_was_agreed() -> None:
    folders = {name.split("/")[0] for name in tracked() if "/" in name}
    assert folders == {".ci", ".github", ".vscode", "compute", "docs", "experiments", "models", "tests", "tools"}


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs/dependencies.md").read_text()
    optional = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    for requirement in [*PROJECT["dependencies"], *optional]:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name
        known = f"`{name[0]}`" in page or (name[0].startswith("types-") and "`types-*`" in page)
        assert known, f"docs/dependencies.md does not say why {name[0]}"


def test_every_package_is_pinned_by_hash() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())
    assert len(blocks) > 50
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)


def test_every_file_of_the_package_says_what_it_is_for() -> None:
    for name in tracked():
        if name.startswith("tools/") and name.endswith(".py"):
            first = (ROOT / name).read_text().split("\n", 1)[0]
            assert first.startswith(('"""', "#!")), name


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = {name.removeprefix("tools/") for name in tracked() if name.startswith("tools/edgetrain/")}
    assert package <= inside
