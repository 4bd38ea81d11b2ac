"""Remembers which images were seen whole, so that not each apply looks at each layer of each release again."""

from __future__ import annotations

import time
from pathlib import Path

from edgetrain.providers.digest_cache import DigestCache

DAY = 86400


class Seen(DigestCache):
    """The images of one registry that were seen whole today. Each has a day that begins at its own moment: they are
    not all looked at again at once. `now` is in seconds since the epoch."""

    def __init__(self, state: Path, host: str, now: float | None = None) -> None:
        super().__init__(state / "digests" / "images.sqlite3", host.encode(), {"day": "INTEGER"})
        self._now = time.time() if now is None else now

    def today(self, path: str, digest: str) -> bool:
        """Whether the image was seen whole today."""
        return self.find(f"{path}@{digest}".encode(), self._day(digest)) == digest

    def put(self, path: str, digest: str) -> None:
        """It was seen whole now."""
        self.store(f"{path}@{digest}".encode(), self._day(digest), digest)

    def _day(self, digest: str) -> tuple[int]:
        return (int(self._now + int(digest.removeprefix("sha256:")[:8], 16) % DAY) // DAY,)
