"""The plain loops that edgetrain is measured against: parse the same files, and check the manifests by schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

SCHEMAS = {
    "Configuration": "configuration",
    "ComputeTarget": "computetarget",
    "Experiment": "experiment",
    "Model": "model",
    "ModelVersion": "modelversion",
}


def parse(root: Path) -> list[dict[str, object]]:
    """Every manifest, by PyYAML's C loader, and every record, by the standard library."""
    for file in root.glob("**/*.json"):
        json.loads(file.read_bytes())
    return [yaml.load(file.read_bytes(), yaml.CSafeLoader) for file in sorted(root.glob("**/*.yaml"))]


def check(root: Path, schemas: Path) -> int:
    """How many manifests break their JSON Schema."""
    from jsonschema import Draft202012Validator

    validators = {
        kind: Draft202012Validator(json.loads((schemas / f"{name}.schema.json").read_text()))
        for kind, name in SCHEMAS.items()
    }
    return sum(not validators[str(found["kind"])].is_valid(found) for found in parse(root))


if __name__ == "__main__":
    if sys.argv[1] == "parse":
        parse(Path(sys.argv[2]))
    else:
        sys.exit(check(Path(sys.argv[2]), Path(sys.argv[3])) > 0)
