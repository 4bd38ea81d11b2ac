"""What an audit tells of a model version: frozen values, made by `reconcile.audit`, written by `render.audit`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetrain.render.gates import Gate
from edgetrain.render.hands import Doubt, Hand


@dataclass(frozen=True)
class Source:
    """The experiment as it was trained."""

    experiment: str
    manifest: str
    code: str
    command: str
    commit: str
    parameters: Mapping[str, Any]
    seed: int | None
    proposed: Hand


@dataclass(frozen=True)
class Data:
    """One data input: counts, bytes and digest, never names."""

    name: str
    type: str
    datastore: str
    path: str
    digest: str
    files: int | None
    bytes: int | None


@dataclass(frozen=True)
class Training:
    """One run: where, how isolated, when, and how it ended."""

    run: str
    attempt: int
    outcome: str
    reason: str
    message: str
    target: str
    target_type: str
    site: str
    egress: str
    isolation: Mapping[str, bool]
    started: str | None
    ended: str | None
    seconds: float | None
    edgetrain: str
    retry: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Left:
    """What left the site with the run."""

    level: str
    logs: str
    files: int
    bytes: int
    waivers: tuple[Mapping[str, Any], ...]
    code: Mapping[str, Any] | None = None
    check: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Artifact:
    """One output that the version consists of; `files` is how many."""

    name: str
    type: str
    path: str
    digest: str
    size: int
    files: int


@dataclass(frozen=True)
class Release:
    """How the version was made real; `earlier` are its registrations in workspaces before this one."""

    workspace: str
    number: str
    registry: str
    repository: str
    digest: str
    base: str
    tags: tuple[str, ...]
    time: str | None
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class Move:
    """One move of a channel, to or from the version; None is: pointed to nothing."""

    channel: str
    before: int | None
    after: int | None
    hand: Hand
    time: str | None


@dataclass(frozen=True)
class Withdrawal:
    """Why the version was withdrawn; `recorded` is false until an apply has carried it out."""

    why: str
    hand: Hand
    recorded: bool


@dataclass(frozen=True)
class Paper:
    """One record that the story rests on, and who signed the commit that brought it."""

    path: str
    digest: str
    commit: str
    time: str | None
    signature: str
    signer: str = ""


@dataclass(frozen=True)
class Story:
    """The whole story of one version, from git alone."""

    model: str
    version: int
    description: str
    purpose: str
    path: str
    manifest: str
    source: Source
    data: tuple[Data, ...]
    environment: Mapping[str, Any]
    training: Training | None
    metrics: Mapping[str, float]
    metrics_source: str
    gates: tuple[Gate, ...]
    artifacts: tuple[Artifact, ...]
    left: Left
    approved: Hand
    release: Release | None
    channels: tuple[str, ...]
    moves: tuple[Move, ...] = ()
    withdrawal: Withdrawal | None = None
    papers: tuple[Paper, ...] = ()
    self_reported: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    doubts: tuple[Doubt, ...] = ()
    commit: str = field(default="", kw_only=True)

    @property
    def id(self) -> str:
        """`<model>@<number>`."""
        return f"{self.model}@{self.version}"


def point(number: int | None) -> str:
    """What a channel points to."""
    return "nothing" if number is None else str(number)
