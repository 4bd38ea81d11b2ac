"""Staging from a blob store: what comes of it, what moves, and what stays."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.onsite.staging.tree import tree_digest as their_digest
from tests.onsite.blob_server import CANARY, BlobServer
from tests.onsite.program import Program, finish, tree
from tests.walk import examples

DATA = {"a.csv": b"1,2\n", "b/c d.bin": bytes(range(256)) * 40, "b/é/x%20y+z&#?.txt": b"text", "empty": b""}
BIG = 40_000_000


def below(prefix: str, data: dict[str, bytes]) -> dict[str, bytes]:
    return {prefix + name: content for name, content in data.items()}


def digest_of(data: dict[str, bytes]) -> str:
    return tree_digest((name, digest_bytes(content)) for name, content in data.items())


def test_stages_a_folder_and_shows_it(program: Program, store: BlobServer) -> None:
    store.blobs = below("in/", DATA) | {"inner/z": b"not of it"}
    answer = program.stage(store.source("in/"))
    assert answer["digest"] == digest_of(DATA)
    assert (answer["files"], answer["bytes"]) == (len(DATA), sum(map(len, DATA.values())))
    assert answer["moved"] == answer["bytes"]
    assert tree(Path(answer["view"])) == DATA
    program.whole()
    again = program.stage(store.source("in"), expected=answer["digest"])
    assert again == {**answer, "moved": 0}
    assert store.served["get"] == 3  # an empty blob needs no request
    assert store.versions == {"2019-07-07"}


def test_pins_the_version_that_the_site_gives(program: Program, store: BlobServer) -> None:
    store.blobs = {"x": b"1"}
    program.stage(store.source(apiVersion="2017-11-09"))
    assert store.versions == {"2017-11-09"}


def test_reads_long_listings_page_by_page(program: Program, store: BlobServer) -> None:
    store.blobs = {f"n/{number:05}": b"" for number in range(12_000)}
    answer = program.stage(store.source("n"), view=False)
    assert answer["files"] == 12_000
    assert store.served["list"] == 3


@pytest.mark.parametrize("single", [True, False])
def test_a_single_blob_is_a_tree_of_its_base_name(program: Program, store: BlobServer, single: bool) -> None:
    store.blobs = {"in/a.csv": b"1", "in/a.csv.old": b"2", "in/z": b"3"}
    answer = program.stage(store.source("in/a.csv"), single=single)
    assert answer["digest"] == digest_of({"a.csv": b"1"})
    assert tree(Path(answer["view"])) == {"a.csv": b"1"}


def test_nothing_there(program: Program, store: BlobServer) -> None:
    store.blobs = {"in/a": b"1"}
    assert program.fails(store.source("i"))["reason"] == "NotFound"
    assert program.fails(store.source("in"), single=True)["reason"] == "NotFound"


def test_only_what_changed_moves(program: Program, store: BlobServer) -> None:
    store.blobs = below("in/", DATA)
    program.stage(store.source("in"))
    store.blobs["in/a.csv"] = b"1,2,3\n"
    store.blobs["in/new"] = b"1234"
    del store.blobs["in/b/c d.bin"]
    answer = program.stage(store.source("in"))
    assert answer["moved"] == 10
    names = {**DATA, "a.csv": b"1,2,3\n", "new": b"1234"}
    del names["b/c d.bin"]
    assert tree(Path(answer["view"])) == names


def test_a_new_etag_triggers_only_a_new_look(program: Program, store: BlobServer) -> None:
    store.blobs = {"x": b"same"}
    first = program.stage(store.source())
    store.tag = lambda name: "0xNEW"  # type: ignore[method-assign]
    second = program.stage(store.source(), expected=first["digest"])
    assert second["moved"] == 4
    assert len(program.blobs()) == 1


def test_what_is_not_expected_is_not_shown(program: Program, store: BlobServer) -> None:
    store.blobs = below("in/", DATA)
    for _ in range(2):  # fetched, and known
        error = program.fails(store.source("in"), expected="sha256:" + "0" * 64)
        assert (error["kind"], error["reason"]) == ("Rejected", "DataChanged")
    assert list((program.cache / "views").iterdir()) == []
    program.whole()


def test_digest_without_view_keeps_what_fits(program: Program, store: BlobServer) -> None:
    store.blobs = below("in/", DATA)
    answer = program.stage(store.source("in"), view=False, limit=10**6)
    assert answer["view"] is None
    assert answer["digest"] == digest_of(DATA)
    assert len(program.blobs()) == 3
    assert program.stage(store.source("in"))["moved"] == 0


def test_digest_of_more_than_the_limit_keeps_nothing(program: Program, store: BlobServer) -> None:
    store.blobs = {"big": os.urandom(BIG), "small": b"1"}
    answer = program.stage(store.source(), view=False, limit=BIG)
    assert answer["digest"] == digest_of(store.blobs)
    assert program.blobs() == []
    assert program.stage(store.source(), view=False, limit=BIG)["moved"] == 0


def test_a_large_blob_comes_over_several_connections(program: Program, store: BlobServer) -> None:
    store.blobs = {"big": os.urandom(BIG)}
    barrier = threading.Barrier(3)

    def together(kind: str, name: str, count: int) -> None:
        if kind == "get":
            barrier.wait(60)  # three requests at once, or the test fails

    store.hook = together
    answer = program.stage(store.source())
    assert answer["digest"] == digest_of(store.blobs)
    assert store.served["get"] == 3
    assert store.sent < BIG + 10_000
    assert list((program.cache / "partial").iterdir()) == []
    program.whole()


def test_two_at_once_fetch_each_blob_once(program: Program, store: BlobServer) -> None:
    store.blobs = {f"in/{number:03}": os.urandom(1000) for number in range(600)} | {"in/big": os.urandom(BIG)}
    both = [program.start("stage", store.source("in")) for _ in range(2)]
    answers = [finish(process) for process in both]
    assert {answer.get("digest") for answer in answers} == {digest_of({k[3:]: v for k, v in store.blobs.items()})}
    assert store.served["get"] == 603
    assert sum(answer["moved"] for answer in answers) == 600_000 + BIG
    program.whole()


@pytest.mark.parametrize(
    "name",
    ["in/../x", "in//x", "in/./x", "in/x\\y", "in/" + "y" * 256, "in/" + "d/" * 64 + "x", "in/\x7f", "in/\x85"],
)
def test_refuses_names_that_are_no_files(program: Program, store: BlobServer, name: str) -> None:
    store.blobs = {name: b"1"}
    error = program.fails(store.source("in"))
    assert error["reason"] == "InvalidName"
    assert name[3:] not in error["message"]


def test_refuses_a_file_that_is_also_a_folder(program: Program, store: BlobServer) -> None:
    store.blobs = {"in/x": b"1", "in/x-y": b"2", "in/x/y/z": b"3"}
    for view in (True, False):
        assert program.fails(store.source("in"), view=view)["reason"] == "InvalidName"


def test_marks_of_folders_are_no_files(program: Program, store: BlobServer) -> None:
    store.blobs = {"in/": b"", "in/sub/": b"", "in/sub/x": b"1"}
    assert program.stage(store.source("in"))["files"] == 1
    assert program.stage(store.source("in/sub"))["digest"] == digest_of({"x": b"1"})


def test_a_content_that_somebody_touched_is_fetched_again(program: Program, store: BlobServer) -> None:
    store.blobs = {"in/x": b"good", "other/x": b"good"}
    program.stage(store.source("in"), view=False)
    blob = program.blobs()[0]
    blob.chmod(0o644)
    blob.write_bytes(b"evil")
    answer = program.stage(store.source("in"))
    assert tree(Path(answer["view"])) == {"x": b"good"}
    assert answer["moved"] == 4
    program.whole()


def test_an_unreadable_memory_of_digests_is_made_anew(program: Program, store: BlobServer) -> None:
    store.blobs = {"x": b"1"}
    program.stage(store.source())
    (program.cache / "known.sqlite3").write_bytes(b"no database at all" * 100)
    assert program.stage(store.source())["digest"] == digest_of(store.blobs)


def test_over_the_limit_the_least_recently_used_goes(program: Program, store: BlobServer) -> None:
    store.blobs = {f"{name}/{n}": os.urandom(100_000) for name in "abcd" for n in range(3)}
    views = {}
    for age, name in zip((40, 30, 20), "abc", strict=True):
        views[name] = program.stage(store.source(name))["view"]
        used = time.time() - age * 60
        os.utime(views[name], (used, used))
        for blob in Path(views[name]).iterdir():
            os.utime(blob, (used, blob.stat().st_mtime))
    pinned = ["sha256:" + Path(views["a"]).name]
    answer = program.stage(store.source("d"), limit=900_000, pinned=pinned)
    assert answer["overLimit"] is False
    assert [Path(views[name]).exists() for name in "abc"] == [True, False, True]
    assert len(program.blobs()) == 9
    program.whole()


def test_data_above_the_limit_is_staged_and_said(program: Program, store: BlobServer) -> None:
    store.blobs = {"x": bytes(100_000)}
    answer = program.stage(store.source(), limit=10)
    assert answer["overLimit"] is True
    assert tree(Path(answer["view"])) == store.blobs
    assert program.run("clean", limit=10, grace=0) == {"cleaned": {"bytes": 100_000, "left": 0}}
    assert program.run("usage")["usage"]["bytes"] == 0
    assert program.stage(store.source())["moved"] == 100_000


def test_nothing_is_cleaned_while_something_is_staged(program: Program, store: BlobServer) -> None:
    store.blobs = {"old/x": b"12345", "new/x": b"1"}
    program.stage(store.source("old"))
    reached, go = threading.Event(), threading.Event()

    def stop(kind: str, name: str, count: int) -> None:
        if name == "new/x":
            reached.set()
            go.wait(60)

    store.hook = stop
    under_way = program.start("stage", store.source("new"))
    assert reached.wait(60)
    assert program.run("clean", limit=0, grace=0) == {"cleaned": {"bytes": 0, "left": None}}
    go.set()
    assert finish(under_way)["files"] == 1
    assert program.run("clean", limit=0, grace=0) == {"cleaned": {"bytes": 6, "left": 0}}


def test_neither_secret_nor_name_is_told_or_kept(
    program: Program, store: BlobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.blobs = {"in/mary-poppins": b"x" * 100}
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not used
    process = program.start("stage", store.source("in"))
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
    out, errors = process.communicate(timeout=60)
    del store.blobs["in/mary-poppins"]
    told = command + out + errors + str(program.fails(store.source("in"))).encode()
    assert CANARY.encode() not in told
    assert b"mary" not in told
    for path in program.cache.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes()


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.binary(), max_size=20))
@settings(max_examples=examples(200), deadline=None)
def test_the_digest_is_the_cores(files: dict[str, bytes]) -> None:
    digests = {name: digest_bytes(content) for name, content in files.items()}
    ordered = sorted((name.encode(), digest.removeprefix("sha256:")) for name, digest in digests.items())
    assert "sha256:" + their_digest(ordered) == tree_digest(digests.items())


NAME = st.text(st.characters(exclude_characters="/\\", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(st.dictionaries(st.lists(NAME, min_size=1, max_size=3).map("/".join), st.binary(max_size=10), max_size=8))
@settings(max_examples=examples(10), deadline=None)
def test_the_staged_digest_is_the_cores(
    tools: Path, tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    usable = {
        name: content
        for name, content in files.items()
        if not any(part in (".", "..") for part in name.split("/"))
        and not any(other.startswith(name + "/") for other in files)
        and name.isprintable()
    }
    with BlobServer(usable).running() as store:
        program = Program(tools, tmp_path_factory.mktemp("cache"))
        answer = program.stage(store.source())
        assert answer["digest"] == digest_of(usable)
        assert tree(Path(answer["view"])) == usable
