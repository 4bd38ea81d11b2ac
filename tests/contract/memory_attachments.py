"""Attachments in memory: the smallest provider that keeps the port's contract."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping

from edgetrain.core.digest import digest_of
from edgetrain.core.errors import Conflict
from edgetrain.core.ports import Attachment, TargetSettings, WantedAttachment


class MemoryAttachments:
    """Holds attachments by name; `held` and `known` may be changed by hand, as somebody in the portal would."""

    def __init__(self) -> None:
        self.held: dict[str, Attachment] = {}
        self.known: dict[str, Attachment] = {}
        self.writes = 0

    def attached(self) -> Mapping[str, Attachment]:
        return dict(self.held)

    def wanted(self, target: TargetSettings, type: str) -> WantedAttachment:
        fields = {name: value for name, value in target.block.items() if name != "privateKey"}
        if "privateKey" in target.block:
            key = target.secret(target.block["privateKey"]["secret"]).reveal()
            fields["key"] = f"SHA256:{hashlib.sha256(key.encode()).hexdigest()}"
        return WantedAttachment(target.name, type, fields, digest_of({"type": type, **fields}))

    def attach(
        self,
        wanted: WantedAttachment,
        settings: TargetSettings,
        owner: str,
        stop: threading.Event | None = None,
    ) -> Attachment:
        return self._ensured(self.held, wanted, owner)

    def detach(self, name: str, owner: str, stop: threading.Event | None = None) -> None:
        self._gone(self.held, name, owner)

    def datastores(self) -> Mapping[str, Attachment]:
        return dict(self.known)

    def register(self, wanted: WantedAttachment, owner: str) -> Attachment:
        return self._ensured(self.known, wanted, owner)

    def unregister(self, name: str, owner: str) -> None:
        self._gone(self.known, name, owner)

    def _ensured(self, place: dict[str, Attachment], wanted: WantedAttachment, owner: str) -> Attachment:
        found = place.get(wanted.name)
        if found is not None:
            if found.owner != owner:
                raise Conflict(f"{wanted.name} is there, and not by us", reason="NotOurs")
            if found.state == "ready" and not wanted.drift(found):
                return found
        made = Attachment(wanted.name, wanted.type, wanted.fields, owner, wanted.digest, "ready")
        place[wanted.name] = made
        self.writes += 1
        return made

    def _gone(self, place: dict[str, Attachment], name: str, owner: str) -> None:
        found = place.get(name)
        if found is None:
            return
        if found.owner != owner:
            raise Conflict(f"{name} is there, and not by us", reason="NotOurs")
        del place[name]
        self.writes += 1
