"""Opens what is packed: archives and compressed streams, wholly in memory, within bounds.

What is encrypted, or packed by something that the standard library can't open, is refused: it can't be looked into.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from .budget import Budget, Cut

# Packed by what can't be opened here, or encrypted.
OPAQUE = (
    b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"Salted__",
    b"-----BEGIN PGP", b"age-encryption.org/", b"LZIP", b"\x1f\x9d", b"\x1f\xa0", b"xar!", b"\x85\x01\x0c",
)  # fmt: skip
STREAMS = re.compile(
    rb"\x1f\x8b\x08|BZh[1-9]1AY&SY|\xfd7zXZ\0|\x5d\0\0[\x80\0-\x04]\0|\x78[\x01\x5e\x9c\xda]|PK\x03\x04"
)
LEAST = 24
MAX_MEMBERS = 20_000
STEP = 2**20


class View(io.RawIOBase):
    """Bytes as a file that can be sought, without a copy."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data, self.at = data, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self.at = max(0, offset + (0 if whence == 0 else self.at if whence == 1 else len(self.data)))
        return self.at

    def tell(self) -> int:
        """Where it is."""
        return self.at

    def readinto(self, buffer: Any) -> int:
        """Read on."""
        piece = self.data[self.at : self.at + len(buffer)]
        buffer[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)


class Opaque(Exception):
    """It can't be looked into."""


def is_opaque(data: Any) -> bool:
    """Whether it is packed or encrypted in a way that can't be opened."""
    return bytes(data[:24]).startswith(OPAQUE)


def inflate(machine: Any, data: Any, budget: Budget) -> bytes:
    """What a stream unpacks to, as far as it is sound. Raises Cut if that is too much."""
    room = budget.room()
    parts, size, at = [], 0, 0
    feed = bytes(data[:STEP])
    try:
        while True:
            budget.check()
            piece = machine.decompress(feed, STEP)
            size += len(piece)
            parts.append(piece)
            if size > room:
                if budget.clips:
                    break
                raise Cut("a packed piece becomes larger than is allowed")
            if machine.eof:
                break
            left = getattr(machine, "unconsumed_tail", b"")
            if left:
                feed = left
            elif getattr(machine, "needs_input", True):
                at += STEP
                feed = bytes(data[at : at + STEP])
                if not feed:
                    break
            else:
                feed = b""
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError):
        pass  # what came before the fault is looked at
    return b"".join(parts)


def stream(data: Any, budget: Budget) -> bytes:
    """What a compressed stream at the beginning of `data` unpacks to; nothing if there is none."""
    head = bytes(data[:6])
    if head[:2] == b"\x1f\x8b":
        return inflate(zlib.decompressobj(31), data, budget)
    if head[:3] == b"BZh":
        return inflate(bz2.BZ2Decompressor(), data, budget)
    if head == b"\xfd7zXZ\0":
        return inflate(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**28), data, budget)
    if head[:3] == b"\x5d\0\0":
        return inflate(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2**28), data, budget)
    if head[:1] == b"\x78":
        return inflate(zlib.decompressobj(), data, budget)
    return b""


def raw_deflate(data: Any, budget: Budget) -> bytes:
    """What the bytes unpack to if they are a deflate stream without a header."""
    trial = zlib.decompressobj(-15)
    try:
        if len(trial.decompress(bytes(data[:4096]), 512)) < LEAST:
            return b""
    except zlib.error:
        return b""
    return inflate(zlib.decompressobj(-15), data, budget)


def embedded(data: Any, budget: Budget) -> Iterator[bytes]:
    """What streams unpack to that lie within other bytes."""
    until = 1
    for count, found in enumerate(STREAMS.finditer(data)):
        if count % 256 == 0:
            budget.check()
        at = found.start()
        if at < until or found.group().startswith(b"PK"):
            continue
        piece = data[at : at + 4096]
        try:
            if found.group()[:1] == b"\x78" and len(zlib.decompressobj().decompress(bytes(piece), 256)) < LEAST:
                continue
        except zlib.error:
            continue
        content = stream(data[at:], budget)
        if len(content) >= LEAST:
            yield content


def is_zip(data: Any) -> bool:
    """Whether a zip archive begins here."""
    return bytes(data[:4]) in (b"PK\x03\x04", b"PK\x05\x06")


def members(data: Any, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Name and content of each member of a zip archive, from the local headers on.

    The central directory is not believed: members that it does not list, and what lies between members, are
    given too. Raises Opaque for encryption and for methods that can't be opened.
    """
    try:
        with zipfile.ZipFile(View(data)) as archive:
            listed = archive.infolist()
            comment = archive.comment
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError, RecursionError) as error:
        raise Opaque("a zip archive that is not sound") from error
    if len(listed) > MAX_MEMBERS:
        raise Cut("an archive has more members than is allowed")
    if comment:
        yield "", comment
    spans = []
    for entry in listed:
        budget.check()
        if entry.flag_bits & 0x1:
            raise Opaque("an encrypted archive")
        start = entry.header_offset
        if bytes(data[start : start + 4]) != b"PK\x03\x04":
            raise Opaque("a zip archive that is not sound")
        names, extra = struct.unpack("<HH", data[start + 26 : start + 30])
        begin = start + 30 + names + extra
        end = begin + entry.compress_size
        spans.append((start, end))
        for more in (entry.extra, entry.comment, bytes(data[begin - extra : begin])):
            if len(more) >= LEAST:
                yield "", more
        packed = data[begin:end]
        if entry.compress_type == zipfile.ZIP_STORED:
            yield entry.filename, packed
        elif entry.compress_type == zipfile.ZIP_DEFLATED:
            yield entry.filename, inflate(zlib.decompressobj(-15), packed, budget)
        elif entry.compress_type == zipfile.ZIP_BZIP2:
            yield entry.filename, inflate(bz2.BZ2Decompressor(), packed, budget)
        elif entry.compress_type == zipfile.ZIP_LZMA:
            with zipfile.ZipFile(View(data)) as archive, archive.open(entry) as file:
                content = file.read(budget.room() + 1)
            if len(content) > budget.room():
                raise Cut("a packed piece becomes larger than is allowed")
            yield entry.filename, content
        else:
            raise Opaque("a method of compression that can't be opened")
    at = 0
    for start, end in sorted(spans):
        if start - at >= LEAST:
            yield "", data[at:start]
        at = max(at, end)
    if len(data) - at >= LEAST:
        yield "", data[at:]


def is_tar(data: Any) -> bool:
    """Whether a tar archive begins here."""
    return len(data) > 512 and bytes(data[257:262]) == b"ustar"


def tar_members(data: Any, budget: Budget) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member of a tar archive. Raises Opaque if it is not sound."""
    try:
        with tarfile.open(fileobj=View(data), mode="r:") as archive:
            for count, entry in enumerate(archive):
                budget.check()
                if count > MAX_MEMBERS:
                    raise Cut("an archive has more members than is allowed")
                file = archive.extractfile(entry) if entry.isreg() else None
                texts = [entry.linkname, entry.uname, entry.gname, *map(str, entry.pax_headers.values())]
                yield entry.name, "\n".join(texts).encode()
                if file is not None:
                    yield "", file.read(budget.room())
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise Opaque("a tar archive that is not sound") from error


def png_pixels(data: Any, budget: Budget) -> bytes:
    """The pixels of a PNG image, which lie in several chunks."""
    at, parts = 8, []
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if bytes(data[at + 4 : at + 8]) == b"IDAT":
            parts.append(bytes(data[at + 8 : at + 8 + size]))
        at += 12 + size
    return inflate(zlib.decompressobj(), b"".join(parts), budget) if parts else b""
