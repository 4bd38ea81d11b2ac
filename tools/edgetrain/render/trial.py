"""What a try-out gave, as text and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgetrain.core.problem import shown
from edgetrain.core.quantity import human_bytes
from edgetrain.render.gates import GATE_HEAD, Gate, gate_row
from edgetrain.render.jsons import as_json
from edgetrain.render.tables import aligned, labelled, lasted, number, plain
from edgetrain.render.words import value


@dataclass(frozen=True)
class Input:
    """One data input as it was read; `given` if it replaced the experiment's own."""

    name: str
    digest: str
    files: int
    bytes: int
    given: bool


@dataclass(frozen=True)
class File:
    """One file that the script left."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Trial:
    """One try-out. `outcome` is what the gates would make of it; `folder` holds outputs, log and this."""

    id: str
    experiment: str
    model: str
    outcome: str
    reason: str
    message: str
    parameters: Mapping[str, Any]
    inputs: tuple[Input, ...]
    target: str
    level: str
    isolation: Mapping[str, bool]
    metrics: Mapping[str, float]
    gates: tuple[Gate, ...]
    files: tuple[File, ...]
    started: str | None
    ended: str | None
    seconds: float | None
    folder: str
    notes: tuple[str, ...] = ()


def trial_text(trial: Trial) -> str:
    """For a terminal."""
    lines = [f"{shown(trial.id)}: {trial.outcome}"]
    lines += labelled([("why", f"{trial.reason}: {trial.message}".rstrip(": "))])
    if trial.metrics:
        lines += ["", *aligned([("metric", "value"), *((n, number(v)) for n, v in sorted(trial.metrics.items()))])]
    if trial.gates:
        lines += ["", "The gates as they would judge it:"]
        lines += aligned([GATE_HEAD, *map(gate_row, trial.gates)])
    if trial.files:
        rows = [(file.path, human_bytes(file.size), file.digest) for file in trial.files]
        lines += ["", *aligned([("output", "size", "digest"), *rows], limit=100)]
    facts = [("parameters", _parameters(trial.parameters))]
    facts += [(f"input {i.name}", _input(i)) for i in trial.inputs]
    facts += [("isolation", _isolation(trial))]
    if trial.seconds is not None:
        facts.append(("time", lasted(trial.seconds)))
    facts.append(("kept in", trial.folder))
    lines += ["", *labelled(facts)]
    lines += [f"  note: {shown(note, 500)}" for note in trial.notes]
    lines += ["", "Nothing was written to git, to the workspace or to the site's store."]
    return "\n".join(lines) + "\n"


def trial_json(trial: Trial) -> str:
    """For machines; also what is kept beside the outputs."""
    return as_json(plain(trial))


def _parameters(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value(found)}" for name, found in sorted(parameters.items())) or "none"


def _input(found: Input) -> str:
    files = f"{found.files} file{'' if found.files == 1 else 's'}"
    return f"{files}, {human_bytes(found.bytes)}, {value(found.digest)}{', given by --data' if found.given else ''}"


def _isolation(trial: Trial) -> str:
    if not any(trial.isolation.values()):
        return f"{trial.level}: without a sandbox"
    missing = sorted(name for name, held in trial.isolation.items() if not held)
    return f"{trial.level}{f', without {missing}' if missing else ': sandboxed, without a network'}"
