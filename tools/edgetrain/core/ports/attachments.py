"""The port of attachments: what of a site the workspace's own service knows of.

Compute targets, before it runs there; and datastores, by where they lie and without a credential.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from edgetrain.core.ports.settings import TargetSettings

AttachmentState = Literal["ready", "attaching", "failed", "detaching"]


@dataclass(frozen=True)
class Attachment:
    """A compute resource, or a datastore, that the workspace holds.

    `type` is the target's type (`azureml-vm`), empty for a type that we have no name for. `fields` are those of
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
    """Which compute targets are attached to the workspace, and which datastores it knows."""

    def attached(self) -> Mapping[str, Attachment]:
        """All that is attached, ours or not, by name: one bulk list."""

    def wanted(self, target: TargetSettings, type: str) -> WantedAttachment:
        """What this target's settings ask for. Reads its key to know the fingerprint; asks nobody."""

    def attach(
        self,
        wanted: WantedAttachment,
        settings: TargetSettings,
        owner: str,
        stop: threading.Event | None = None,
    ) -> Attachment:
        """Ensure it is attached as wanted, and ready; again if it is another way or failed.

        Raises Conflict if something that is not this owner's has the name, Rejected with the service's reason
        if it fails, Transient if it is not ready in time, Stopped once `stop` is set: the service goes on."""

    def detach(self, name: str, owner: str, stop: threading.Event | None = None) -> None:
        """Ensure it is not attached. Raises Conflict for what is not this owner's, Stopped; absent is well."""

    def datastores(self) -> Mapping[str, Attachment]:
        """All datastores that the workspace knows, ours or not, by name: one bulk list that asks for no secret.

        The field `credential` is `none`, or the sort of credential that one holds."""

    def register(self, wanted: WantedAttachment, owner: str) -> Attachment:
        """Ensure the workspace knows this datastore as wanted, without a credential; again if it is another way.

        Raises Conflict if something that is not this owner's has the name, Rejected if the service does not keep
        what it was told."""

    def unregister(self, name: str, owner: str) -> None:
        """Ensure the workspace does not know it; the data stays. Raises Conflict for what is not this owner's."""
