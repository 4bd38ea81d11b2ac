"""The one runner: contestants take turns on the same input; medians, and ratios to the baseline turn by turn."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

METER = Path(__file__).with_name("meter.py")
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
EDGETRAIN = str(BIN / "edgetrain")


@dataclass(frozen=True)
class Sample:
    """One turn: seconds, and peak memory in bytes where it was measured."""

    seconds: float
    memory: int | None = None


@dataclass(frozen=True)
class Contestant:
    """Who takes part. `prepare` comes before each turn and is not timed."""

    name: str
    turn: Callable[[], Sample]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Race:
    """Contestants on one input, the baseline first. `note` says what a reader needs to judge the numbers."""

    title: str
    contestants: Sequence[Contestant]
    turns: int
    note: str = ""


@dataclass(frozen=True)
class Standing:
    """How a contestant did: medians over all turns; `ratio` is the median of its turns over the baseline's."""

    name: str
    seconds: float
    spread: tuple[float, float]
    memory: int | None
    ratio: float


@cache
def environment() -> Mapping[str, str]:
    """As at a user's: compiled Python is kept, here in a folder of this run; no settings of a developer's shell."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "EDGETRAIN_", "GIT_"))}
    folder = tempfile.mkdtemp(prefix="bytecode-")
    return {**kept, "PYTHONPYCACHEPREFIX": folder, "PYTHONPATH": str(ROOT)}


def command(*arguments: object, cwd: Path | None = None) -> Callable[[], Sample]:
    """A turn that runs a command, which must succeed; its output goes nowhere."""
    line = [str(argument) for argument in arguments]

    def turn() -> Sample:
        reader, writer = os.pipe()
        with tempfile.TemporaryFile() as errors, os.fdopen(reader) as answer:
            with os.fdopen(writer, "wb"):
                subprocess.run(
                    [sys.executable, "-I", "-S", str(METER), str(writer), *line],
                    cwd=cwd,
                    env=environment(),
                    pass_fds=(writer,),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    check=True,
                )
            seconds, memory, code = answer.read().split()
            if code != "0":
                errors.seek(0)
                said = errors.read()[-2000:].decode(errors="replace")
                raise RuntimeError(f"{' '.join(line)[:500]} ended with {code}: {said}")
        return Sample(float(seconds), int(memory))

    return turn


def call(act: Callable[[], object]) -> Callable[[], Sample]:
    """A turn that calls a function in this process; its memory is not measured."""

    def turn() -> Sample:
        began = time.perf_counter()
        act()
        return Sample(time.perf_counter() - began)

    return turn


def run(race: Race) -> list[Standing]:
    """One turn each that does not count, then `turns` rounds; every other round goes the other way round."""
    samples: dict[str, list[Sample]] = {one.name: [] for one in race.contestants}
    for number in range(race.turns + 1):
        for one in race.contestants if number % 2 else reversed(race.contestants):
            one.prepare()
            sample = one.turn()
            if number:
                samples[one.name].append(sample)
    baseline = samples[race.contestants[0].name]
    return [_standing(name, mine, baseline) for name, mine in samples.items()]


def _standing(name: str, mine: Sequence[Sample], baseline: Sequence[Sample]) -> Standing:
    seconds = [sample.seconds for sample in mine]
    memory = [sample.memory for sample in mine if sample.memory is not None]
    ratios = [own.seconds / other.seconds for own, other in zip(mine, baseline, strict=True)]
    return Standing(
        name, median(seconds), (min(seconds), max(seconds)), max(memory) if memory else None, median(ratios)
    )


def markdown(race: Race, standings: Sequence[Standing]) -> str:
    """The race as a Markdown section with a table."""
    lines = [f"## {race.title}", ""]
    if race.note:
        lines += [race.note, ""]
    lines += ["| | median | least – most | peak memory | times the first |", "|---|---:|---:|---:|---:|"]
    for one in standings:
        least, most = (_seconds(value) for value in one.spread)
        memory = f"{one.memory / 2**20:.0f} MiB" if one.memory else "–"
        lines.append(f"| {one.name} | {_seconds(one.seconds)} | {least} – {most} | {memory} | {one.ratio:.2f} |")
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return (
        f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.1f} ms"
    )
