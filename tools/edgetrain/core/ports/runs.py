"""The plain values of a compute target and its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from edgetrain.core.ports.data import DataSource
from edgetrain.core.ports.egress import Leaving
from edgetrain.core.ports.level import EgressLevel

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class TargetStatus:
    """What a compute target is, as observed now.

    `python` is a minor version such as `3.11` (empty where each run's image brings its own), `platform` such
    as `linux/amd64`. `isolation` tells each restriction and whether it is in force
    (`{"network": True, "pidNamespace": True, ...}`).
    If not `ready`, `reason` (CamelCase) and `message` say why and what to do.
    """

    ready: bool
    egress: EgressLevel
    python: str
    platform: str
    isolation: Mapping[str, bool] = field(default_factory=dict)
    reason: str = "Ready"
    message: str = ""


@dataclass(frozen=True)
class InputMount:
    """A data input of a run: what the script sees under `EDGETRAIN_INPUT_<NAME>`, read-only.

    `single_file` is true for `uri_file`: the path given to the script is the file, not a folder.
    """

    name: str
    source: DataSource
    digest: str
    single_file: bool = False


@dataclass(frozen=True)
class RunLimits:
    """Bounds of a run. Sizes in bytes, time in seconds; None for `memory` means the target's capacity."""

    timeout: int
    memory: int | None = None
    cpus: int | None = None
    gpus: int = 0
    pids: int = 512
    shm: int = 64 * 2**20
    tmp: int = 2**30
    outputs: int = 2**30
    log: int = 16 * 2**20


@dataclass(frozen=True)
class RunSpec:
    """All that a target needs to run one attempt, with nothing of git or manifests in it.

    `id` is `<experiment>-<identity12>-<attempt>`, safe as a file name. `command` is for `/bin/sh -c`; the
    markers `{{inputs.NAME}}` and `{{outputs}}` stand where shell-quoted paths go (the target knows them),
    all values are already in and quoted. `parameters` is EDGETRAIN_PARAMS. `code` is a folder that holds
    the exact export; `requirements` the bytes of the lock file (empty: no packages); `image` a base image
    by digest or None. `outputs` maps each declared output's name to its path inside the outputs folder.
    `leaving` and `tags` (what a person finds the run by) are for targets that tell of runs by themselves.
    """

    id: str
    command: str
    parameters: Mapping[str, Any]
    seed: int | None
    code: Path
    requirements: bytes
    image: str | None
    python: str
    inputs: Sequence[InputMount]
    outputs: Mapping[str, str]
    limits: RunLimits
    require_enforced: bool = True
    leaving: Leaving | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class RunPhase(StrEnum):
    """Where a run is. `LOST`: it was started and is gone without having written how it ended."""

    ABSENT = "absent"
    PREPARING = "preparing"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


@dataclass(frozen=True)
class RunState:
    """A run as seen on its target.

    When `ENDED`, `ended_by` says how: `exit` (see `exit_code`), `signal`, `timeout`, `cancel`, `memory`,
    `outputs-limit`, `environment` (its packages could not be installed), `sandbox` (isolation failed),
    `data` (an input's digest is not the expected one). Times are RFC 3339 in UTC. `level` is the egress
    level that was in force, `isolation` the restrictions observed, `usage` holds figures such as
    `maxMemoryBytes`, `cpuSeconds`.
    """

    phase: RunPhase
    exit_code: int | None = None
    ended_by: str = ""
    message: str = ""
    started: str | None = None
    ended: str | None = None
    level: EgressLevel = EgressLevel.ADVISORY
    isolation: Mapping[str, bool] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputFile:
    """One file in the outputs folder: relative path, size in bytes, digest."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class MetricPoint:
    """One point of a metric's history."""

    name: str
    value: float
    step: int


@dataclass(frozen=True)
class Harvest:
    """What a run left behind, as found by a limited, network-less reader; nothing in it is trusted.

    `metrics` are the final numbers (`metrics.json`, else the last of the MLflow file), `history` from
    `metrics.jsonl` and the MLflow file. `faults` are human sentences: unreadable metrics, a non-number,
    a symlink, a device, too many files: any fault makes the run `rejected`. `slices` are the metrics by slice of
    the data, from the key of that name in `metrics.json`; only an evaluation's are kept.
    """

    files: Sequence[OutputFile]
    metrics: Mapping[str, float]
    history: Sequence[MetricPoint] = ()
    faults: Sequence[str] = ()
    slices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredEnvironment:
    """An environment that a target keeps: size in bytes; `built` RFC 3339, None while it is not whole."""

    id: str
    size: int
    built: str | None
