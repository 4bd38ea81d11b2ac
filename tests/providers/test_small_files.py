"""Files looked at by other processes, with a cache: the same digests and refusals, and no harm if these fail."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.errors import ProviderError, Rejected
from edgetrain.core.ports import DataDigest
from edgetrain.providers.folder import cache, looking
from edgetrain.providers.folder.cache import FolderCache, Row
from edgetrain.providers.folder.datastore import FolderDatastore
from edgetrain.providers.folder.hasher import DIGEST, FACTS, UNKNOWN
from edgetrain.providers.folder.hasher import SMALL as SMALL_ELSEWHERE
from edgetrain.providers.folder.looking import SMALL, Looking
from tests.walk import examples

Read = Callable[[], int]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for number in range(300):
        file = root / f"{number % 7}" / ("ü" if number % 2 else "u") / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * number)
    (root / "0" / "odd\udcff name").write_bytes(b"")
    (root / "0.txt").write_bytes(b"before what is in the folder")
    for name in ("large", "3/large", "00"):
        (root / name).write_bytes(b"y" * (SMALL + 1))
    (root / "1" / "larger").write_bytes(b"y" * (SMALL_ELSEWHERE + 1))
    return root


@pytest.fixture(params=["here", "other processes"])
def read(request: pytest.FixtureRequest, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Looks at all, checks the digest, and answers how many bytes were read for it."""
    monkeypatch.setattr(looking, "WORTH_IT", 10**6 if request.param == "here" else 0)
    monkeypatch.setattr(looking, "BATCH", 20)
    monkeypatch.setattr(cache, "_MANY", 5)  # some rows are asked for one by one, the others at once

    def read() -> int:
        told: list[int] = []
        assert later(root, tmp_path / "cache").digest(".", told.append) == slowly(root)
        return sum(told)

    return read


def later(root: Path, cache: Path) -> FolderDatastore:
    moment = time.time_ns() + 60 * 10**9
    return FolderDatastore(root=root, cache=cache, clock=lambda: moment)


def slowly(root: Path) -> DataDigest:
    """What is promised, in the plainest way."""
    found = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    data = [(str(file.relative_to(root)), file.read_bytes()) for file in found]
    digest = tree_digest((name, digest_bytes(content)) for name, content in data)
    return DataDigest(digest, len(data), sum(len(content) for _, content in data))


def test_what_is_known_is_not_read_again(read: Read, root: Path) -> None:
    assert read() == slowly(root).bytes
    assert read() == 0
    (root / "5" / "u" / "40.txt").write_bytes(b"other")
    (root / "5" / "u" / "41.txt").write_bytes(b"a new one")
    (root / "1" / "ü" / "1.txt").unlink()
    (root / "3" / "large").write_bytes(b"z" * (SMALL + 1))
    (root / "2" / "u").rename(root / "2" / "v")
    moved = sum(file.stat().st_size for file in (root / "2" / "v").iterdir())
    assert read() == 5 + 9 + SMALL + 1 + moved
    assert read() == 0


def test_a_look_that_fails_is_not_in_vain(read: Read, root: Path) -> None:
    os.mkfifo(root / "zz")
    with pytest.raises(Rejected):
        read()
    (root / "zz").unlink()
    (root / "6" / "u" / "7.txt").symlink_to("6.txt")
    with pytest.raises(Rejected):
        read()
    (root / "6" / "u" / "7.txt").unlink()
    # Large files may have been under way; of the small ones before the link nearly all are known.
    small = sum(range(300))
    assert read() < slowly(root).bytes - small // 2
    assert read() == 0


def test_what_took_long_is_remembered_before_the_rest(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (root / f"large {number}").write_bytes(b"y" * (SMALL + number))
    monkeypatch.setattr(looking, "BATCH", 1)
    monkeypatch.setattr(looking, "OFTEN", 0)
    told: list[int] = []

    def progress(size: int) -> None:
        told.append(size)
        if size == SMALL + 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(FolderCache, "__exit__", lambda self, *_: self._writer.shutdown())
        later(root, tmp_path / "cache").digest(".", progress)
    told.clear()
    later(root, tmp_path / "cache").digest(".", told.append)
    assert [size for size in told if size >= SMALL] == [SMALL + 3]


def test_one_file_and_its_folder_know_of_each_other(root: Path, tmp_path: Path) -> None:
    told: list[int] = []
    store = later(root, tmp_path / "cache")
    alone = store.digest("5/u/40.txt", told.append)
    store.digest("5/u", told.append)
    assert sum(told) == slowly(root / "5" / "u").bytes
    assert store.digest("5/u/40.txt", told.append) == alone
    store.digest("5/u", told.append)
    assert sum(told) == slowly(root / "5" / "u").bytes


def test_a_damaged_row_is_none(read: Read, root: Path, tmp_path: Path) -> None:
    whole = read()
    for at in (0, 31, 32, 36, 67, -33, -32, -1):
        with sqlite3.connect(tmp_path / "cache" / "digests.sqlite3") as base:
            for key, row in base.execute("SELECT key, row FROM folder").fetchall():
                spoilt = bytearray(row)
                spoilt[at] ^= 1
                base.execute("UPDATE folder SET row=? WHERE key=?", (bytes(spoilt), key))
        base.close()
        assert read() == whole
    with sqlite3.connect(tmp_path / "cache" / "digests.sqlite3") as base:
        base.execute("UPDATE folder SET row=(SELECT row FROM folder ORDER BY length(row) LIMIT 1)")
    base.close()
    assert read() > 0  # a row of another folder


@pytest.mark.parametrize("fault", ["gone", "link", "folder", "device"])
def test_what_is_another_thing_meanwhile_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    file = root / "5" / "u" / "40.txt"
    really = Looking._send

    def meddled(self: Looking) -> None:
        if fault == "folder":
            file.parent.rename(root.parent / "away")
            file.parent.symlink_to(root.parent / "away")
        else:
            file.unlink()
        if fault == "link":
            file.symlink_to(root / "large")
        if fault == "device":
            os.mkfifo(file)
        monkeypatch.setattr(Looking, "_send", really)
        really(self)

    monkeypatch.setattr(looking, "WORTH_IT", 0)
    monkeypatch.setattr(looking, "BATCH", 10**6)
    monkeypatch.setattr(looking, "BATCH_BYTES", 10**9)
    monkeypatch.setattr(Looking, "_send", meddled)
    with pytest.raises(ProviderError) as caught:
        later(root, tmp_path / "cache").digest(".")
    assert "40.txt" not in str(caught.value)


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_dies_is_done_without(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    really = Looking._start

    def start(self: Looking) -> None:
        really(self)
        for process in self._processes[number:]:
            process.kill()
            process.wait()

    monkeypatch.setattr(looking, "WORTH_IT", 0)
    monkeypatch.setattr(looking, "BATCH", 20)
    monkeypatch.setattr(Looking, "_start", start)
    assert later(root, tmp_path / "cache").digest(".") == slowly(root)


NAMES = st.sampled_from(["a", "a.", "a0", "a-b", "b", "ä", "\udcff", "a" * 200])
TREES = st.recursive(
    st.sampled_from([b"", b"1", b"2" * 100, b"3" * (SMALL + 1), b"4" * (SMALL_ELSEWHERE + 1)]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


def grow(folder: Path, tree: object) -> None:
    if isinstance(tree, dict):
        folder.mkdir()
        for name, inner in tree.items():
            grow(folder / name, inner)
    elif isinstance(tree, bytes):
        folder.write_bytes(tree)


@settings(max_examples=examples(15), deadline=None)
@given(st.lists(TREES, min_size=2, max_size=3), st.integers(1, 5))
def test_every_tree_has_its_digest(trees: list[object], batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(looking, "BATCH", batch)
        root = Path(folder) / "data"
        for tree, worth_it in itertools.product(trees, (0, 10**6)):  # each with what is known of the one before
            shutil.rmtree(root, ignore_errors=True)
            grow(root, tree)
            monkeypatch.setattr(looking, "WORTH_IT", worth_it)
            store, expected = later(root, Path(folder) / "cache"), slowly(root)
            assert store.digest(".") == expected == store.digest(".")


ENTRIES = st.dictionaries(st.integers(0, 9), st.tuples(st.binary(min_size=1, max_size=1), st.integers(0, 9)))


def row(entries: dict[int, tuple[bytes, int]]) -> Row:
    return Row(
        array("I", entries).tobytes(),
        b"".join(facts * FACTS.size for facts, _ in entries.values()),
        b"".join(bytes([digest]) * DIGEST for _, digest in entries.values()),
    )


@given(ENTRIES, ENTRIES, st.lists(st.integers(0, 9), unique=True))
def test_rows_are_like_dictionaries(
    one: dict[int, tuple[bytes, int]], other: dict[int, tuple[bytes, int]], names: list[int]
) -> None:
    assert row(one).over(row(other)) == row({**one, **{k: v for k, v in other.items() if k not in one}})
    facts, digests = row(one).of(array("I", names).tobytes())
    found = [one.get(name) for name in names]
    if any(found):
        assert facts == b"".join(UNKNOWN if each is None else each[0] * FACTS.size for each in found)
        assert digests == b"".join(bytes([each[1] if each else 0]) * DIGEST for each in found)
    else:
        assert (facts, digests) == (b"", b"")
