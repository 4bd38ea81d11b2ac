"""Planning, and applying when nothing is to do: many experiments with records, a remote, the embedded providers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.apply.site import SmallSite
from tests.bench.peers import absent, peer
from tests.bench.runner import EDGETRAIN, Contestant, Race, command
from tests.bench.sample import editing, forget, merging, pack, with_experiments, with_records
from tests.bench.stages import forget_stages, make_stages

SIZE, UNIT = 1000, "experiments; of ten times as many a plan is made too"
TIMES, PROPORTION = 10, 2


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Three races on one repository, and one on another, ten times larger."""
    site = _site(folder, size)
    contestants = []
    if dvc := peer("dvc"):
        stages = make_stages(dvc, folder / "stages", size)
        status = command(dvc, "status", cwd=stages)
        contestants = [
            Contestant(f"`dvc status` of {size} stages", status),
            Contestant("`dvc status`, first look", status, lambda: forget_stages(stages)),
        ]
    contestants += _plans(site)
    note = (
        "Every experiment has a record; the plan holds no change. The loop parses the same files and no more. "
        "Stages have the experiments' scripts and data, each in a folder and files of its own, and are up to date; "
        "`dvc` remembers their digests, as edgetrain remembers its plan. The first look is without any memory; "
        "edgetrain's is a whole `validate` too."
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
    plan = command(EDGETRAIN, "plan", cwd=site.clone)
    contestants = [
        *contestants[:1],
        Contestant("`edgetrain plan`, one manifest edited", plan, editing(site)),
        Contestant("`edgetrain plan`, one more record", plan, merging(site)),
    ]
    note = (
        "Before each turn of edgetrain one manifest is edited, or one record merged. It reads what changed, and "
        "thinks all through again."
    )
    yield Race(f"Plan {size} experiments with records, offline, after one change", contestants, 5, note)
    more = size * TIMES
    note = f"For the proportion to {size}: the loop, and edgetrain."
    yield Race(
        f"Plan {more} experiments with records, offline", _plans(_site(folder / "more", more)), PROPORTION, note
    )


def _site(folder: Path, size: int) -> SmallSite:
    """A site with one released model and as many experiments, each with its record."""
    folder.mkdir(exist_ok=True)
    site = SmallSite(folder).make()
    site.release()
    with_experiments(site, size)
    with_records(site)
    pack(site)
    return site


def _plans(site: SmallSite) -> list[Contestant]:
    plan = command(EDGETRAIN, "plan", cwd=site.clone)
    loop = command(sys.executable, "-m", "tests.bench.loop", "parse", site.clone)
    return [
        Contestant("plain loop: `yaml.CSafeLoader`, `json`", loop),
        Contestant("`edgetrain plan`, first look", plan, lambda: forget(site)),
        Contestant("`edgetrain plan`, nothing changed", plan),
    ]
