"""The port of a workspace."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgetrain.core.ports.check import Check
from edgetrain.core.ports.runs import MetricPoint


@dataclass(frozen=True)
class WorkspaceVersion:
    """A registered model version: the workspace's own number, our tags on it, and in `fixed` what of ours nobody
    can change there, if the workspace has such a thing."""

    number: str
    tags: Mapping[str, str]
    fixed: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class WorkspaceModel:
    """A registered model: our version number to what the workspace has; channel to our version number.

    `channels` holds only aliases of versions that we registered; -1 for an alias on a version not ours.
    `foreign` are the workspace's own numbers of versions that do not carry our tags.
    """

    versions: Mapping[int, WorkspaceVersion] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    foreign: Sequence[str] = ()


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


@dataclass(frozen=True)
class TrackedEntry:
    """A tracked run as the workspace holds it now: final metrics, parameters and tags as far as it tells them."""

    metrics: Mapping[str, float]
    parameters: Mapping[str, str]
    tags: Mapping[str, str]


class Workspace(Protocol):
    """Where runs and models are tracked."""

    def observe(self, models: Sequence[str]) -> Mapping[str, WorkspaceModel]:
        """What the workspace holds of these models; absent models are left out."""

    def track(self, run: TrackedRun) -> str:
        """Ensure the run is there, whole, once; answer the workspace's own run id."""

    def tracked(self, run_id: str, metrics: Collection[str]) -> TrackedEntry | None:
        """What is there of a run, by the workspace's own id, with these metrics; None if it is not there."""

    def register(self, model: str, version: int, run_id: str, digest: str, tags: Mapping[str, str]) -> str:
        """Ensure the version is registered (found again by our tags, never by number); answer its number.

        `run_id` is the workspace's own run id (empty if unknown), `digest` the model artifact's digest."""

    def mark(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Ensure these tags on a registered version."""

    def alias(self, model: str, channel: str, version: int | None) -> None:
        """Ensure the channel points to our `version`; None removes it."""

    def where(self) -> str:
        """Where a person can look, in a line (no secret in it)."""

    def diagnose(self) -> Sequence[Check]:
        """Whether the workspace answers, and may be written."""

    def rehearse(self) -> Sequence[Check]:
        """Whether what apply does there works: a tiny run with a metric, and a model, under names that begin
        with `edgetrain-doctor`, told and taken away again. What can't be taken away is left as one harmless
        thing of that name, and found again next time. Raises nothing that it can tell as a check."""
