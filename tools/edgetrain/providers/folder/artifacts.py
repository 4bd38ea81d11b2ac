"""The artifact store in a folder: blobs by digest, claims made once, locks that die with their holder."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from edgetrain.core.digest import SHA256
from edgetrain.core.errors import Conflict, NotFound, Rejected, Unavailable
from edgetrain.core.ports import Check, Settings
from edgetrain.core.problem import shown
from edgetrain.providers.diagnosis import diagnose_artifacts
from edgetrain.providers.durable import disk, incoming, make_folder, open_regular, storage_error, sweep

_PART = re.compile(r"[A-Za-z0-9._@-]{1,200}")
_HEX = re.compile(r"[0-9a-f]{64}")
# No claim's name has it, so that claims `a` and `a/b` are a file and a folder of different names.
_CLAIM = "="
_CLAIM_SIZE = 2**20


class FolderArtifacts:
    """The artifact store under `root`, shared by all processes that see the folder."""

    def __init__(self, *, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs" / "sha256"
        self._claims = root / "claims"
        self._locks = root / "locks"
        self._incoming = root / "incoming"
        self._swept = False

    def put_file(self, source: Path) -> str:
        """Store a file's bytes. Raises Rejected for a link or special file; Unavailable for a full disk."""
        try:
            stream = open_regular(source)
        except OSError as error:
            raise storage_error(error, f"reading {shown(source.name)}") from error
        with stream:
            return self._put(stream)

    def put_bytes(self, data: bytes) -> str:
        """Store bytes. Raises Unavailable if the disk is full."""
        return self._put(data)

    def open(self, digest: str) -> BinaryIO:
        """The stored bytes, not checked again. Raises NotFound."""
        path = self._blob(digest)
        try:
            return open_regular(path)
        except FileNotFoundError:
            raise NotFound(
                f"the artifact store has no {digest}",
                reason="ArtifactMissing",
                fix="restore the state folder, or train again with edgetrain retry",
            ) from None
        except OSError as error:
            raise storage_error(error, "reading an artifact") from error

    def size(self, digest: str) -> int | None:
        """How many bytes, or None if absent."""
        with disk("looking at an artifact"):
            try:
                return self._blob(digest).lstat().st_size
            except FileNotFoundError:
                return None

    def digests(self) -> Iterator[tuple[str, int]]:
        """All stored digests and their sizes, sorted."""
        with disk("listing the artifacts"):
            folders = sorted(self._blobs.iterdir()) if self._blobs.is_dir() else []
            for folder in folders:
                for path in sorted(folder.iterdir()):
                    size = self.size("sha256:" + path.name) if _HEX.fullmatch(path.name) else None
                    if size is not None and path.parent.name == path.name[:2]:
                        yield "sha256:" + path.name, size

    def delete(self, digest: str) -> None:
        """Remove if present."""
        with disk("deleting an artifact"):
            self._blob(digest).unlink(missing_ok=True)

    def claim(self, name: str, value: bytes) -> bytes:
        """Create the claim if absent; answer what it now holds. Raises Rejected for an unsafe name."""
        if len(value) > _CLAIM_SIZE:
            raise Rejected("a claim's value is over 1 MiB", reason="ClaimTooLarge", fix="store it as an artifact")
        path = self._claim(name)
        with disk(f"claiming {name}"):
            while True:
                found = self._read_claim(path)
                if found is not None:
                    return found
                with incoming(self._incoming) as file:
                    file.write(value)
                    try:
                        file.create(path)
                    except FileExistsError:
                        continue  # another was first: answer theirs
                    except OSError as error:
                        raise _no_links(error) from error
                return value

    def claims(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """All claims whose name starts with `prefix`, sorted by name."""
        folder = self._claims.joinpath(*(_safe(part) for part in prefix.split("/")[:-1]))
        with disk("listing the claims"):
            names = sorted(
                str((Path(parent) / file).relative_to(self._claims)).removesuffix(_CLAIM)
                for parent, _, files in os.walk(folder, onerror=_fail)
                for file in files
                if file.endswith(_CLAIM)
            )
            for name in names:
                if name.startswith(prefix):
                    value = self._read_claim(self._claim(name))
                    if value is not None:
                        yield name, value

    def release_claim(self, name: str) -> None:
        """Remove a claim if present."""
        with disk(f"releasing {name}"):
            self._claim(name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str, timeout: float = 60.0) -> Iterator[None]:
        """Hold the lock of one object. Raises Conflict if `timeout` seconds pass."""
        with disk(f"locking {shown(name)}"):
            make_folder(self._locks)
            path = self._locks / (hashlib.sha256(name.encode()).hexdigest() + ".lock")
            held = FileLock(path, timeout=timeout)
            try:
                held.acquire()
            except Timeout:
                raise Conflict(
                    f"another process holds {shown(name)}",
                    reason="Locked",
                    fix="wait for the other apply to end, then apply again",
                ) from None
        try:
            yield
        finally:
            held.release()

    def diagnose(self) -> Sequence[Check]:
        """Whether bytes can be written, read and removed, and a claim and a lock taken."""
        return diagnose_artifacts(self)

    def _put(self, source: BinaryIO | bytes) -> str:
        with disk("storing an artifact"):
            if not self._swept:
                sweep(self._incoming)
                self._swept = True
            with incoming(self._incoming) as file:
                if isinstance(source, bytes):
                    file.write(source)
                else:
                    file.copy(source)
                digest = file.digest
                # Over what is there: the same bytes, or a blob that the disk spoilt.
                file.replace(self._blob(digest))
        return digest

    def _blob(self, digest: str) -> Path:
        if not SHA256.fullmatch(digest):
            raise Rejected(f"not a digest: {shown(digest)}", reason="BadDigest", fix="give sha256:<64 hex digits>")
        hexes = digest.removeprefix("sha256:")
        return self._blobs / hexes[:2] / hexes

    def _claim(self, name: str) -> Path:
        path = self._claims.joinpath(*(_safe(part) for part in name.split("/")))
        return path.with_name(path.name + _CLAIM)

    def _read_claim(self, path: Path) -> bytes | None:
        try:
            with open_regular(path) as stream:
                return stream.read(_CLAIM_SIZE + 1)
        except FileNotFoundError:
            return None


def _safe(part: str) -> str:
    if part in {".", ".."} or not _PART.fullmatch(part):
        raise Rejected(
            f"not a safe name: {shown(part)}",
            reason="BadName",
            fix="use letters, digits and . _ @ - between the slashes",
        )
    return part


def _fail(error: OSError) -> None:
    # A claim overlooked is a run started twice: only a folder that is not there holds none.
    if not isinstance(error, FileNotFoundError):
        raise error


def _no_links(error: OSError) -> OSError | Unavailable:
    if error.errno in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
        return Unavailable(
            "the state folder's file system has no hard links",
            reason="NoHardLinks",
            fix="put the site's state on a local file system such as ext4 or xfs, or on NFS",
        )
    return error


def from_settings(settings: Settings) -> FolderArtifacts:
    """The site's store, below its state."""
    return FolderArtifacts(root=settings.state / "artifacts")
