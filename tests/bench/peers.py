"""Other people's programs to race against, where this machine has them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from tests.bench.runner import BIN

# The folder with programs that live in a virtual environment of their own, such as dvc and gto.
FOLDER = "EDGETRAIN_BENCH_PEERS"


def peer(name: str) -> str | None:
    """The program's path: in the folder that FOLDER names, beside this Python, or on PATH."""
    folders = (os.environ.get(FOLDER, ""), str(BIN), os.environ.get("PATH", ""))
    return shutil.which(name, path=os.pathsep.join(filter(None, folders)))


def absent(*names: str) -> str:
    """A sentence on those that are not here, for a race's note."""
    gone = [name for name in names if peer(name) is None]
    if not gone:
        return ""
    told = " and ".join(f"`{name}`" for name in gone)
    verb = "is" if len(gone) == 1 else "are"
    return f" **Absent on this machine, so not in the race: {told}** (install what {verb} missing, see below)."


def how() -> Iterator[str]:
    """How to bring the peers that edgetrain does not need itself."""
    yield "python3 -m venv /tmp/peers && /tmp/peers/bin/pip install dvc gto   # to race against"
    yield f"{FOLDER}=/tmp/peers/bin make bench"
