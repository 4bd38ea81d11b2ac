"""Runs apply in a process of its own that is killed (SIGKILL) at one of its steps."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from edgetrain.reconcile.report import Event
from tests.apply.kept_forge import KeptSite, serve
from tests.apply.site import SmallSite


def main() -> None:
    """`killed.py FOLDER N LOG`: the names of all steps go to LOG; at the Nth (from 0; -1: never), or at
    the first that is called N, we die. What is told goes beside it, to `LOG.told`."""
    folder, kill_at, log = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    site = SmallSite(folder)
    if (folder / "forge.pickle").exists():
        site = kept = KeptSite(folder)
        serve(kept)
    count = 0

    def step(name: str) -> None:
        nonlocal count
        with log.open("a") as file:
            file.write(name + "\n")
        if kill_at in (str(count), name):
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def report(event: Event) -> None:
        with log.with_suffix(".told").open("a") as file:
            file.write(f"{event.kind} {event.subject}\n")

    result = site.apply(step=step, report=report)
    sys.exit(0 if result.good else 3)


if __name__ == "__main__":
    main()
