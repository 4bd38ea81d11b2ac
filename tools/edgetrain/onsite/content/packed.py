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
from typing import Any, NamedTuple

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


class Unpacked(NamedTuple):
    """What a stream unpacks to as far as it is sound, where it ends, and whether that is for a fault."""

    content: bytes
    end: int = 0
    torn: bool = False


def inflate(machine: Any, data: Any, budget: Budget) -> Unpacked:
    """Unpack one stream. Raises Cut if that is too much. A fault lies somewhere after `end`."""
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
            budget.unpack(len(piece))
            if machine.eof:
                end = min(len(data), at + STEP) - len(machine.unused_data)
                return Unpacked(b"".join(parts), end)
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
        return Unpacked(b"".join(parts), at, torn=True)
    return Unpacked(b"".join(parts), len(data))


def stream(data: Any, budget: Budget) -> Unpacked:
    """What the compressed streams at the beginning of `data`, one after another, unpack to."""
    parts: list[bytes] = []
    end, torn = 0, False
    while not torn and (machine := machine_of(bytes(data[end : end + 6]))):
        found = inflate(machine, data[end:], budget)
        if not found.content:
            break
        parts.append(found.content)
        if sum(map(len, parts)) > budget.room() and not budget.clips:
            raise Cut("a packed piece becomes larger than is allowed")
        end, torn = end + found.end, found.torn
    return Unpacked(b"".join(parts), end, torn)


def machine_of(head: bytes) -> Any:
    """What unpacks a stream that begins so, or None."""
    if head[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31)
    if head[:3] == b"BZh":
        return bz2.BZ2Decompressor()
    if head == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**28)
    if head[:3] == b"\x5d\0\0":
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2**28)
    return zlib.decompressobj() if head[:1] == b"\x78" else None


def raw_deflate(data: Any, budget: Budget) -> bytes:
    """What the bytes unpack to if they are a deflate stream without a header."""
    trial = zlib.decompressobj(-15)
    try:
        if len(trial.decompress(bytes(data[:4096]), 512)) < LEAST:
            return b""
    except zlib.error:
        return b""
    return inflate(zlib.decompressobj(-15), data, budget).content


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
        content = stream(data[at:], budget).content
        if len(content) >= LEAST:
            yield content


def is_zip(data: Any) -> bool:
    """Whether a zip archive begins here."""
    return bytes(data[:4]) in (b"PK\x03\x04", b"PK\x05\x06")


def members(data: Any, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Name and content of each member of a zip archive, from the local headers on.

    The central directory is not believed: members that it does not list, and what lies between members, are
    given too. Raises Opaque for encryption and for methods that can't be opened, Cut for bombs.
    """
    try:
        with zipfile.ZipFile(View(data)) as archive:
            listed = archive.infolist()
            comment = archive.comment
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError, RecursionError) as error:
        raise Opaque("a zip archive that is not sound") from error
    spans = sorted(_spans(data, listed, budget))
    if comment:
        yield "", comment
    for entry in listed:
        budget.check()
        begin, end = _place(data, entry)
        for more in (entry.extra, entry.comment, bytes(data[entry.header_offset + 30 : begin])):
            if len(more) >= LEAST:
                yield "", more
        packed = data[begin:end]
        if entry.compress_type == zipfile.ZIP_STORED:
            yield entry.filename, packed
            continue
        if entry.compress_type == zipfile.ZIP_LZMA:
            yield entry.filename, _lzma(data, entry, budget)
            yield "", packed
            continue
        if entry.compress_type not in METHODS:
            raise Opaque("a method of compression that can't be opened")
        found = inflate(METHODS[entry.compress_type](), packed, budget)
        if len(found.content) > entry.file_size and not budget.clips:
            raise Cut("a zip archive has a member that is larger than it says, as a bomb has")
        yield entry.filename, found.content
        if found.end < len(packed):
            yield "", packed[found.end :]
    yield from gaps(data, spans)


METHODS: dict[int, Any] = {
    zipfile.ZIP_DEFLATED: lambda: zlib.decompressobj(-15),
    zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
}


def _place(data: Any, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """Where a member's packed bytes lie. Raises Opaque."""
    start = entry.header_offset
    if bytes(data[start : start + 4]) != b"PK\x03\x04" or start + 30 > len(data):
        raise Opaque("a zip archive that is not sound")
    begin = start + 30 + sum(struct.unpack("<HH", data[start + 26 : start + 30]))
    return begin, begin + entry.compress_size


def _spans(data: Any, listed: list[zipfile.ZipInfo], budget: Budget) -> Iterator[tuple[int, int]]:
    """Where each member begins and ends. Raises Opaque, and Cut for what only bombs have, before anything is
    unpacked."""
    if len(listed) > MAX_MEMBERS:
        raise Cut("an archive has more members than is allowed")
    if any(entry.flag_bits & 0x1 for entry in listed):
        raise Opaque("an encrypted archive")
    spans = sorted((entry.header_offset, _place(data, entry)[1]) for entry in listed)
    if any(start < end for (_, end), (start, _) in zip(spans, spans[1:])):  # noqa: B905, RUF007 - of 3.10
        if budget.clips:
            raise Opaque("a zip archive that is not sound")
        raise Cut("a zip archive has members that lie over each other, as a bomb has")
    budget.promise(sum(entry.file_size for entry in listed if entry.compress_type != zipfile.ZIP_STORED))
    return iter(spans)


def _lzma(data: Any, entry: zipfile.ZipInfo, budget: Budget) -> bytes:
    """A member that is packed by LZMA. Raises Cut, Opaque."""
    parts, room = [], budget.room()
    try:
        with zipfile.ZipFile(View(data)) as archive, archive.open(entry) as file:
            while piece := file.read(min(STEP, room + 1)):
                room -= len(piece)
                if room < 0:
                    raise Cut("a packed piece becomes larger than is allowed")
                budget.unpack(len(piece))
                parts.append(piece)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, lzma.LZMAError, struct.error) as error:
        raise Opaque("a zip archive that is not sound") from error
    return b"".join(parts)


def gaps(data: Any, spans: list[tuple[int, int]]) -> Iterator[tuple[str, Any]]:
    """What lies between the spans, and after them."""
    at = 0
    for start, end in [*spans, (len(data), len(data))]:
        if start - at >= LEAST:
            yield "", data[at:start]
        at = max(at, end)


def is_tar(data: Any) -> bool:
    """Whether a tar archive begins here."""
    return len(data) > 512 and bytes(data[257:262]) == b"ustar"


def tar_members(data: Any, budget: Budget) -> Iterator[tuple[str, Any]]:
    """Name and content of each member of a tar archive, and what lies between and after them.

    Raises Opaque if it is not sound, Cut if there is too much.
    """
    spans = []
    try:
        with tarfile.open(fileobj=View(data), mode="r:") as archive:
            for count, entry in enumerate(archive):
                budget.check()
                if count > MAX_MEMBERS:
                    raise Cut("an archive has more members than is allowed")
                texts = [entry.linkname, entry.uname, entry.gname, *map(str, entry.pax_headers.values())]
                yield entry.name, "\n".join(texts).encode()
                file = archive.extractfile(entry) if entry.isreg() else None
                if file is not None and entry.issparse():
                    if entry.size > budget.room():
                        raise Cut("a packed piece becomes larger than is allowed")
                    budget.unpack(entry.size)
                    yield "", file.read(entry.size)
                elif file is not None:
                    spans.append((entry.offset_data, entry.offset_data + entry.size))
                    if spans[-1][1] > len(data):
                        raise Opaque("a tar archive that is not sound")
                    yield "", data[slice(*spans[-1])]
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise Opaque("a tar archive that is not sound") from error
    if not budget.clips:
        small = []
        for _, piece in gaps(data, sorted(spans)):
            # Without its first byte, a name's or nothing: so it is no archive again.
            if len(piece) > STEP:
                yield "", piece[1:]
            else:
                small.append(bytes(piece[1:]).rstrip(b"\0"))
        yield "", b"".join(small)


def png_pixels(data: Any, budget: Budget) -> bytes:
    """The pixels of a PNG image, which lie in several chunks."""
    at, parts = 8, []
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        if bytes(data[at + 4 : at + 8]) == b"IDAT":
            parts.append(bytes(data[at + 8 : at + 8 + size]))
        at += 12 + size
    return inflate(zlib.decompressobj(), b"".join(parts), budget).content if parts else b""
