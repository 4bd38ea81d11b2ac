"""What a provider must do: the ports, and the plain values that cross them.

Every method is "ensure": called again with the same arguments it changes nothing and answers the same.
Every method raises only `core.errors.ProviderError` and its kinds.
A provider is made by its factory in `providers/table.py` and gives the ports that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class EgressLevel(StrEnum):
    """Whether the target keeps a script from the network and the host, as observed."""

    ENFORCED = "enforced"
    ADVISORY = "advisory"


# --- compute -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TargetStatus:
    """What a compute target is, as observed now.

    `python` is a minor version such as `3.11`, `platform` such as `linux/amd64`. `isolation` tells each
    restriction and whether it is in force (`{"network": True, "pidNamespace": True, ...}`).
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
class DataSource:
    """Where a compute target finds an input: `kind` `folder` has `location` as an absolute path;
    other kinds (`azure-blob`) put what they need in `access`, which is never logged or stored."""

    kind: str
    location: str
    access: Mapping[str, str] = field(default_factory=dict, repr=False)


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
    a symlink, a device, too many files: any fault makes the run `rejected`.
    """

    files: Sequence[OutputFile]
    metrics: Mapping[str, float]
    history: Sequence[MetricPoint] = ()
    faults: Sequence[str] = ()


@dataclass(frozen=True)
class StoredEnvironment:
    """An environment that a target keeps: size in bytes; `built` RFC 3339, None while it is not whole."""

    id: str
    size: int
    built: str | None


class Compute(Protocol):
    """A place where runs are made. One instance serves one compute target."""

    def observe(self) -> TargetStatus:
        """Look at the target, starting nothing that lasts."""

    def start(self, spec: RunSpec) -> None:
        """Start the run detached, unless a run of this id was ever started here. Returns at once.

        The run goes on if the caller dies. Raises Rejected if `require_enforced` can't be met.
        """

    def inspect(self, run_id: str) -> RunState:
        """How the run is now."""

    def cancel(self, run_id: str, reason: str) -> None:
        """End the run and everything it started; it becomes `ENDED` by `cancel`. An ended run stays as it is."""

    def logs(self, run_id: str, follow: bool = False) -> Iterator[str]:
        """The script's output, line by line; with `follow` until the run ends."""

    def harvest(self, run_id: str, outputs: Mapping[str, str]) -> Harvest:
        """Read what an ended run left. `outputs` are the declared ones (name to path): only these, and the
        metrics files, may be in `files` without being a fault."""

    def fetch(self, run_id: str, path: str, into: Path) -> None:
        """Copy one output file (a path that `harvest` named) to the file `into`, never following a link."""

    def forget(self, run_id: str) -> None:
        """Remove what the run left on the target, except that it was started."""

    def runs(self) -> Sequence[str]:
        """The ids of all runs that the target still holds."""

    def environment(self, requirements: bytes) -> str:
        """The id that the environment of this lock file has on the target, built or not."""

    def environments(self) -> Sequence[StoredEnvironment]:
        """The environments that the target keeps; targets that share a store answer the same."""

    def drop_environment(self, environment: str) -> None:
        """Remove an environment that nothing uses; it is built anew when needed. Raises Conflict while it is
        being built."""


# --- data --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataDigest:
    """The content digest of an input with what may be told of it: counts and bytes, never names."""

    digest: str
    files: int
    bytes: int


class Datastore(Protocol):
    """A place at the site that holds private data. Paths are relative to the datastore's root."""

    def digest(self, path: str, progress: Callable[[int], None] | None = None) -> DataDigest:
        """Digest the file or folder at `path` (`core.digest.tree_digest` over names and contents; a single
        file counts as a tree of its base name). Cached by (name, size, mtime). `progress` gets bytes read.

        Raises NotFound; Rejected for a path outside the root, a symlink or a special file."""

    def source(self, path: str) -> DataSource:
        """What a compute target needs to read `path`."""


# --- artifacts ---------------------------------------------------------------------------------------


class ArtifactStore(Protocol):
    """The site's durable, content-addressed store, its claims (create if absent) and its locks."""

    def put_file(self, source: Path) -> str:
        """Store a file's bytes and answer their digest. A partial write is never visible."""

    def put_bytes(self, data: bytes) -> str:
        """Store bytes and answer their digest."""

    def open(self, digest: str) -> BinaryIO:
        """The stored bytes. Raises NotFound."""

    def size(self, digest: str) -> int | None:
        """How many bytes, or None if absent."""

    def digests(self) -> Iterator[tuple[str, int]]:
        """All stored digests and their sizes."""

    def delete(self, digest: str) -> None:
        """Remove if present."""

    def claim(self, name: str, value: bytes) -> bytes:
        """Create `name` (slash-separated, safe parts) with `value` if absent; answer what it now holds."""

    def claims(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """All claims whose name starts with `prefix`."""

    def release_claim(self, name: str) -> None:
        """Remove a claim if present."""

    def lock(self, name: str, timeout: float = 60.0) -> AbstractContextManager[None]:
        """Hold the lock of one object; a crashed holder's lock is free again. Raises Conflict on time-out."""


# --- workspace ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WorkspaceVersion:
    """A registered model version: the workspace's own number, and our tags on it."""

    number: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class WorkspaceModel:
    """A registered model: our version number to what the workspace has; channel to our version number.

    `channels` holds only aliases of versions that we registered; -1 for an alias on a version not ours.
    """

    versions: Mapping[int, WorkspaceVersion] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackedRun:
    """What is told to the workspace of one run. `id` is `<experiment>-<identity12>-<attempt>`."""

    id: str
    experiment: str
    outcome: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    history: Sequence[MetricPoint]
    tags: Mapping[str, str]
    started: str | None
    ended: str | None


class Workspace(Protocol):
    """Where runs and models are tracked."""

    def observe(self, models: Sequence[str]) -> Mapping[str, WorkspaceModel]:
        """What the workspace holds of these models; absent models are left out."""

    def track(self, run: TrackedRun) -> str:
        """Ensure the run is there, whole, once; answer the workspace's own run id."""

    def register(self, model: str, version: int, run_id: str, digest: str, tags: Mapping[str, str]) -> str:
        """Ensure the version is registered (found again by our tags, never by number); answer its number.

        `run_id` is the workspace's own run id (empty if unknown), `digest` the model artifact's digest."""

    def mark(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Ensure these tags on a registered version."""

    def alias(self, model: str, channel: str, version: int | None) -> None:
        """Ensure the channel points to our `version`; None removes it."""

    def where(self) -> str:
        """Where a person can look, in a line (no secret in it)."""


# --- images ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One layer: descriptor facts, and `open` to read its (compressed) bytes from the start."""

    digest: str
    size: int
    media_type: str
    diff_id: str
    open: Callable[[], BinaryIO] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Image:
    """An assembled image. `manifest` and `config` are exact bytes; `layers` in order, base first."""

    manifest: bytes
    config: bytes
    layers: Sequence[Layer]

    media_type: str = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class BaseImage:
    """A base by digest: its config (parsed) and its layers."""

    digest: str
    config: Mapping[str, Any]
    layers: Sequence[Layer]


class Registry(Protocol):
    """Where images go."""

    def base(self, reference: str) -> BaseImage:
        """The image `repository@sha256:...`, checked against its digest. Raises NotFound."""

    def push(self, repository: str, image: Image) -> str:
        """Ensure the image is there, blobs before manifest; answer the manifest's digest."""

    def tag(self, repository: str, tag: str, digest: str | None) -> None:
        """Ensure the tag points to the manifest `digest` (which is there); None removes it."""

    def tags(self, repository: str) -> Mapping[str, str]:
        """All tags and the manifest digests that they point to; empty for an absent repository."""

    def has(self, repository: str, digest: str) -> bool:
        """Whether the manifest is there with all its blobs."""

    def where(self, repository: str) -> str:
        """How a person names the repository, in a line."""
