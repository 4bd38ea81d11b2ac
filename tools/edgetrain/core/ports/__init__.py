"""What a provider must do: the ports, and the plain values that cross them.

Every method is "ensure": called again with the same arguments it changes nothing and answers the same.
Every method raises only `core.errors.ProviderError` and its kinds.
Each file is imported when something of it is first asked for: an offline plan asks for few.

A provider is made by its factory in `providers/table.py` and gives the ports that it has.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetrain.core.ports.artifacts import ARTIFACT_SPOILT, ArtifactStore
    from edgetrain.core.ports.attachments import Attachment, Attachments, AttachmentState, WantedAttachment
    from edgetrain.core.ports.check import Check, CheckStatus
    from edgetrain.core.ports.compute import Compute, Probed
    from edgetrain.core.ports.data import DataDigest, DataEntry, DataSource, Datastore, DataStream
    from edgetrain.core.ports.egress import EgressFinding, EgressRules, Examination, Leaving
    from edgetrain.core.ports.forge import Account, CheckResult, Forge, PullRequest, Review, WorkflowRun
    from edgetrain.core.ports.images import BaseImage, Image, ImagePart, Layer, Registry
    from edgetrain.core.ports.level import EgressLevel
    from edgetrain.core.ports.runs import (
        Harvest,
        InputMount,
        MetricPoint,
        OutputFile,
        RunLimits,
        RunPhase,
        RunSpec,
        RunState,
        StoredEnvironment,
        TargetStatus,
    )
    from edgetrain.core.ports.settings import Outbound, Settings, TargetSettings
    from edgetrain.core.ports.workspace import TrackedEntry, TrackedRun, Workspace, WorkspaceModel, WorkspaceVersion

__all__ = [
    "ARTIFACT_SPOILT",
    "Account",
    "ArtifactStore",
    "Attachment",
    "AttachmentState",
    "Attachments",
    "BaseImage",
    "Check",
    "CheckResult",
    "CheckStatus",
    "Compute",
    "DataDigest",
    "DataEntry",
    "DataSource",
    "DataStream",
    "Datastore",
    "EgressFinding",
    "EgressLevel",
    "EgressRules",
    "Examination",
    "Forge",
    "Harvest",
    "Image",
    "ImagePart",
    "InputMount",
    "Layer",
    "Leaving",
    "MetricPoint",
    "Outbound",
    "OutputFile",
    "Probed",
    "PullRequest",
    "Registry",
    "Review",
    "RunLimits",
    "RunPhase",
    "RunSpec",
    "RunState",
    "Settings",
    "StoredEnvironment",
    "TargetSettings",
    "TargetStatus",
    "TrackedEntry",
    "TrackedRun",
    "WantedAttachment",
    "WorkflowRun",
    "Workspace",
    "WorkspaceModel",
    "WorkspaceVersion",
]

_FILES = {
    "artifacts": ("ARTIFACT_SPOILT", "ArtifactStore"),
    "attachments": ("Attachment", "Attachments", "AttachmentState", "WantedAttachment"),
    "check": ("Check", "CheckStatus"),
    "compute": ("Compute", "Probed"),
    "data": ("DataDigest", "DataEntry", "DataSource", "Datastore", "DataStream"),
    "egress": ("EgressFinding", "EgressRules", "Examination", "Leaving"),
    "forge": ("Account", "CheckResult", "Forge", "PullRequest", "Review", "WorkflowRun"),
    "images": ("BaseImage", "Image", "ImagePart", "Layer", "Registry"),
    "level": ("EgressLevel",),
    "runs": (
        "Harvest",
        "InputMount",
        "MetricPoint",
        "OutputFile",
        "RunLimits",
        "RunPhase",
        "RunSpec",
        "RunState",
        "StoredEnvironment",
        "TargetStatus",
    ),
    "settings": ("Outbound", "Settings", "TargetSettings"),
    "workspace": ("TrackedEntry", "TrackedRun", "Workspace", "WorkspaceModel", "WorkspaceVersion"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _FILE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
        globals()[name] = found
        return found
