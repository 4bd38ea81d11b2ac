"""What all kinds share: the metadata block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metadata:
    """The `metadata` block of a manifest."""

    name: str
    description: str = ""
    owners: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    retired: bool = False

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Metadata:
        """From the block as read."""
        return cls(
            name=data["name"],
            description=data.get("description", ""),
            owners=tuple(data.get("owners", ())),
            labels=dict(data.get("labels", {})),
            retired=data.get("retired", False),
        )


def below(folder: str, relative: str) -> str:
    """A path below a folder as git spells it, without `.` and empty parts."""
    return "/".join([folder, *(part for part in relative.split("/") if part not in ("", "."))])
