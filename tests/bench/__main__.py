"""Runs the benchmarks: `python -m tests.bench [NAME...] [--size N] [--write]`."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tests.bench.peers import how
from tests.bench.runner import ROOT, markdown, run

NAMES = (
    "start",
    "validate",
    "workspaces",
    "reconcile",
    "history",
    "training",
    "data",
    "image",
    "deep",
    "push",
    "scheduler",
    "staging",
    "edge",
)
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """\
# Benchmarks

Written by `make bench`; {when}. On {machine}.

Everything in one table ran on the same input in the same run, by turns, in alternating order, after one turn that
does not count. Times are wall-clock medians; *times the first* is the median over the turns of a row's time over
the first row's of the same turn. Compare ratios, not seconds: they hold on other machines too.

```sh
make bench                                             # all, and write this page
.venv/bin/python -m tests.bench {names}
.venv/bin/python -m tests.bench validate --size 2000   # {units}
{peers}
```
"""


def main() -> None:
    """Print each table as it is done; with `--write` also the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--size", type=int, metavar="N", help="of the one benchmark named, in its own unit")
    parser.add_argument(
        "--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}; only with all of them"
    )
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
    if options.size is not None and (len(options.names) != 1 or options.size < 1):
        parser.error("--size needs one benchmark's name, and at least 1")
    if options.write and options.names:
        parser.error("--write writes the page of all benchmarks: name none")
    began, page = time.monotonic(), [_head()]
    with tempfile.TemporaryDirectory(prefix="edgetrain-bench-") as folder:
        tempfile.tempdir = folder  # what the parts leave goes with it
        for name in options.names or NAMES:
            for section in _sections(name, Path(folder) / name, options.size):
                page.append(section)
                print(section, end="\n\n", flush=True)
    print(f"{time.monotonic() - began:.0f} s in all", file=sys.stderr)
    if options.write:
        PAGE.write_text("\n".join([page[0], "\n\n".join(page[1:])]) + "\n")


def _sections(name: str, folder: Path, size: int | None) -> Iterator[str]:
    module = import_module(f"tests.bench.{name}")
    folder.mkdir()
    for race in module.bench(folder, size or module.SIZE):
        yield markdown(race, run(race))


def _head() -> str:
    log = ["git", "log", "-1", "--date=short", "--format=%cd, at commit %h"]
    when = subprocess.run(log, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    units = "; ".join(f"{name}: {import_module(f'tests.bench.{name}').UNIT}" for name in NAMES)
    return HEAD.format(when=when, machine=_machine(), names=" ".join(NAMES), units=units, peers="\n".join(how()))


def _machine() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    git = subprocess.run(["git", "--version"], check=True, capture_output=True, text=True).stdout.split()[2]
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, git {git}, load {load:.1f} at the beginning"
    )


if __name__ == "__main__":
    main()
