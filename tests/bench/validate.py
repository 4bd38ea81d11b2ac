"""Checking many manifests: `edgetrain validate` beside a plain loop of YAML and JSON Schema."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from tests.apply.site import SmallSite
from tests.bench.runner import EDGETRAIN, Contestant, Race, command
from tests.bench.sample import with_experiments

SIZE, UNIT = 500, "experiments"


def bench(folder: Path, size: int) -> Iterator[Race]:
    """One race."""
    site = SmallSite(folder).make()
    with_experiments(site, size)
    schemas = Path(str(resources.files("edgetrain") / "schemas"))
    loop = [sys.executable, "-m", "tests.bench.loop"]
    contestants = [
        Contestant("plain loop: `yaml.CSafeLoader`, `jsonschema`", command(*loop, "check", site.clone, schemas)),
        Contestant("`edgetrain validate`", command(EDGETRAIN, "validate", cwd=site.clone)),
    ]
    if shutil.which("check-jsonschema"):
        files = sorted(site.clone.glob("experiments/*/experiment.yaml"))
        peer = command("check-jsonschema", "--schemafile", schemas / "experiment.schema.json", *files)
        contestants.append(Contestant("`check-jsonschema`, the experiments only", peer))
    note = (
        "The loop only checks each file by itself. `validate` also gives every value its line, digests the code, "
        "follows the references, and compares with the branch of merged facts."
    )
    yield Race(f"Validate {size} experiments with as many models", contestants, 5, note)
