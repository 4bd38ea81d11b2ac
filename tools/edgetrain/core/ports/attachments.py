"""The port of attachments: compute targets that the workspace's own service must know of before it runs there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edgetrain.core.ports.settings import TargetSettings

AttachmentState = Literal["ready", "attaching", "failed", "detaching"]


@dataclass(frozen=True)
class Attachment:
    """A compute resource that the workspace holds.

    `type` is the target's type (`azureml-vm`), empty for a type that no target has. `fields` are those of
    `WantedAttachment` that the service tells. `owner` and `digest` are as our tags say, empty on what is not
    made by us. `message` is the service's own reason where `state` is `failed`.
    """

    name: str
    type: str
    fields: Mapping[str, Any]
    owner: str
    digest: str
    state: AttachmentState
    message: str = ""


@dataclass(frozen=True)
class WantedAttachment:
    """What a target's manifest asks for, with nothing secret in it: a key stands there as its fingerprint.

    `digest` is over type and fields.
    """

    name: str
    type: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def drift(self, found: Attachment) -> Mapping[str, tuple[Any, Any]]:
        """By field, what is wanted and what is there; empty if the attachment is as wanted.

        A field that the service does not tell counts by the digest alone, and shows as `digest`.
        """
        told = {
            name: (value, found.fields[name])
            for name, value in self.fields.items()
            if name in found.fields and found.fields[name] != value
        }
        if found.type != self.type:
            told["type"] = (self.type, found.type)
        if not told and found.digest != self.digest:
            told["digest"] = (self.digest, found.digest)
        return told


class Attachments(Protocol):
    """Which compute targets are attached to the workspace."""

    def attached(self) -> Mapping[str, Attachment]:
        """All that is attached, ours or not, by name: one bulk list."""

    def wanted(self, target: TargetSettings, type: str) -> WantedAttachment:
        """What this target's settings ask for. Reads its key to know the fingerprint; asks nobody."""

    def attach(self, wanted: WantedAttachment, settings: TargetSettings, owner: str) -> Attachment:
        """Ensure it is attached as wanted, and ready; again if it is another way or failed.

        Raises Conflict if something that is not this owner's has the name, Rejected with the service's reason
        if it fails, Transient if it is not ready in time."""

    def detach(self, name: str, owner: str) -> None:
        """Ensure it is not attached. Raises Conflict for what is not this owner's; absent is well."""
