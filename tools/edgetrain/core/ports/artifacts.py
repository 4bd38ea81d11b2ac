"""The port of the artifact store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO, Protocol

from edgetrain.core.ports.check import Check

if TYPE_CHECKING:
    from pathlib import Path


# Why a store that checks what it reads gives no more of a file: it holds other bytes than the file's name says.
ARTIFACT_SPOILT = "ArtifactSpoilt"


class ArtifactStore(Protocol):
    """The site's durable, content-addressed store, its claims (create if absent) and its locks."""

    def put_file(self, source: Path) -> str:
        """Store a file's bytes and answer their digest. A partial write is never visible."""

    def put_bytes(self, data: bytes) -> str:
        """Store bytes and answer their digest."""

    def open(self, digest: str) -> BinaryIO:
        """The stored bytes. Raises NotFound; reading may raise Rejected, with ARTIFACT_SPOILT, for wrong ones."""

    def size(self, digest: str) -> int | None:
        """How many bytes, or None if absent."""

    def digests(self) -> Iterator[tuple[str, int]]:
        """All stored digests and their sizes."""

    def delete(self, digest: str) -> None:
        """Remove if present."""

    def claim(self, name: str, value: bytes) -> bytes:
        """Create `name` (slash-separated, safe parts) with `value` if absent; answer what it now holds."""

    def claims(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """All claims whose name starts with `prefix`."""

    def release_claim(self, name: str) -> None:
        """Remove a claim if present."""

    def lock(self, name: str, timeout: float = 60.0) -> AbstractContextManager[None]:
        """Hold the lock of one object; a crashed holder's lock is free again. Raises Conflict on time-out."""

    def diagnose(self) -> Sequence[Check]:
        """Whether bytes can be written, read and removed, and a claim and a lock taken."""
