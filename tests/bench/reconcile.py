"""Planning, and applying when nothing is to do: many experiments with records, a remote, the embedded providers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.apply.site import SmallSite
from tests.bench.runner import EDGETRAIN, Contestant, Race, command
from tests.bench.sample import with_experiments, with_records

SIZE, UNIT = 300, "experiments"


def bench(folder: Path, size: int) -> Iterator[Race]:
    """Two races on one repository."""
    site = SmallSite(folder).make()
    site.release()
    with_experiments(site, size)
    with_records(site)
    parse = command(sys.executable, "-m", "tests.bench.loop", "parse", site.clone)
    plan = Contestant("`edgetrain plan`", command(EDGETRAIN, "plan", cwd=site.clone))
    note = "Every experiment has a record; the plan holds no change. The loop parses the same files and no more."
    loop = Contestant("plain loop: `yaml.CSafeLoader`, `json`", parse)
    yield Race(f"Plan {size} experiments with records, offline", [loop, plan], 5, note)
    mlflow = Contestant('`python -c "import mlflow"`', command(sys.executable, "-c", "import mlflow"))
    apply = Contestant("`edgetrain apply`", command(EDGETRAIN, "apply", cwd=site.clone))
    note = (
        "Nothing is to do: main is fetched and read, the plan made, open proposals listed. One model is released, "
        "so the workspace (MLflow on SQLite) and the image layout are asked; importing MLflow is most of it."
    )
    yield Race(f"Apply {size} experiments with records", [mlflow, apply], 3, note)
