"""What editors and hooks read of this repository: each kind's schema is found where its manifests lie."""

from __future__ import annotations

import json
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import yaml

from edgetrain.core.kinds import KINDS, kind_at
from edgetrain.scaffold import site
from tests.scaffold.samples import GITHUB

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = json.loads((ROOT / ".vscode/settings.json").read_text())


def test_every_manifest_has_the_schema_of_its_kind() -> None:
    schemas = SETTINGS["yaml.schemas"]
    assert {Path(schema).name for schema in schemas} == {f"{kind.lower}.schema.json" for kind in KINDS}
    assert all((ROOT / schema).is_file() for schema in schemas)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    seen = 0
    for path in tracked.stdout.splitlines():
        kind = kind_at(path)
        if kind is not None:
            fits = [schema for schema, pattern in schemas.items() if fnmatch(f"/{path}", pattern)]
            assert [Path(schema).name for schema in fits] == [f"{kind.lower}.schema.json"], path
            seen += 1
    assert seen > 5


def test_a_new_site_gets_the_same_associations() -> None:
    theirs = json.loads(site.files(GITHUB)[".vscode/settings.json"])
    named = {Path(schema).name: pattern for schema, pattern in SETTINGS["yaml.schemas"].items()}
    assert {Path(schema).name: pattern for schema, pattern in theirs["yaml.schemas"].items()} == named
    shared = {key for key in theirs if key in SETTINGS and key != "yaml.schemas"}
    assert {key: theirs[key] for key in shared} == {key: SETTINGS[key] for key in shared}


def test_this_repository_checks_its_manifests_as_it_tells_others_to() -> None:
    (told,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    (ours,) = [hook for hook in hooks if hook["id"] == told["id"]]
    assert ours["entry"] == f".venv/bin/{told['entry']}"
    assert ours["files"] == told["files"]
    assert ours["require_serial"] is told["require_serial"] is True
