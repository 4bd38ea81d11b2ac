"""ComputeTarget: a machine or cluster where experiments train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgetrain.core.document import Document
from edgetrain.core.kinds.common import Metadata
from edgetrain.core.quantity import bytes_of

# The block of `spec` that holds each type's own settings.
BLOCKS = {"ssh": "ssh", "azureml-vm": "azuremlVm", "azureml-kubernetes": "azuremlKubernetes"}
# Types whose runs are containers; those that Azure ML reaches itself, once attached; and the types of datastore
# that each type of target can read.
CONTAINERS = frozenset({"ssh", "azureml-vm"})
ATTACHED = frozenset({"azureml-vm", "azureml-kubernetes"})
READS = dict.fromkeys(CONTAINERS, frozenset({"folder", "azure-blob"}))


@dataclass(frozen=True)
class Capacity:
    """What a target has to give; `memory` in bytes, None where not declared."""

    cpus: int | None = None
    memory: int | None = None
    gpus: int = 0
    slots: int = 1


@dataclass(frozen=True)
class ComputeTarget:
    """One compute target. `settings` is the block of its type, as read; `ssh` how the site's runner reaches it."""

    metadata: Metadata
    document: Document = field(repr=False, compare=False)
    type: str
    site: str
    engine: str | None
    capacity: Capacity
    schedulable: bool
    settings: Mapping[str, Any]
    ssh: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_document(cls, document: Document) -> ComputeTarget:
        """From a document that passed the schema."""
        spec = document.data["spec"]
        capacity = spec.get("capacity", {})
        memory = capacity.get("memory")
        return cls(
            metadata=Metadata.parse(document.data["metadata"]),
            document=document,
            type=spec["type"],
            site=spec["site"],
            engine=spec.get("engine"),
            capacity=Capacity(
                cpus=capacity.get("cpus"),
                memory=None if memory is None else bytes_of(memory),
                gpus=capacity.get("gpus", 0),
                slots=capacity.get("slots", 1),
            ),
            schedulable=spec.get("schedulable", True),
            settings=spec.get(BLOCKS.get(spec["type"], ""), {}),
            ssh=spec.get("ssh", {}),
        )

    @property
    def runs_containers(self) -> bool:
        """Whether a run is a container, which brings its own Python."""
        return self.type in CONTAINERS

    @property
    def keeps_logs(self) -> bool:
        """Whether what scripts say stays on the target, for as long as it keeps it."""
        return self.type in CONTAINERS

    @property
    def attached(self) -> bool:
        """Whether the workspace must have it attached before it takes a run."""
        return self.type in ATTACHED

    @property
    def only_submitted(self) -> bool:
        """Whether the workspace alone reaches it: whatever runs there is a run that the workspace keeps."""
        return self.attached and not self.ssh

    @property
    def reads(self) -> frozenset[str]:
        """The types of datastore that it can read."""
        return READS.get(self.type, frozenset({"folder"}))

    @property
    def id(self) -> str:
        """`compute/<name>`."""
        return f"compute/{self.metadata.name}"
