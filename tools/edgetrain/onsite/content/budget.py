"""The bounds of one check: bytes looked at after unpacking, time, memory for one unpacked piece."""

from __future__ import annotations

import time

MAX_DEPTH = 8
# The most that one packed piece may become: it lies in memory.
MAX_PIECE = 192 * 2**20
MAX_VIEWS = 200_000
# What is packed may become so many times its size, and so much in any case: more is a bomb.
RATIO, FREE = 100, 256 * 2**20


class Cut(Exception):
    """A bound is reached: the check is not complete."""


class Budget:
    """What is left. `expanded` bytes, `seconds` from now; `clips`: a piece that is too large is cut instead."""

    def __init__(self, expanded: int, seconds: float, clips: bool = False) -> None:
        self.clips = clips
        self.expanded = expanded
        self.deadline = time.monotonic() + seconds
        self.bytes = 0
        self.views = 0
        self.source = self.unpacked = 0

    def check(self) -> None:
        """Raises Cut when the time is over."""
        if time.monotonic() > self.deadline:
            raise Cut("it took longer than the time allowed")

    def take(self, size: int) -> None:
        """Count bytes to be looked at. Raises Cut."""
        self.check()
        self.bytes += size
        self.views += 1
        if self.bytes > self.expanded:
            raise Cut("there is more to look at, after unpacking, than is allowed")
        if self.views > MAX_VIEWS:
            raise Cut("there are more pieces to look at than is allowed")

    def unpack(self, size: int) -> None:
        """Count bytes as they come out of what is packed. Raises Cut."""
        self.promise(size)
        self.unpacked += size

    def promise(self, size: int) -> None:
        """Raises Cut if so many bytes more would be too many for `source`, the bytes as they lie."""
        if not self.clips and self.unpacked + size > FREE + RATIO * self.source:
            raise Cut(f"what is packed becomes more than {RATIO} times its size, as a bomb does")

    def room(self) -> int:
        """How large the next piece may become."""
        return max(0, min(MAX_PIECE, self.expanded - self.bytes))
