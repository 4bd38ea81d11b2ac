"""Planning, and applying when nothing is to do: many experiments with records, a remote, the embedded providers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.apply.site import SmallSite
from tests.bench.peers import absent, peer
from tests.bench.runner import EDGETRAIN, Contestant, Race, command
from tests.bench.sample import forget, with_experiments, with_records
from tests.bench.stages import make_stages

SIZE, UNIT = 1000, "experiments"


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Two races on one repository."""
    site = SmallSite(folder).make()
    site.release()
    with_experiments(site, size)
    with_records(site)
    contestants = []
    if dvc := peer("dvc"):
        stages = make_stages(dvc, folder / "stages", size)
        contestants.append(Contestant(f"`dvc status` of {size} stages", command(dvc, "status", cwd=stages)))
    plan = command(EDGETRAIN, "plan", cwd=site.clone)
    contestants += [
        Contestant(
            "plain loop: `yaml.CSafeLoader`, `json`",
            command(sys.executable, "-m", "tests.bench.loop", "parse", site.clone),
        ),
        Contestant("`edgetrain plan`, first look", plan, lambda: forget(site)),
        Contestant("`edgetrain plan`, nothing changed", plan),
    ]
    note = (
        "Every experiment has a record; the plan holds no change. The loop parses the same files and no more. "
        "Stages have the experiments' scripts and data, each in a folder and files of its own, and are up to date; "
        "from its second call on `dvc` remembers their digests, as edgetrain remembers its plan. The first look is "
        "without any memory, and is a whole `validate` too."
    )
    yield Race(f"Plan {size} experiments with records, offline", contestants, 3, note + absent("dvc"))
    mlflow = Contestant('`python -c "import mlflow"`', command(sys.executable, "-c", "import mlflow"))
    apply = Contestant("`edgetrain apply`", command(EDGETRAIN, "apply", cwd=site.clone))
    note = (
        "Nothing is to do: main is fetched and read, the plan made, open proposals listed. One model is released, "
        "so the workspace and the image layout are asked: MLflow's tables in SQLite are read without importing "
        "MLflow, whose import alone would take what the first line says."
    )
    yield Race(f"Apply {size} experiments with records", [mlflow, apply], 3, note)
