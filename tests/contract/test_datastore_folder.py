"""The folder datastore passes the contract, reads nothing twice, follows no link and tells no name."""

from __future__ import annotations

import itertools
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetrain.core.errors import Denied, NotFound, Rejected, Transient
from edgetrain.core.ports import DataEntry, DataStream, Settings
from edgetrain.providers.folder import hasher, looking
from edgetrain.providers.folder.datastore import FolderDatastore
from edgetrain.providers.table import provider
from tests.walk import examples

from .datastore import FILES, DatastoreContract, Fill
from .memory_datastore import MemoryDatastore

SECRET = "doe_jane"


def write(root: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def minutes_later(minutes: float = 1) -> Callable[[], int]:
    return lambda: time.time_ns() + int(minutes * 60e9)


def read_by(store: FolderDatastore, path: str = ".") -> int:
    told: list[int] = []
    store.digest(path, told.append)
    return sum(told)


class TestFolderDatastore(DatastoreContract):
    @pytest.fixture
    def fill(self, tmp_path: Path) -> Fill:
        number = itertools.count()

        def fill(files: Mapping[str, bytes]) -> FolderDatastore:
            root = tmp_path / f"site-{next(number)}"
            root.mkdir()
            write(root, files)
            return FolderDatastore(root=root, cache=tmp_path / "cache")

        return fill


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "site", FILES)
    return tmp_path / "site"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_the_table_makes_it(root: Path, cache: Path) -> None:
    assert (
        provider("datastore", "folder", Settings("labs", {"path": str(root)}, cache)).digest("labs.csv").files == 1
    )


def test_a_source_is_an_absolute_folder(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    source = FolderDatastore(root=Path("site"), cache=cache).source("cxr/2026q3/")
    assert (source.kind, source.location) == ("folder", str(root / "cxr/2026q3"))


def test_an_unchanged_folder_is_not_read_again(root: Path, cache: Path) -> None:
    first = FolderDatastore(root=root, cache=cache, clock=minutes_later())
    assert read_by(first) == 6025
    again = FolderDatastore(root=root, cache=cache, clock=minutes_later())
    assert read_by(again) == 0
    assert again.digest(".") == MemoryDatastore(FILES).digest(".")
    assert read_by(again, "cxr/2026q3") == 0  # a part of it is the same files
    (root / "labs.csv").write_bytes(b"a,b\n1,3\n")
    assert read_by(again) == 8
    assert again.digest(".") == MemoryDatastore({**FILES, "labs.csv": b"a,b\n1,3\n"}).digest(".")


def test_two_datastores_share_a_cache_without_mixing(root: Path, cache: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", {"labs.csv": b"A,B\n1,2\n"})
    stores = [
        FolderDatastore(root=folder, cache=cache, clock=minutes_later()) for folder in (root, tmp_path / "other")
    ]
    assert [read_by(store, "labs.csv") for store in stores] == [8, 8]
    assert stores[0].digest("labs.csv") != stores[1].digest("labs.csv")


def test_a_change_that_keeps_size_and_time_is_seen(root: Path, cache: Path) -> None:
    store = FolderDatastore(root=root, cache=cache, clock=minutes_later())
    before, status = store.digest("labs.csv"), (root / "labs.csv").stat()
    (root / "labs.csv").write_bytes(b"a,b\n9,9\n")
    os.utime(root / "labs.csv", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.digest("labs.csv").digest != before.digest


def test_a_file_just_written_is_never_trusted(root: Path, cache: Path) -> None:
    now = (root / "labs.csv").stat().st_mtime_ns
    early = FolderDatastore(root=root, cache=cache, clock=lambda: now + 10**9)
    assert read_by(early, "labs.csv") == 8
    assert read_by(early, "labs.csv") == 8
    late = FolderDatastore(root=root, cache=cache, clock=lambda: now + 60 * 10**9)
    assert read_by(late, "labs.csv") == 8
    assert read_by(late, "labs.csv") == 0
    assert read_by(early, "labs.csv") == 8


def test_a_spoilt_or_unusable_cache_costs_only_time(root: Path, cache: Path, tmp_path: Path) -> None:
    expected = MemoryDatastore(FILES).digest(".")
    cache.mkdir()
    (cache / "digests.sqlite3").write_bytes(b"not a database" * 1000)
    store = FolderDatastore(root=root, cache=cache, clock=minutes_later())
    assert store.digest(".") == expected
    assert read_by(store) == 0
    (tmp_path / "file").write_bytes(b"")
    assert FolderDatastore(root=root, cache=tmp_path / "file" / "cache").digest(".") == expected


def test_the_cache_holds_no_name(root: Path, cache: Path) -> None:
    FolderDatastore(root=root, cache=cache, clock=minutes_later()).digest(".")
    held = b"".join(path.read_bytes() for path in cache.iterdir())
    assert len(held) > 1000
    assert SECRET.encode() not in held
    assert b"labs" not in held


def unlinked_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)  # a socket's address is short
        listener.bind(path.name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "Symlink"),
        (lambda path: path.symlink_to("/etc"), "Symlink"),
        (lambda path: path.symlink_to("absent"), "Symlink"),
        (os.mkfifo, "SpecialFile"),
        (unlinked_socket, "SpecialFile"),
    ],
)
def test_links_and_special_files_are_refused_unnamed(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], reason: str
) -> None:
    monkeypatch.chdir(root)
    make(root / "cxr" / SECRET)
    store = FolderDatastore(root=root, cache=cache)
    for use, path in ((store.digest, "cxr"), (store.digest, f"cxr/{SECRET}"), (store.source, f"cxr/{SECRET}")):
        with pytest.raises(Rejected) as caught:
            use(path)
        assert caught.value.reason == reason
        assert caught.value.fix
    with pytest.raises(Rejected) as caught:
        store.digest("cxr/")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_link_on_the_way_is_refused(root: Path, cache: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"x/secret.csv": b"1"})
    (root / "way").symlink_to(tmp_path / "elsewhere")
    store = FolderDatastore(root=root, cache=cache)
    for use in (store.digest, store.source):
        with pytest.raises(Rejected) as caught:
            use("way/x")
        assert caught.value.reason == "Symlink"


@pytest.mark.parametrize("change", ["grown", "rewritten"])
def test_a_file_that_changes_while_it_is_read_is_told(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    read = os.read
    os.utime(root / "labs.csv", (10**9, 10**9))  # a change within one tick of the clock is known by its size alone

    def meddled(handle: int, count: int) -> bytes:
        data = read(handle, count)
        if data == b"a,b\n1,2\n":
            (root / "labs.csv").write_bytes(data + b"3,4\n" if change == "grown" else data[::-1])
        return data

    monkeypatch.setattr(hasher.os, "read", meddled)
    store = FolderDatastore(root=root, cache=cache, clock=minutes_later())
    with pytest.raises(Transient) as caught:
        store.digest("labs.csv")
    assert caught.value.reason == "DataChanging"
    assert store.digest("labs.csv").bytes == (12 if change == "grown" else 8)  # not what it was before


def test_a_large_file_that_changes_while_it_is_read_is_told(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, {"large.bin": bytes(2**17)})
    opened = looking.open_regular

    def grow(name: str, folder: int) -> BinaryIO:
        stream = opened(name, folder)
        with (root / "large.bin").open("ab") as late:
            late.write(b"3,4\n")
        return stream

    monkeypatch.setattr(looking, "open_regular", grow)
    with pytest.raises(Transient) as caught:
        FolderDatastore(root=root, cache=cache).digest(".")
    assert caught.value.reason == "DataChanging"


def test_a_fault_of_the_disk_names_no_file(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(looking, "open_regular", refuse)
    monkeypatch.setattr(hasher, "read", lambda *_: (hasher.FAILED, hasher.UNKNOWN, bytes(hasher.DIGEST), 0))
    with pytest.raises(Denied) as caught:
        FolderDatastore(root=root, cache=cache).digest("cxr/2026q3")
    assert "cxr/2026q3" in caught.value.message
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert "müller" not in shown


def test_a_tree_too_deep_is_refused(root: Path, cache: Path) -> None:
    write(root, {"/".join("d" * 70) + "/x": b"1"})
    with pytest.raises(Rejected) as caught:
        FolderDatastore(root=root, cache=cache).digest(".")
    assert caught.value.reason == "TooDeep"


def test_an_absent_datastore_is_told(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(NotFound) as caught:
        FolderDatastore(root=tmp_path / "absent", cache=cache).digest("x")
    assert caught.value.reason == "DatastoreMissing"


def test_no_handle_is_left_open(root: Path, cache: Path) -> None:
    write(root, {f"many/{n}": b"x" * n for n in range(200)})
    (root / "zz").symlink_to("/etc")
    store = FolderDatastore(root=root, cache=cache, clock=minutes_later())
    store.digest("many")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("cxr", "labs.csv", "many"):
        store.digest(path)
        store.source(path)
    for path in (".", "absent", "labs.csv/x", "zz/x"):
        with pytest.raises((Rejected, NotFound)):
            store.digest(path)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # less: what other tests left was collected


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in {".", ".."} and len(name.encode()) < 64
)


@settings(max_examples=examples(40), deadline=None)
@given(st.dictionaries(names, st.one_of(st.binary(max_size=64), st.dictionaries(names, st.binary(max_size=9)))))
def test_both_providers_agree_on_every_tree(tree: dict[str, bytes | dict[str, bytes]]) -> None:
    files: dict[str, bytes] = {}
    for name, inner in tree.items():
        files |= {name: inner} if isinstance(inner, bytes) else {f"{name}/{n}": data for n, data in inner.items()}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "site"
        root.mkdir()
        write(root, files)
        store = FolderDatastore(root=root, cache=Path(folder) / "cache", clock=minutes_later())
        expected = MemoryDatastore(files).digest(".")
        assert store.digest(".") == expected == store.digest(".")


def streamed(root: Path, cache: Path, path: str) -> DataStream:
    stream = FolderDatastore(root=root, cache=cache).source(path).stream
    assert stream is not None
    return stream


@pytest.mark.parametrize("path", ["cxr/2026q3", "labs.csv"])
@pytest.mark.parametrize("change", ["grown", "replaced", "deleted", "linked"])
def test_a_stream_tells_a_file_that_is_another_now(root: Path, cache: Path, path: str, change: str) -> None:
    stream = streamed(root, cache, path)
    entry = max(stream.entries(), key=lambda found: found.size)
    place = root / path if (root / path).is_file() else root / path / entry.name
    if change == "grown":
        place.write_bytes(place.read_bytes() + b"x")
    else:
        kept = place.with_name("kept")
        place.rename(kept)
        if change == "replaced":
            place.write_bytes(kept.read_bytes())
        if change == "linked":
            place.symlink_to(kept)
    with pytest.raises(Rejected) as caught:
        list(stream.read(entry))
    assert caught.value.reason == ("Symlink" if change == "linked" else "DataChanged")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_stream_tells_a_file_that_changes_while_it_is_read(root: Path, cache: Path) -> None:
    write(root, {"large.bin": bytes(3 * 2**20)})
    stream = streamed(root, cache, "large.bin")
    (entry,) = stream.entries()
    chunks = stream.read(entry)
    assert next(chunks)
    with (root / "large.bin").open("r+b") as late:
        late.write(b"changed")
    with pytest.raises(Rejected) as caught:
        list(chunks)
    assert caught.value.reason == "DataChanged"


@pytest.mark.parametrize("name", ["../labs.csv", "/etc/passwd", "a/../../labs.csv"])
def test_a_stream_reads_nothing_outside(root: Path, cache: Path, name: str) -> None:
    with pytest.raises(Rejected) as caught:
        list(streamed(root, cache, "cxr").read(DataEntry(name, 8, "tag")))
    assert caught.value.reason == "PathOutside"


def test_a_diagnosis_of_an_absent_folder_fails(tmp_path: Path, cache: Path) -> None:
    checks = FolderDatastore(root=tmp_path / "absent", cache=cache).diagnose(["cxr"])
    assert [(check.name, check.status.value, check.reason) for check in checks] == [
        ("data-folder", "fail", "DatastoreMissing"),
        ("data-path", "fail", "DatastoreMissing"),
    ]
