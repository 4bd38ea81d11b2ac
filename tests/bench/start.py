"""How long edgetrain takes to start: `--help`, and `validate` of a small repository."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.apply.site import SmallSite
from tests.bench.runner import EDGETRAIN, Contestant, Race, command
from tests.bench.sample import forget

SIZE, UNIT = 11, "turns"
CHANGED = "experiments/mean/experiment.yaml"


def bench(folder: Path, size: int) -> Iterator[Race]:
    """One race."""
    site = SmallSite(folder).make()
    note = "`validate` asks git for the history as well: a dozen short git processes, half as many later."
    validate = command(EDGETRAIN, "validate", cwd=site.clone)
    contestants = [
        Contestant("`python -c pass`", command(sys.executable, "-c", "pass")),
        Contestant('`python -c "import click"`', command(sys.executable, "-c", "import click")),
        Contestant("`edgetrain --help`", command(EDGETRAIN, "--help")),
        Contestant("`edgetrain validate`, one experiment, first look", validate, lambda: forget(site)),
        Contestant("`edgetrain validate`, nothing changed", validate),
        # What the hook of pre-commit runs; it is to be done in a second.
        Contestant(
            "`edgetrain validate FILE`, a changed one", command(EDGETRAIN, "validate", CHANGED, cwd=site.clone)
        ),
    ]
    yield Race("Start", contestants, size, note)
