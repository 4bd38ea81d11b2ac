"""The artifact store in a blob container: blobs by digest, claims made once, locks that are leases."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgetrain.core.digest import SHA256, digest_bytes
from edgetrain.core.errors import Conflict, NotFound, Rejected, Transient
from edgetrain.core.ports import ARTIFACT_SPOILT, Check, Settings
from edgetrain.core.problem import shown
from edgetrain.providers.azure_blob.account import Account, account_of
from edgetrain.providers.azure_blob.client import Blob, Container
from edgetrain.providers.azure_blob.lock import LEASE_SECONDS, LeaseLock
from edgetrain.providers.diagnosis import diagnose_artifacts
from edgetrain.providers.durable import CHUNK, open_regular, storage_error

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PART = re.compile(r"[A-Za-z0-9._@-]{1,200}")
_NAME_SIZE = 900  # a blob's name may have 1,024 characters
_CLAIM_SIZE = 2**20
_READERS = 8
_BATCH = 256


class AzureBlobArtifacts:
    """The artifact store below the prefix of `account`'s container, shared by all runners that reach it.

    `lease_seconds` (15 to 60) is how long the lock of a crashed holder stays taken.
    """

    def __init__(self, *, account: Account, lease_seconds: int = LEASE_SECONDS, retries: int = 3) -> None:
        self._account = account
        self._seconds = lease_seconds
        self._retries = retries
        self._blobs = f"{account.prefix}blobs/sha256/"
        self._claims = f"{account.prefix}claims/"
        self._locks = f"{account.prefix}locks/"
        self._making = threading.Lock()
        self._made: Container | None = None

    @property
    def _container(self) -> Container:
        with self._making:
            if self._made is None:
                self._made = Container(self._account, retries=self._retries)
            return self._made

    def put_file(self, source: Path) -> str:
        """Store a file's bytes, if they are not there. Raises Rejected for a link or special file; Transient
        if the file changes meanwhile."""
        try:
            with open_regular(source) as stream:
                hasher, size = hashlib.sha256(), 0
                while chunk := stream.read(CHUNK):
                    hasher.update(chunk)
                    size += len(chunk)
                stream.seek(0)
                return self._put("sha256:" + hasher.hexdigest(), size, stream)
        except OSError as error:
            raise storage_error(error, f"reading {shown(source.name)}") from None

    def put_bytes(self, data: bytes) -> str:
        """Store bytes, if they are not there."""
        return self._put(digest_bytes(data), len(data), io.BytesIO(data))

    def open(self, digest: str) -> BinaryIO:
        """The stored bytes; reading raises Rejected (ArtifactSpoilt) instead of the last of wrong ones.

        Raises NotFound.
        """
        name = self._blob(digest)
        blob = self._container.look(name)
        if blob is None:
            raise NotFound(
                f"the artifact store has no {digest}",
                reason="ArtifactMissing",
                fix="restore the container, or train again with edgetrain retry",
            )
        return io.BufferedReader(_Verified(self._container, blob, digest), CHUNK)

    def size(self, digest: str) -> int | None:
        """How many bytes, or None if absent."""
        blob = self._container.look(self._blob(digest))
        return blob.size if blob else None

    def digests(self) -> Iterator[tuple[str, int]]:
        """All stored digests and their sizes, sorted."""
        for blob in self._container.blobs(self._blobs):
            digest = "sha256:" + blob.name.removeprefix(self._blobs)
            if SHA256.fullmatch(digest):
                yield digest, blob.size

    def delete(self, digest: str) -> None:
        """Remove if present."""
        self._container.delete(self._blob(digest))

    def claim(self, name: str, value: bytes) -> bytes:
        """Create the claim if absent; answer what it now holds. Raises Rejected for an unsafe name."""
        if len(value) > _CLAIM_SIZE:
            raise Rejected("a claim's value is over 1 MiB", reason="ClaimTooLarge", fix="store it as an artifact")
        place = self._claim(name)
        while True:
            # Also after a create of ours whose answer was lost: what counts is what is there.
            if self._container.create(place, io.BytesIO(value), len(value)):
                return value
            found = self._read_claim(place)
            if found is not None:
                return found

    def claims(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """All claims whose name starts with `prefix`, sorted by name."""
        for part in prefix.split("/")[:-1]:
            _safe(part)
        places = sorted(blob.name for blob in self._container.blobs(self._claims + prefix))
        with ThreadPoolExecutor(_READERS) as pool:
            for begin in range(0, len(places), _BATCH):
                some = places[begin : begin + _BATCH]
                for place, value in zip(some, pool.map(self._read_claim, some), strict=True):
                    if value is not None:
                        yield place.removeprefix(self._claims), value

    def release_claim(self, name: str) -> None:
        """Remove a claim if present."""
        self._container.delete(self._claim(name))

    def lock(self, name: str, timeout: float = 60.0) -> AbstractContextManager[None]:
        """Hold the lock of one object. Raises Conflict if `timeout` seconds pass, or at the end (LockLost) if
        the lease was lost while it was held."""
        place = self._locks + hashlib.sha256(name.encode()).hexdigest()
        return LeaseLock(self._container, place, name, timeout, self._seconds)

    def diagnose(self) -> Sequence[Check]:
        """Whether bytes can be written, read and removed, and a claim and a lock taken."""
        return diagnose_artifacts(self)

    def _put(self, digest: str, size: int, source: BinaryIO) -> str:
        name = self._blob(digest)
        there = self._container.look(name)
        if there is not None and there.size != size:  # spoilt by another hand: the name promises the bytes
            self._container.delete(there)
            there = None
        if there is None:
            self._container.create(name, _Checked(source, digest, size), size)
        return digest

    def _blob(self, digest: str) -> str:
        if not SHA256.fullmatch(digest):
            raise Rejected(f"not a digest: {shown(digest)}", reason="BadDigest", fix="give sha256:<64 hex digits>")
        return self._blobs + digest.removeprefix("sha256:")

    def _claim(self, name: str) -> str:
        if len(name) > _NAME_SIZE:
            raise _unsafe(name)
        return self._claims + "/".join(_safe(part) for part in name.split("/"))

    def _read_claim(self, place: str) -> bytes | None:
        try:
            blob = self._container.look(place)
            return None if blob is None else b"".join(self._container.read(blob))
        except (NotFound, Conflict):  # released just now, or released and made again
            return None


class _Checked(io.RawIOBase):
    """A source of `size` bytes that fails instead of ending if they are not the digest's: then the SDK does
    not commit the blocks that it sent."""

    def __init__(self, source: BinaryIO, digest: str, size: int) -> None:
        self._source = source
        self._digest = digest
        self._left = size
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._source.read(wanted)
        self._hash.update(data)
        self._left -= len(data)
        if len(data) < wanted or (not self._left and "sha256:" + self._hash.hexdigest() != self._digest):
            raise Transient(
                "a file changed while it was stored",
                reason="ArtifactChanging",
                fix="apply again when it is complete",
            )
        return data


class _Verified(io.RawIOBase):
    """A blob's bytes, of which the last come only if all are the digest's."""

    def __init__(self, container: Container, blob: Blob, digest: str) -> None:
        self._chunks = container.read(blob)
        self._left = blob.size
        self._digest = digest
        self._hash = hashlib.sha256()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self._ready:
            chunk = next(self._chunks, b"")
            self._hash.update(chunk)
            self._left -= len(chunk)
            if not self._left and "sha256:" + self._hash.hexdigest() != self._digest:
                raise Rejected(
                    f"the artifact store holds other bytes than {self._digest}",
                    reason=ARTIFACT_SPOILT,
                    fix="delete that blob, then restore it or train again with edgetrain retry",
                )
            self._ready = memoryview(chunk)
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _safe(part: str) -> str:
    if part in {".", ".."} or not _PART.fullmatch(part):
        raise _unsafe(part)
    return part


def _unsafe(name: str) -> Rejected:
    return Rejected(
        f"not a safe name: {shown(name)}",
        reason="BadName",
        fix="use letters, digits and . _ @ - between the slashes, at most 900 characters",
    )


def from_settings(settings: Settings) -> AzureBlobArtifacts:
    """The declared container. Sites that share one keep apart by `prefix`."""
    return AzureBlobArtifacts(account=account_of(settings))
