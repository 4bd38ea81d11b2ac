"""The attachments contract on the in-memory provider: the port asks for nothing that only Azure ML has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.core.ports import Attachments

from .attachments import AttachmentsContract
from .memory_attachments import MemoryAttachments


class TestMemoryAttachments(AttachmentsContract):
    @pytest.fixture(autouse=True)
    def _place(self) -> None:
        self.place = MemoryAttachments()

    def make(self, state: Path) -> Attachments:
        return self.place

    def writes(self) -> int:
        return self.place.writes

    def disown(self, name: str) -> None:
        self.place.held[name] = replace(self.place.held[name], owner="", digest="")

    def remove(self, name: str) -> None:
        del self.place.held[name]

    def disown_datastore(self, name: str) -> None:
        self.place.known[name] = replace(self.place.known[name], owner="", digest="")

    def give_credential(self, name: str) -> None:
        fields = {**self.place.known[name].fields, "credential": "AccountKey"}
        self.place.known[name] = replace(self.place.known[name], fields=fields)

    def remove_datastore(self, name: str) -> None:
        del self.place.known[name]
