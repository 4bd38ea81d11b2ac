"""How well a target keeps a script in."""

from __future__ import annotations

from enum import StrEnum


class EgressLevel(StrEnum):
    """Whether the target keeps a script from the network and the host, as observed."""

    ENFORCED = "enforced"
    ADVISORY = "advisory"
