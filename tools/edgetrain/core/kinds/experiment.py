"""Experiment: code, inputs and environment that make a model (Azure ML's command or sweep job)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edgetrain.core.document import Document
from edgetrain.core.kinds.common import Metadata, below
from edgetrain.core.quantity import bytes_of, seconds_of

LATEST = "latest"
DEFAULT_TIMEOUT = 4 * 3600
DEFAULT_OUTPUT_SIZE = 2**30


@dataclass(frozen=True)
class DataInput:
    """Private data, read where it lies. `digest` is `sha256:...` or `latest`."""

    name: str
    type: str
    datastore: str
    path: str
    digest: str
    on_change: str = "propose"

    @property
    def single(self) -> bool:
        """Whether it is a file, not a folder."""
        return self.type == "uri_file"


@dataclass(frozen=True)
class Output:
    """A declared output; `path` is relative to EDGETRAIN_OUTPUTS, `max_size` in bytes."""

    name: str
    type: str
    path: str
    max_size: int


@dataclass(frozen=True)
class Environment:
    """Base image by digest, the lock file's path relative to the experiment, Python minor and platform."""

    image: str | None = None
    requirements: str | None = None
    python: str | None = None
    platform: str | None = None


@dataclass(frozen=True)
class Sweep:
    """How trials are made: see `core.search`."""

    algorithm: str
    seed: int
    space: Mapping[str, Mapping[str, Any]]
    trials: tuple[Mapping[str, Any], ...]
    max_trials: int | None
    goal: str
    metric: str


@dataclass(frozen=True)
class Resources:
    """What one run asks of its target; sizes in bytes, None where the target's default holds."""

    cpus: int | None = None
    memory: int | None = None
    gpus: int = 0
    shm: int | None = None
    tmp: int | None = None
    pids: int | None = None


@dataclass(frozen=True)
class Waiver:
    """A named exception to the egress rules, until a date."""

    code: str
    reason: str
    owner: str
    expires: str
    path: str | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment. `timeout` in seconds; `parameters` are the literal inputs."""

    metadata: Metadata
    document: Document = field(repr=False, compare=False)
    model: str
    compute: str | None
    selector: Mapping[str, str]
    code: str
    command: str
    data: Mapping[str, DataInput]
    parameters: Mapping[str, Any]
    outputs: Mapping[str, Output]
    metrics: tuple[str, ...]
    environment: Environment
    resources: Resources
    timeout: int
    retries: int
    max_concurrent: int | None
    seed: int | None
    logs: str
    waivers: tuple[Waiver, ...]
    sweep: Sweep | None
    signature: Mapping[str, Any] | None

    @classmethod
    def from_document(cls, document: Document) -> Experiment:
        """From a document that passed the schema."""
        spec = document.data["spec"]
        inputs = spec.get("inputs", {})
        limits = spec.get("limits", {})
        egress = spec.get("egress", {})
        compute = spec["compute"]
        return cls(
            metadata=Metadata.parse(document.data["metadata"]),
            document=document,
            model=spec["model"],
            compute=compute if isinstance(compute, str) else None,
            selector={} if isinstance(compute, str) else dict(compute["selector"]),
            code=spec.get("code", "."),
            command=spec["command"],
            data={name: _data(name, value, spec) for name, value in inputs.items() if isinstance(value, dict)},
            parameters={name: value for name, value in inputs.items() if not isinstance(value, dict)},
            outputs={name: _output(name, value) for name, value in spec.get("outputs", {}).items()},
            metrics=tuple(spec.get("metrics", ())),
            environment=Environment(**spec.get("environment", {})),
            resources=_resources(spec.get("resources", {})),
            timeout=seconds_of(limits["timeout"]) if "timeout" in limits else DEFAULT_TIMEOUT,
            retries=limits.get("retries", 0),
            max_concurrent=limits.get("maxConcurrentTrials"),
            seed=spec.get("seed"),
            logs=egress.get("logs", "site"),
            waivers=tuple(Waiver(**waiver) for waiver in egress.get("waivers", ())),
            sweep=_sweep(spec, limits),
            signature=spec.get("signature"),
        )

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.metadata.name

    @cached_property
    def folder(self) -> str:
        """Where the experiment lies in the repository."""
        return f"experiments/{self.metadata.name}"

    @cached_property
    def code_folder(self) -> str:
        """Where the code lies in the repository."""
        return below(self.folder, self.code)

    @property
    def lock_path(self) -> str | None:
        """Where the lock file lies in the repository; None if the experiment needs no packages."""
        lock = self.environment.requirements
        return None if lock is None else below(self.folder, lock)


def _data(name: str, value: Mapping[str, Any], spec: Mapping[str, Any]) -> DataInput:
    return DataInput(
        name=name,
        type=value["type"],
        datastore=value["datastore"],
        path=value["path"],
        digest=value.get("digest", LATEST),
        on_change=value.get("onChange", spec.get("onChange", "propose")),
    )


def _output(name: str, value: Mapping[str, Any]) -> Output:
    size = value.get("maxSize")
    return Output(name, value["type"], value["path"], DEFAULT_OUTPUT_SIZE if size is None else bytes_of(size))


def _resources(value: Mapping[str, Any]) -> Resources:
    def size(key: str) -> int | None:
        return bytes_of(value[key]) if key in value else None

    return Resources(
        cpus=value.get("cpus"),
        memory=size("memory"),
        gpus=value.get("gpus", 0),
        shm=size("shmSize"),
        tmp=size("tmpSize"),
        pids=value.get("pids"),
    )


def _sweep(spec: Mapping[str, Any], limits: Mapping[str, Any]) -> Sweep | None:
    algorithm = spec.get("samplingAlgorithm")
    if algorithm is None:
        return None
    objective = spec.get("objective", {})
    return Sweep(
        algorithm=algorithm["type"],
        seed=algorithm.get("seed", 0),
        space=spec.get("searchSpace", {}),
        trials=tuple(algorithm.get("trials", ())),
        max_trials=limits.get("maxTotalTrials"),
        goal=objective.get("goal", "maximize"),
        metric=objective.get("primaryMetric", ""),
    )
