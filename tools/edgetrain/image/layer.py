"""A layer as a deterministic tar, made anew each time it is read: no spool, memory bounded by a chunk.

Layers are not compressed: the bytes of gzip differ from one zlib to another, and the same inputs must give
the same digest everywhere. So a layer's digest is its diff id.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from edgetrain.core.errors import Rejected
from edgetrain.core.ports import Layer
from edgetrain.core.problem import shown

MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CHUNK = 2**20
_PATH = re.compile(r"(?!\.{1,2}(/|$))[A-Za-z0-9._@+-]{1,100}(/(?!\.{1,2}(/|$))[A-Za-z0-9._@+-]{1,100})*")


@dataclass(frozen=True)
class LayerFile:
    """A file to put into a layer: `path` in the image without the leading slash, `size` in bytes.

    `open` gives the same bytes each time it is called; if `digest` is given, they are held to it when the layer
    is made.
    """

    path: str
    size: int
    open: Callable[[], BinaryIO] = field(repr=False)
    mode: int = 0o644
    digest: str = ""

    @classmethod
    def of_bytes(cls, path: str, data: bytes) -> LayerFile:
        """A file of these bytes."""
        return cls(path, len(data), lambda: io.BytesIO(data))


def tar_layer(files: Iterable[LayerFile], mtime: int) -> Layer:
    """The layer of these files, in any order; `mtime` in seconds since 1970. Reads every file once.

    Raises Rejected for an unsafe or doubled path, or a file whose bytes are not as many, or not those, as said.
    """
    given = list(files)
    paths = [file.path for file in given]
    for path in paths:
        if len(path) > 255 or not _PATH.fullmatch(path):
            raise Rejected(f"not a safe path in an image: {shown(path)}", reason="BadPath", fix="rename the file")
    if len({*paths} | _folders(paths)) != len(paths) + len(_folders(paths)):
        raise Rejected("two files of one path in an image layer", reason="BadPath", fix="rename one of them")

    hasher, size = hashlib.sha256(), 0
    for chunk in _tar(given, mtime, held=True):
        hasher.update(chunk)
        size += len(chunk)
    digest = "sha256:" + hasher.hexdigest()

    def read() -> BinaryIO:
        return cast(BinaryIO, _Chunks(_tar(given, mtime)))

    return Layer(digest=digest, size=size, media_type=MEDIA_TYPE, diff_id=digest, open=read)


class _Chunks(io.BufferedIOBase):
    """A stream of what an iterator gives. A chunk that fits goes on as it is: large models are not copied about."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._position = 0

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        while self._position == len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._chunk, self._position = chunk, 0
        end = len(self._chunk) if size < 0 else min(self._position + size, len(self._chunk))
        data = self._chunk[self._position : end]  # of a whole chunk Python makes no copy
        self._position = end
        return data

    def read(self, size: int | None = -1, /) -> bytes:
        parts, left = [], sys.maxsize if size is None or size < 0 else size
        while left and (data := self.read1(left)):
            parts.append(data)
            left -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _tar(files: Sequence[LayerFile], mtime: int, *, held: bool = False) -> Iterator[bytes]:
    written = 0
    known = {file.path: file for file in files}
    for path in sorted({*known} | _folders(known)):
        header = _header(path, known.get(path), mtime)
        yield header
        written += len(header)
        if file := known.get(path):
            for chunk in _content(file, held=held):
                yield chunk
                written += len(chunk)
            padding = -file.size % tarfile.BLOCKSIZE
            yield b"\0" * padding
            written += padding
    end = 2 * tarfile.BLOCKSIZE
    yield b"\0" * (end + -(written + end) % tarfile.RECORDSIZE)


def _header(path: str, file: LayerFile | None, mtime: int) -> bytes:
    info = tarfile.TarInfo(path)
    info.mtime = mtime
    if file is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        info.name += "/"
    else:
        info.size, info.mode = file.size, file.mode
    # GNU and not USTAR: a model may be larger than 8 GiB.
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def _content(file: LayerFile, *, held: bool) -> Iterator[bytes]:
    left = file.size
    hasher = hashlib.sha256() if held and file.digest else None
    with file.open() as stream:
        while chunk := stream.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            if hasher is not None:
                hasher.update(chunk)
            yield chunk
    if left:
        raise Rejected(
            f"{file.path} does not have the {file.size} bytes that it should have",
            reason="SizeChanged",
            fix="check the artifact store's disk, then apply again",
        )
    if hasher is not None and "sha256:" + hasher.hexdigest() != file.digest:
        raise Rejected(
            f"artifact {file.digest} is damaged in the site's store",
            reason="ArtifactDamaged",
            fix="restore the artifact store and check its disk, or train again: edgetrain retry RUN --reason ...",
        )


def _folders(paths: Iterable[str]) -> set[str]:
    return {path[: found.start()] for path in paths for found in re.finditer("/", path)}
