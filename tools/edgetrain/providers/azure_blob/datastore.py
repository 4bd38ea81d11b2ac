"""The datastore in a blob container: read where it lies by targets, or streamed through the runner.

No message here holds the name of a blob: only the path that the manifest gives.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from edgetrain.core.digest import ordered_tree_digest
from edgetrain.core.errors import Conflict, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import Check, CheckStatus, DataDigest, DataEntry, DataSource, Settings
from edgetrain.core.problem import shown
from edgetrain.core.quantity import seconds_of
from edgetrain.providers.azure_blob.account import Account, account_of
from edgetrain.providers.azure_blob.cache import BlobCache
from edgetrain.providers.azure_blob.client import Blob, Container, now
from edgetrain.providers.azure_blob.names import Tree, both, parts_of
from edgetrain.providers.diagnosis import failed, tried

_WORKERS = 8
_SKEW = timedelta(minutes=5)
SAS_LIFETIME = timedelta(hours=1)


@dataclass(frozen=True)
class _Found:
    """Where a path leads: one `file`, or else all blobs below `prefix`."""

    prefix: str
    file: Blob | None


class AzureBlobDatastore:
    """The datastore of `account`; `cache` is a folder outside git for known digests.

    `clock` answers the time; `sas_addresses` an address or range that signatures are good for.
    """

    def __init__(
        self,
        *,
        account: Account,
        cache: Path,
        sas_lifetime: timedelta = SAS_LIFETIME,
        sas_addresses: str = "",
        retries: int = 3,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._account = account
        self._cache = cache
        self._lifetime = sas_lifetime
        self._addresses = sas_addresses
        self._retries = retries
        self._clock = clock
        self._making = threading.Lock()
        self._made: Container | None = None

    @property
    def _container(self) -> Container:
        with self._making:
            if self._made is None:
                self._made = Container(self._account, retries=self._retries)
            return self._made

    def digest(self, path: str, progress: Callable[[int], None] | None = None) -> DataDigest:
        """Digest by streaming through the runner's memory. `progress` gets the bytes of each blob read.

        Raises NotFound; Rejected for a path outside the store or names that are no files'; Transient if a
        blob changes while it is read.
        """
        files = total = 0
        stream = BlobStream(self._container, path, self._find(path))
        reading: deque[tuple[DataEntry, Blob, Future[str]]] = deque()
        with (
            _Sorted() as tree,
            BlobCache(self._cache, self._account.url) as cache,
            ThreadPoolExecutor(_WORKERS) as pool,
        ):

            def settle() -> None:
                entry, blob, future = reading.popleft()
                digest = future.result()
                cache.put(blob, digest)
                tree.add(entry.name, digest)
                if progress:
                    progress(blob.size)

            try:
                for entry in stream.entries():
                    files, total = files + 1, total + entry.size
                    blob = stream.blob(entry)
                    known = cache.get(blob)
                    if known is not None:
                        tree.add(entry.name, known)
                        continue
                    reading.append((entry, blob, pool.submit(_hash, stream, entry)))
                    if len(reading) >= 4 * _WORKERS:
                        settle()
                while reading:
                    settle()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return DataDigest(ordered_tree_digest(tree.entries()), files, total)

    def source(self, path: str) -> DataSource:
        """The container's URL with the path inside it, a signature for it, and a stream through the runner."""
        found = self._find(path)
        return self._source(path, found)

    def _source(self, path: str, found: _Found) -> DataSource:
        access = {"apiVersion": self._account.api_version}
        signature = self._container.sas(self._clock(), self._lifetime, self._addresses)
        if signature:
            access["sas"] = signature
        if authorities := self._account.authorities_text():
            access["caBundle"] = authorities
        return DataSource(
            kind="azure-blob",
            location=self._account.url,
            path=found.file.name if found.file else found.prefix.rstrip("/"),
            access=access,
            renew=lambda: self._source(path, found),
            stream=BlobStream(self._container, path, found),
        )

    def diagnose(self, paths: Sequence[str]) -> Sequence[Check]:
        """Whether the store answers, in which version, what targets get, and whether `paths` are readable."""
        try:
            answer = self._container.answer()
            checks = [_version(self._account.api_version, answer.version), _clock(answer.clock, self._clock())]
            signature = self._container.sas(self._clock(), self._lifetime, self._addresses)
        except ProviderError as error:
            return [failed("blob-store", error)]
        checks.append(_signature(self._account, signature))
        return [
            *checks,
            *(tried("blob-data", f"{shown(path)} is readable", partial(self._try, path)) for path in paths),
        ]

    def _try(self, path: str) -> None:
        stream = BlobStream(self._container, path, self._find(path))
        if entry := next(stream.entries(), None):
            next(stream.read(entry), b"")

    def _find(self, path: str) -> _Found:
        whole = self._account.prefix + "/".join(parts_of(path))
        if whole == self._account.prefix:
            return _Found(whole, None)
        below = any(not blob.folder for blob in self._container.blobs(f"{whole}/", page=20))
        blob = self._container.look(whole)
        if blob is not None and not blob.folder:
            if below:
                raise both(path)
            return _Found(whole.rpartition("/")[0], blob)
        if not below and not self._marked(whole, blob):
            raise NotFound(
                f"the datastore has no {shown(path)}",
                reason="DataMissing",
                fix="check the input's path and that the data has arrived",
            )
        return _Found(f"{whole}/", None)

    def _marked(self, whole: str, blob: Blob | None) -> bool:
        """Whether a marker says that this is a folder, if an empty one."""
        return blob is not None or any(True for _ in self._container.blobs(f"{whole}/", page=1))


class BlobStream:
    """Reads the blobs that a path leads to through the runner."""

    def __init__(self, container: Container, path: str, found: _Found) -> None:
        self._container = container
        self._path = path
        self._found = found

    def entries(self) -> Iterator[DataEntry]:
        """All files in the service's order, a page in memory at a time.

        Raises Rejected for a name that is no file's, or a folder's too.
        """
        if self._found.file is not None:
            blob = self._found.file
            yield DataEntry(blob.name.rpartition("/")[2], blob.size, blob.etag)
            return
        tree = Tree(self._path)
        for blob in self._container.blobs(self._found.prefix):
            if blob.folder:
                continue
            name = blob.name.removeprefix(self._found.prefix)
            tree.admit(name)
            yield DataEntry(name, blob.size, blob.etag)

    def read(self, entry: DataEntry, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset`. Raises Rejected with reason DataChanged if the blob is another or gone."""
        try:
            yield from self._container.read(self.blob(entry), offset)
        except (Conflict, NotFound) as error:
            if error.reason not in {"ConditionNotMet", "BlobMissing"}:
                raise
            raise Rejected(
                f"a blob in {shown(self._path)} was changed or deleted since it was listed",
                reason="DataChanged",
                fix="wait until the data is complete, then apply again",
            ) from None

    def blob(self, entry: DataEntry) -> Blob:
        """The blob of one of our entries."""
        if self._found.file is not None:
            return Blob(self._found.file.name, entry.size, entry.tag)
        return Blob(self._found.prefix + entry.name, entry.size, entry.tag)


class _Sorted:
    """Names and digests put in order in a private temporary database: memory stays bounded, and SQLite
    unlinks the file as soon as it has opened it."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("")
        self._base.execute("CREATE TABLE entry (name BLOB PRIMARY KEY, digest BLOB) WITHOUT ROWID")

    def __enter__(self) -> _Sorted:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(self, name: str, digest: str) -> None:
        """Add one file."""
        self._base.execute("INSERT INTO entry VALUES (?, ?)", (name.encode(), bytes.fromhex(digest[7:])))

    def entries(self) -> Iterator[tuple[bytes, str]]:
        """All, by the bytes of the name."""
        for name, digest in self._base.execute("SELECT name, digest FROM entry ORDER BY name"):
            yield name, "sha256:" + digest.hex()


def _hash(stream: BlobStream, entry: DataEntry) -> str:
    hasher = hashlib.sha256()
    try:
        for chunk in stream.read(entry):
            hasher.update(chunk)
    except Rejected as error:
        if error.reason != "DataChanged":
            raise
        raise Transient(error.message, reason="DataChanging", fix=error.fix) from None
    return "sha256:" + hasher.hexdigest()


def _version(pinned: str, answered: str) -> Check:
    told = f" (it answers as {answered})" if answered and answered != pinned else ""
    return Check("blob-store", CheckStatus.PASS, f"the blob store answers to API version {pinned}{told}")


def _clock(theirs: datetime | None, ours: datetime) -> Check:
    if theirs is None:
        return Check("blob-clock", CheckStatus.WARN, "the blob store does not tell its time", "ClockUnknown")
    skew = theirs - ours
    seconds = round(skew.total_seconds())
    if abs(skew) <= _SKEW:
        return Check("blob-clock", CheckStatus.PASS, f"the blob store's clock and ours differ by {abs(seconds)} s")
    return Check(
        "blob-clock",
        CheckStatus.FAIL,
        f"the blob store's clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} ours",
        "ClockSkew",
        "set the clock of the runner's host (NTP), and that of the store",
    )


def _signature(account: Account, signature: str | None) -> Check:
    if signature:
        return Check("blob-access", CheckStatus.PASS, "targets get a signature that reads and lists this container")
    return Check(
        "blob-access",
        CheckStatus.WARN,
        f"no signature for targets can be made from this {account.kind}: data streams through the runner",
        "NoSignature",
        "give the account's key, or a SAS of this container that allows read and list only",
    )


def from_settings(settings: Settings) -> AzureBlobDatastore:
    """The declared container; what was digested is remembered at the site's state."""
    lifetime = timedelta(seconds=seconds_of(settings.block.get("sasLifetime", "1h")))
    if not timedelta(minutes=1) <= lifetime <= timedelta(days=7):
        raise Rejected(
            f"datastore {settings.name}: sasLifetime is not between 1m and 7d",
            reason="LifetimeUnfit",
            fix="give a short one, such as 1h; a target asks for the next before it ends",
        )
    return AzureBlobDatastore(
        account=account_of(settings),
        cache=settings.state / "digests" / settings.name,
        sas_lifetime=lifetime,
        sas_addresses=str(settings.block.get("sasAddresses", "")),
    )
