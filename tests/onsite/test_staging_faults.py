"""Staging when things go wrong: killed, cut off, refused, changed under way, out of room. Then once more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes, tree_digest
from tests.contract.compute import until
from tests.onsite.blob_server import SAS, BlobServer, Refuse
from tests.onsite.program import Program, finish, tree
from tests.walk import sample

SMALL = {f"{number:03}": os.urandom(200) for number in range(600)}
PIECE = 16 * 2**20
LARGE = {"large": os.urandom(5 * PIECE + 5)}
KEPT = 256  # files that count together
UNDER_WAY = 128  # files that are handed out at a time


def digest_of(data: dict[str, bytes]) -> str:
    return tree_digest((name, digest_bytes(content)) for name, content in data.items())


def kill_at(program: Program, store: BlobServer, request: int) -> None:
    """Stage, and kill the program when it asks for the blob number `request`."""
    process = None

    def kill(kind: str, name: str, count: int) -> None:
        if kind == "get" and count >= request and process:
            process.kill()

    store.hook = kill
    store.served.clear()
    process = program.start("stage", store.source())
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    store.hook = lambda kind, name, count: None


def converges(program: Program, store: BlobServer, most: int) -> None:
    """Stage once more: whole, with at most so many bytes moved; then nothing is left of the other one."""
    answer = program.stage(store.source(), expected=digest_of(store.blobs))
    assert answer["moved"] <= most
    assert tree(Path(answer["view"])) == store.blobs
    program.whole()
    assert list((program.cache / "work").iterdir()) == []
    assert list((program.cache / "partial").iterdir()) == []
    assert program.stage(store.source())["moved"] == 0


@pytest.mark.parametrize("request_number", [1 + 50 * step for step in sample(12, 3)])
def test_killed_among_small_blobs(program: Program, store: BlobServer, request_number: int) -> None:
    store.blobs = SMALL
    kill_at(program, store, request_number)
    batches = max(0, request_number - UNDER_WAY) // KEPT
    converges(program, store, 200 * (len(SMALL) - batches * KEPT))


@pytest.mark.parametrize("request_number", [2 + step for step in sample(5, 2)])
def test_killed_among_the_pieces_of_a_large_blob(program: Program, store: BlobServer, request_number: int) -> None:
    store.blobs = LARGE
    one_by_one = {"parallel": 1}
    process = None

    def kill(kind: str, name: str, count: int) -> None:
        if kind == "get" and count == request_number and process:
            process.kill()

    store.hook = kill
    process = program.start("stage", store.source(), **one_by_one)
    process.communicate(timeout=120)
    converges(program, store, len(LARGE["large"]) - (request_number - 1) * PIECE)


def test_killed_at_any_time(program: Program, store: BlobServer) -> None:
    store.blobs = SMALL
    for step in sample(30, 8):
        process = program.start("stage", store.source())
        try:
            process.wait(timeout=0.02 * step)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(timeout=60)
    converges(program, store, 200 * len(SMALL))


def test_pieces_of_another_boot_do_not_count(program: Program, store: BlobServer) -> None:
    store.blobs = LARGE
    kill_at(program, store, 4)
    for marks in (program.cache / "partial").glob("*.pieces"):
        head, _, rest = marks.read_bytes().partition(b" ")
        assert head
        marks.write_bytes(b"another-boot " + rest)
    converges(program, store, len(LARGE["large"]))


def after(number: int, act: Callable[[], None]) -> Callable[[str, str, int], None]:
    """A hook that acts at each request for a blob behind the first `number`."""

    def hook(kind: str, name: str, count: int) -> None:
        if kind == "get" and count > number:
            act()

    return hook


def refuse(status: int, code: str = "", **headers: str) -> Callable[[], None]:
    def act() -> None:
        raise Refuse(status, code, **headers)

    return act


def test_an_expired_sas_is_told_and_a_fresh_one_goes_on(program: Program, store: BlobServer) -> None:
    store.blobs = SMALL
    store.hook = after(400, refuse(403, "AuthenticationFailed"))
    error = program.fails(store.source())
    assert (error["kind"], error["reason"], error["transient"]) == ("Transient", "SasExpired", True)
    store.hook = after(10**6, refuse(403))
    converges(program, store, 200 * (len(SMALL) - KEPT))


def test_a_sas_that_says_it_is_over_has_expired(program: Program, store: BlobServer) -> None:
    store.hook = lambda kind, name, count: refuse(403, "AuthorizationFailure")()
    old = SAS.replace("2099", "2001")
    assert program.fails(store.source(sas=old))["reason"] == "SasExpired"
    error = program.fails(store.source())
    assert (error["kind"], error["reason"]) == ("Denied", "Denied")


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("gone", [True, False], ids=["deleted", "changed"])
def test_a_blob_that_changes_under_way(
    program: Program, store: BlobServer, data: dict[str, bytes], gone: bool
) -> None:
    store.blobs = dict(data)
    last = max(data)

    def change() -> None:
        with store.lock:
            if gone:
                store.blobs.pop(last, None)
            else:
                store.blobs[last] = b"now other bytes"

    store.hook = after(2, change)
    error = program.fails(store.source(), parallel=1)
    assert (error["kind"], error["reason"]) == ("Rejected", "DataChanged")
    assert last not in error["message"]
    assert list((program.cache / "views").iterdir()) == []
    if gone:
        store.blobs["other"] = b"1"
    answer = program.stage(store.source())
    assert tree(Path(answer["view"])) == store.blobs


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_goes_on_when_the_store_stumbles(program: Program, store: BlobServer, status: int) -> None:
    store.blobs = {**SMALL, **LARGE}
    stumbled: set[int] = set()

    def stumble(kind: str, name: str, count: int) -> None:
        if count % 97 == 1 and count not in stumbled:
            stumbled.add(count)
            raise Refuse(status, "ServerBusy", Retry_After="0")

    store.hook = stumble
    answer = program.stage(store.source())
    assert answer["digest"] == digest_of(store.blobs)
    assert len(stumbled) >= 6


def test_waits_as_long_as_the_store_says(program: Program, store: BlobServer) -> None:
    store.blobs = {"x": b"1"}
    store.hook = lambda kind, name, count: refuse(503, Retry_After="1")() if store.served["list"] < 2 else None
    assert program.stage(store.source())["moved"] == 1


def test_a_store_that_is_down_is_told(program: Program, store: BlobServer) -> None:
    source = {**store.source(), "location": "http://127.0.0.1:1/account/data"}
    answer = program.run("probe", source)
    assert (answer["error"]["kind"], answer["error"]["reason"]) == ("Transient", "Unreachable")


@pytest.mark.parametrize(
    "page",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><EnumerationResults><Blobs/></EnumerationResults>',
        "<EnumerationResults><Blobs><Blob><Name>x</Name></Blob></Blobs></EnumerationResults>",
        "<EnumerationResults><Blobs>",
        "<EnumerationResults><NextMarker>" + "9" * 70_000 + "</NextMarker></EnumerationResults>",
        "<html>" * 20,
        "no XML",
    ],
)
def test_refuses_a_listing_that_is_none(
    program: Program, store: BlobServer, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    handler = store.server.RequestHandlerClass
    monkeypatch.setattr(handler, "_list", lambda self, query: self._send(200, page.encode(), {}), raising=False)
    error = program.fails(store.source())
    assert error["reason"] == "BadListing"


def test_never_follows_a_redirect(program: Program, store: BlobServer) -> None:
    store.hook = lambda kind, name, count: refuse(302, Location="http://127.0.0.1:1/")()
    assert program.fails(store.source())["reason"] == "BlobStoreRefused"


# Runs where the cache has a small disk of its own. With `flag`, the disk fills up once the first blob is asked for.
INSIDE = """
import json, os, pathlib, subprocess, sys, time
cache, flag = map(pathlib.Path, sys.argv[1:3])
command, request = map(json.loads, sys.argv[3:])
hog = cache / "hog"
def stage():
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(json.dumps(request).encode() + b"\\n")
    process.stdin.flush()
    while not flag.exists() and process.poll() is None:
        os.sched_yield()
    room = os.statvfs(cache)
    if flag.exists() and not flag.with_name("full").exists():
        hog.write_bytes(bytes(room.f_bavail * room.f_frsize - 4096 * 50))
        flag.with_name("full").touch()
    return json.loads(process.communicate()[0].splitlines()[-1])
first = stage()
left = [len(list((cache / name).rglob("*"))) for name in ("views", "work")]
hog.unlink(missing_ok=True)
request["source"]["path"] = "fits"
print(json.dumps([first, left, stage()]))
"""


@pytest.mark.needs("bubblewrap")
@pytest.mark.parametrize("sudden", [False, True], ids=["foreseen", "sudden"])
def test_a_full_disk_is_told_and_breaks_nothing(
    program: Program, store: BlobServer, tmp_path: Path, sudden: bool
) -> None:
    fits = {f"fits/{number}": os.urandom(100_000) for number in range(20)}
    more = 20 if sudden else 40  # megabytes, for a disk of 48 that keeps a margin of 16
    store.blobs = {**fits, **{f"more/{number:03}": os.urandom(1_000_000) for number in range(more)}}
    flag, done = tmp_path / "flag", tmp_path / "full"

    def fill(kind: str, name: str, count: int) -> None:
        if sudden and kind == "get" and not done.exists():
            flag.touch()
            until(done.exists, "the disk is full")

    store.hook = fill
    program.cache.mkdir()
    request = json.loads(program.request("stage", store.source("more")))
    jail = ["bwrap", "--dev-bind", "/", "/", "--size", str(48 * 2**20), "--tmpfs", str(program.cache)]
    arguments = [str(program.cache), str(flag), json.dumps(program.command()), json.dumps(request)]
    ended = subprocess.run(
        [*jail, sys.executable, "-c", INSIDE, *arguments], capture_output=True, timeout=120, check=True
    )
    first, left, second = json.loads(ended.stdout)
    assert (first["error"]["kind"], first["error"]["reason"]) == ("Unavailable", "StorageFull")
    assert store.served["get"] - len(fits) >= (1 if sudden else 0)
    assert left == [0, 0]
    assert second["files"] == len(fits)


def test_the_link_to_the_runner_is_cut(program: Program, store: BlobServer) -> None:
    """Nobody reads the answers any more: the program ends, and another goes on."""
    store.blobs = SMALL
    process = program.start("stage", store.source())
    assert process.stdout
    process.stdout.close()
    process.wait(timeout=120)
    converges(program, store, 200 * len(SMALL))


def test_stagings_after_a_failure_do_not_wait(program: Program, store: BlobServer) -> None:
    store.blobs = SMALL
    kill_at(program, store, 100)
    both = [program.start("stage", store.source()) for _ in range(2)]
    assert sum(finish(process)["moved"] for process in both) <= 200 * len(SMALL)
