"""A cache of content digests by (name, size, ETag)."""

from __future__ import annotations

from pathlib import Path

from edgetrain.providers.azure_blob.client import Blob
from edgetrain.providers.digest_cache import DigestCache


class BlobCache(DigestCache):
    """Digests of one container's blobs."""

    def __init__(self, folder: Path, container: str) -> None:
        super().__init__(folder / "blobs.sqlite3", container.encode(), {"size": "INTEGER", "etag": "TEXT"})

    def get(self, blob: Blob) -> str | None:
        """The blob's digest, if this very version was read before."""
        return self.find(blob.name.encode(), (blob.size, blob.etag))

    def put(self, blob: Blob, digest: str) -> None:
        """Remember the digest."""
        self.store(blob.name.encode(), (blob.size, blob.etag), digest)
