"""What is packed: nothing hides beside what is unpacked, and bombs are refused before they go off."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from edgetrain.onsite.content import packed
from edgetrain.onsite.content.budget import FREE, RATIO, Budget, Cut

from .content import ROWS, TABLE, codes, run

# Rows that are no copy of the file's bytes: only who reads them as text finds them.
SECRET = "; ".join(cell for row in ROWS[50:80] for cell in row.split(",")).encode()
NOISE = random.Random(1).randbytes(90_000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "table.csv").write_text(TABLE)
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder


def tar(content: bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry = tarfile.TarInfo("weights")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def zipped(content: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "weights") -> bytearray:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr(name, content)
    return bytearray(made.getvalue())


def behind_a_member() -> bytes:
    """A zip archive with more in a member's place than its stream needs."""
    made = zipped(NOISE)
    at = made.index(b"PK\x01\x02")
    (size,) = struct.unpack_from("<I", made, at + 20)
    made[at:at] = SECRET
    struct.pack_into("<I", made, 18, size + len(SECRET))
    struct.pack_into("<I", made, at + len(SECRET) + 20, size + len(SECRET))
    struct.pack_into("<I", made, made.rindex(b"PK\x05\x06") + 16, at + len(SECRET))
    return bytes(made)


def in_a_local_name() -> bytes:
    made = zipped(NOISE, zipfile.ZIP_STORED, "w" * len(SECRET))
    made[30 : 30 + len(SECRET)] = SECRET
    return bytes(made)


def in_the_padding_of_a_tar() -> bytes:
    made = tar(b"weights")
    return made[:520] + SECRET[:500] + made[1020:]


def in_a_header() -> bytes:
    header = repr({"descr": "<f8", "fortran_order": False, "shape": (9, 9), "remark": SECRET.decode()}).encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(9 * 9 * 8)


@pytest.mark.parametrize(
    "content",
    [
        tar(b"weights") + SECRET,
        in_the_padding_of_a_tar(),
        gzip.compress(NOISE) + SECRET,
        gzip.compress(NOISE)[:70_000] + bytes(50) + SECRET,
        b"".join(gzip.compress(NOISE[at : at + 99]) for at in range(0, 2000, 99)) + gzip.compress(SECRET),
        bz2.compress(NOISE) + SECRET,
        lzma.compress(NOISE) + SECRET,
        zlib.compress(NOISE) + SECRET,
        behind_a_member(),
        in_a_local_name(),
        in_a_header(),
    ],
    ids=[
        *("behind a tar", "padding of a tar", "behind gzip", "behind torn gzip", "the last of many gzips"),
        *("behind bzip2", "behind xz", "behind zlib", "behind a zip's member", "a zip's local name", "npy header"),
    ],
)
def test_nothing_hides_beside_what_is_unpacked(data: Path, outputs: Path, content: bytes) -> None:
    (outputs / "model").write_bytes(content)
    assert ("E701", "model") in codes(run(outputs, data))


def test_a_tar_s_member_is_looked_at_to_its_end() -> None:
    """However large it is: it lies there unpacked."""
    made = tar(bytes(3 * 2**20))
    parts = [bytes(part) for _, part in packed.tar_members(memoryview(made), Budget(2**20, 60))]
    assert bytes(3 * 2**20) in parts


# ---- bombs


def full_overlap(members: int, size: int) -> bytes:
    """Many members that are all the same bytes: 250 kB that unpack to 315 GB."""
    made = zipped(b"", zipfile.ZIP_DEFLATED, "a")
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = b"".join(machine.compress(bytes(2**20)) for _ in range(size)) + machine.flush()
    local, (at,) = made[:31], (made.index(b"PK\x01\x02"),)
    entry = made[at : at + 47]
    for head, first in ((local, 18), (entry, 20)):
        struct.pack_into("<II", head, first, len(stream), size * 2**20)
    body = bytes(local) + stream
    directory = bytes(entry) * members
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, members, members, len(directory), len(body), 0)
    return body + directory + end


def partial_overlap() -> bytes:
    """Two members of which the first has the second's header in a stored block, as the known bombs have."""
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    kernel = machine.compress(bytes(2**20)) + machine.flush()
    inner = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 33, 0, len(kernel), 2**20, 1, 0) + b"b"
    quoted = struct.pack("<BHH", 0, len(inner), 0xFFFF ^ len(inner)) + inner + kernel
    outer = struct.pack(
        "<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 33, 0, len(quoted), 2**20 + len(inner), 1, 0
    ) + (b"a")
    body = outer + quoted
    directory = b""
    for name, start, size, whole in (
        (b"a", 0, len(quoted), 2**20 + len(inner)),
        (b"b", len(outer) + 5, len(kernel), 2**20),
    ):
        fixed = struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, 0, size, whole, 1, 0, 0, 0, 0, 0, start
        )
        directory += fixed + name
    return body + directory + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2, 2, len(directory), len(body), 0)


def says_so() -> bytes:
    """Members that lie one after another, together of 600 MB."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(6):
            with archive.open(str(number), "w") as file:
                for _ in range(100):
                    file.write(bytes(2**20))
    return made.getvalue()


def lies() -> bytes:
    """A member that says it is of 9 bytes."""
    made = zipped(bytes(2**20))
    for start, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", made, made.index(start) + place, 9)
    return bytes(made)


@pytest.mark.parametrize(
    ("content", "reason", "looked"),
    [
        (full_overlap(5000, 60), "members that lie over each other", 1),
        (partial_overlap(), "members that lie over each other", 1),
        (says_so(), "100 times its size", 1),
        (lies(), "larger than it says", 3),
        (gzip.compress(full_overlap(5000, 60)), "members that lie over each other", 400),
    ],
    ids=["full overlap", "partial overlap", "says so", "lies", "overlap in gzip"],
)
def test_a_bomb_is_refused_before_it_goes_off(
    data: Path, outputs: Path, content: bytes, reason: str, looked: int
) -> None:
    (outputs / "model").write_bytes(content)
    report = run(outputs, data)
    assert (report["complete"], report["findings"]) == (False, [])
    assert reason in report["reason"]
    assert report["bytes"] <= looked * max(len(content), 100)


def test_that_bomb_is_one() -> None:
    content = full_overlap(5000, 60)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = [entry.file_size for entry in archive.infolist()]
        first = archive.infolist()[4999]
    assert (len(content) < 310_000, sum(sizes) > 314e9) == (True, True)
    assert (
        len(
            packed.inflate(
                zlib.decompressobj(-15), content[31 : 31 + first.compress_size], Budget(2**40, 60)
            ).content
        )
        == sizes[0]
    )


def test_unpacked_bytes_are_counted_as_they_come() -> None:
    budget = Budget(2**40, 60)
    budget.source = 1000
    half = zlib.compress(bytes(130 * 2**20), 1)
    assert len(packed.inflate(zlib.decompressobj(), half, budget).content) == 130 * 2**20
    with pytest.raises(Cut, match="100 times its size, as a bomb does"):
        packed.inflate(zlib.decompressobj(), half, budget)
    assert budget.unpacked <= FREE + RATIO * 1000


def test_data_may_be_packed_as_it_likes() -> None:
    """What a run reads is the site's own: of a bomb in it only the bytes as they lie are learned."""
    budget = Budget(2**62, 60, clips=True)
    budget.unpack(2**40)
    with pytest.raises(packed.Opaque):
        list(packed.members(memoryview(partial_overlap()), budget))
