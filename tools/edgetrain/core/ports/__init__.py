"""What a provider must do: the ports, and the plain values that cross them.

Every method is "ensure": called again with the same arguments it changes nothing and answers the same.
Every method raises only `core.errors.ProviderError` and its kinds.
A provider is made by its factory in `providers/table.py` and gives the ports that it has.
"""

from edgetrain.core.ports.artifacts import ARTIFACT_SPOILT, ArtifactStore
from edgetrain.core.ports.attachments import Attachment, Attachments, AttachmentState, WantedAttachment
from edgetrain.core.ports.check import Check, CheckStatus
from edgetrain.core.ports.compute import Compute, Probed
from edgetrain.core.ports.data import DataDigest, DataEntry, DataSource, Datastore, DataStream
from edgetrain.core.ports.egress import EgressFinding, EgressRules, Examination, Leaving
from edgetrain.core.ports.forge import Account, CheckResult, Forge, PullRequest, Review, WorkflowRun
from edgetrain.core.ports.images import BaseImage, Image, ImagePart, Layer, Registry
from edgetrain.core.ports.runs import (
    EgressLevel,
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
