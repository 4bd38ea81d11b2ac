"""Checking many manifests: `edgetrain validate`, `check-jsonschema`, and a plain loop of YAML and JSON Schema."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

from tests.apply.site import SmallSite
from tests.bench.peers import absent, peer
from tests.bench.runner import EDGETRAIN, Contestant, Race, Sample, command
from tests.bench.sample import forget, with_experiments

SIZE, UNIT = 10_000, "experiments"


def bench(folder: Path, size: int) -> Iterator[Race]:
    """One race."""
    site = SmallSite(folder).make()
    with_experiments(site, size)
    schemas = Path(str(resources.files("edgetrain") / "schemas"))
    contestants = []
    if program := peer("check-jsonschema"):
        turns = [_checked(program, site.clone, schemas, kind) for kind in ("experiment", "model")]
        contestants.append(Contestant("`check-jsonschema`: the experiments, then the models", _sum(*turns)))
    loop = command(sys.executable, "-m", "tests.bench.loop", "check", site.clone, schemas)
    validate = command(EDGETRAIN, "validate", cwd=site.clone)
    contestants += [
        Contestant("plain loop: `yaml.CSafeLoader`, `jsonschema`", loop),
        Contestant("`edgetrain validate`, first look", validate, lambda: forget(site)),
        Contestant("`edgetrain validate`, nothing changed", validate),
    ]
    note = (
        "The others check each file by itself. `validate` also digests the code, looks through it, follows the "
        "references, compares with the branch of merged facts, and gives every fault its line. The first look has "
        "no memory of an earlier one; half of the manifests are read by a second process."
    )
    yield Race(
        f"Validate {size} experiments with as many models", contestants, 2, note + absent("check-jsonschema")
    )


def _checked(program: str, root: Path, schemas: Path, kind: str) -> Callable[[], Sample]:
    files = sorted(root.glob(f"{kind}s/*/{kind}.yaml"))
    return command(program, "--schemafile", schemas / f"{kind}.schema.json", *files)


def _sum(*turns: Callable[[], Sample]) -> Callable[[], Sample]:
    def turn() -> Sample:
        samples = [each() for each in turns]
        return Sample(sum(one.seconds for one in samples), max(one.memory or 0 for one in samples))

    return turn
