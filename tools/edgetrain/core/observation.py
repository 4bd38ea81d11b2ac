"""Actual state as the providers told it: plain values, gathered by `reconcile.observe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetrain.core.ports import Attachment, DataDigest, TargetStatus, WantedAttachment, WorkspaceModel


@dataclass(frozen=True)
class Attached:
    """What the workspace has attached (`held`, by its name there), and what the site's targets want there
    (by target). `faults` says for a target why that can't be told. `owner` is the tag of what is ours. `datastores`
    are what the workspace has as such; `site` is whose runner looked."""

    owner: str
    held: Mapping[str, Attachment] = field(default_factory=dict)
    wanted: Mapping[str, WantedAttachment] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    site: str = ""
    datastores: Mapping[str, Attachment] = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """What was seen. `data` is by `(datastore, path)`; only what was needed was digested.

    `tickets` are started, unrecorded runs by run id; `retries` ask for a next attempt, by its run id.
    `tags` and `images` are by `(registry, repository)`. `proposals` maps an open proposal's branch to the
    digest of the run record that its version cites. `attachments` is None where nothing is attached, or no
    one looked.
    """

    targets: Mapping[str, TargetStatus] = field(default_factory=dict)
    data: Mapping[tuple[str, str], DataDigest] = field(default_factory=dict)
    tickets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    workspace: Mapping[str, WorkspaceModel] = field(default_factory=dict)
    tags: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    images: frozenset[tuple[str, str, str]] = frozenset()
    proposals: Mapping[str, str] = field(default_factory=dict)
    attachments: Attached | None = None
