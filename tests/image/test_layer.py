"""Layers: the same bytes for the same files, made anew each time, in little memory."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tracemalloc
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.errors import Rejected
from edgetrain.image.layer import LayerFile, tar_layer

MTIME = 1_790_000_000
FILES = [
    LayerFile.of_bytes("model/model.onnx", b"weights" * 1000),
    LayerFile.of_bytes("app/score.py", b"print()\n"),
    LayerFile("app/bin/run", 3, lambda: io.BytesIO(b"run"), mode=0o755),
]


def data_of(files: list[LayerFile]) -> bytes:
    with tar_layer(files, MTIME).open() as stream:
        return stream.read()


def test_the_golden_layer() -> None:
    """Changes only if images made before can't be made again: then say so in the changelog."""
    layer = tar_layer(FILES, MTIME)
    assert layer.size == 20480
    assert (
        layer.digest == layer.diff_id == "sha256:bb1c6685283bfb419dd8229e78821ba049a3ffe7aecabff94485fe0437be5353"
    )


def test_a_layer_is_its_digest_and_is_tar() -> None:
    layer = tar_layer(FILES, MTIME)
    data = data_of(FILES)
    assert len(data) == layer.size
    assert "sha256:" + hashlib.sha256(data).hexdigest() == layer.digest
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [(one.name, one.mode, one.isdir()) for one in members] == [
            ("app", 0o755, True),
            ("app/bin", 0o755, True),
            ("app/bin/run", 0o755, False),
            ("app/score.py", 0o644, False),
            ("model", 0o755, True),
            ("model/model.onnx", 0o644, False),
        ]
        assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {(0, 0, "", "", MTIME)}
        assert not any(one.pax_headers for one in members)
        model = tar.extractfile("model/model.onnx")
        assert model is not None
        assert model.read() == b"weights" * 1000


names = st.text("abcdefgh.-_0123456789", min_size=1, max_size=12).filter(lambda name: name.strip(".") != "")


@given(
    st.dictionaries(names, st.tuples(st.binary(max_size=2000), st.sampled_from([0o644, 0o755])), min_size=1),
    st.randoms(use_true_random=False),
    st.integers(1, 5000),
)
def test_order_and_reading_do_not_count(files: dict[str, tuple[bytes, int]], shuffler, step: int) -> None:
    made = [
        LayerFile(f"app/{name}", len(data), lambda data=data: io.BytesIO(data), mode)
        for name, (data, mode) in files.items()
    ]
    shuffled = made[:]
    shuffler.shuffle(shuffled)
    layer, other = tar_layer(made, MTIME), tar_layer(shuffled, MTIME)
    assert layer == other
    with other.open() as stream:
        pieces = b"".join(iter(lambda: stream.read(step), b""))
    assert "sha256:" + hashlib.sha256(pieces).hexdigest() == layer.digest
    with tarfile.open(fileobj=io.BytesIO(pieces)) as tar:
        assert {one.name: one.size for one in tar if one.isfile()} == {
            f"app/{name}": len(data) for name, (data, _) in files.items()
        }


def test_every_fact_counts() -> None:
    one = LayerFile.of_bytes("a", b"1")
    made = [
        tar_layer([one], MTIME),
        tar_layer([one], MTIME + 1),
        tar_layer([LayerFile.of_bytes("b", b"1")], MTIME),
        tar_layer([LayerFile.of_bytes("a", b"2")], MTIME),
        tar_layer([LayerFile("a", 1, lambda: io.BytesIO(b"1"), 0o755)], MTIME),
    ]
    assert len({layer.digest for layer in made}) == len(made)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        "a b",
        "a\nb",
        "é",
        "a" * 101,
        "a/" * 130 + "a",
        "..",
    ],
)
def test_an_unsafe_path_is_refused(path: str) -> None:
    with pytest.raises(Rejected) as caught:
        tar_layer([LayerFile.of_bytes(path, b"")], MTIME)
    assert caught.value.reason == "BadPath"


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b/c", "a/b")])
def test_two_files_in_one_place_are_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(Rejected) as caught:
        tar_layer([LayerFile.of_bytes(path, b"") for path in paths], MTIME)
    assert caught.value.reason == "BadPath"


def test_a_long_path_is_whole() -> None:
    path = "/".join(["d" * 60] * 3) + "/model.onnx"
    with tarfile.open(fileobj=io.BytesIO(data_of([LayerFile.of_bytes(path, b"x")]))) as tar:
        assert tar.getnames()[-1] == path


@pytest.mark.parametrize("size", [6, 8])
def test_a_file_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(Rejected) as caught:
        tar_layer([LayerFile("model/m.onnx", size, lambda: io.BytesIO(b"weights"))], MTIME)
    assert caught.value.reason == "SizeChanged"


class Zeros(io.RawIOBase):
    """So many zero bytes, made as they are read."""

    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), self._left)
        buffer[:count] = bytes(count)
        self._left -= count
        return count


def zeros(size: int) -> BinaryIO:
    return io.BufferedReader(Zeros(size))


def test_a_large_model_takes_little_memory() -> None:
    size = 300 * 2**20
    tracemalloc.start()
    layer = tar_layer([LayerFile("model/m.onnx", size, lambda: zeros(size))], MTIME)
    count = 0
    with layer.open() as stream:
        while chunk := stream.read(2**20):
            count += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == layer.size > size
    assert peak < 32 * 2**20


def test_a_model_over_eight_gigabytes_has_a_header() -> None:
    """Only the header is read: its size field must hold what USTAR's can't."""
    from edgetrain.image.layer import _tar

    size = 9 * 2**30
    header = next(_tar([LayerFile("m.onnx", size, lambda: zeros(size))], MTIME))
    assert tarfile.TarInfo.frombuf(header, "ascii", "strict").size == size
