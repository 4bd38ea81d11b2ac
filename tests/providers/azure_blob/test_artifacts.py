"""The blob artifact store among several runners: races, crashed holders, killed writers, spoilt blobs."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, Rejected, Transient
from edgetrain.core.ports import Outbound
from edgetrain.providers.azure_blob import client
from edgetrain.providers.azure_blob.account import account_of
from edgetrain.providers.azure_blob.artifacts import AzureBlobArtifacts
from testbed.azurite import Azurite
from testbed.part import until

from .proxy import Fault, RecordingProxy, Request
from .stores import declared, new_container

pytestmark = pytest.mark.needs("azurite")

SHORTEST = 15  # seconds; the service takes no shorter lease
ROOT = Path(__file__).parents[3]

OTHER_RUNNER = """
import sys
from pathlib import Path
from edgetrain.core.ports import Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.azure_blob.account import account_of
from edgetrain.providers.azure_blob.artifacts import AzureBlobArtifacts
endpoint, container, key = sys.stdin.readline().split()
block = {"endpoint": endpoint, "container": container, "credential": {"accountKey": {"secret": "key"}}}
settings = Settings("artifacts", block, Path(), secret=lambda _: Secret(key))
store = AzureBlobArtifacts(account=account_of(settings), lease_seconds=15)
"""


@contextmanager
def other_runner(azurite: Azurite, container: str, program: str) -> Iterator[subprocess.Popen[str]]:
    """Another process with a store of the container; it is killed at the end."""
    command = [sys.executable, "-c", OTHER_RUNNER + program]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(f"{azurite.endpoint} {container} {azurite.key}\n")
        process.stdin.flush()
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def container(azurite: Azurite) -> str:
    return new_container(azurite)


def opened(azurite: Azurite, container: str, **options: int) -> AzureBlobArtifacts:
    return AzureBlobArtifacts(account=account_of(declared(azurite, container, Path())), **options)


RACE = """
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    print(store.claim(f"tickets/{n}", sys.argv[0].encode() + str(ME).encode()).decode(), flush=True)
"""


def test_of_two_runners_one_gets_each_ticket(azurite: Azurite, container: str) -> None:
    with (
        other_runner(azurite, container, "ME = 1" + RACE) as one,
        other_runner(azurite, container, "ME = 2" + RACE) as two,
    ):
        assert said(one) == said(two) == "ready"
        go(one)
        go(two)
        answers = [(said(one), said(two)) for _ in range(40)]
    held = dict(opened(azurite, container).claims("tickets/"))
    assert len(held) == 40
    for n, (first, second) in enumerate(answers):
        assert first == second == held[f"tickets/{n}"].decode()


COUNT = """
print("ready", flush=True)
sys.stdin.readline()
for _ in range(10):
    with store.lock("model/cxr", timeout=120):
        (_, count), = store.claims("count")
        store.release_claim("count")
        assert store.claim("count", str(int(count) + 1).encode()) == str(int(count) + 1).encode()
print("done", flush=True)
"""


def test_two_runners_never_hold_one_lock(azurite: Azurite, container: str) -> None:
    store = opened(azurite, container)
    store.claim("count", b"0")
    with other_runner(azurite, container, COUNT) as one, other_runner(azurite, container, COUNT) as two:
        assert said(one) == said(two) == "ready"
        go(one)
        go(two)
        assert said(one) == said(two) == "done"
    assert dict(store.claims("count")) == {"count": b"20"}


HOLD = """
with store.lock("model/cxr"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_holder_keeps_its_lock_past_the_lease_and_its_death_frees_it(azurite: Azurite, container: str) -> None:
    store = opened(azurite, container, lease_seconds=SHORTEST)
    with other_runner(azurite, container, HOLD) as holder:
        assert said(holder) == "held"
        # Longer than the lease: the holder renews it.
        with pytest.raises(Conflict, match="another process holds model/cxr") as caught:
            store.lock("model/cxr", timeout=SHORTEST + 2).__enter__()
        assert caught.value.reason == "Locked"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with store.lock("model/cxr", timeout=SHORTEST + 5):
        pass


def test_a_lock_lost_under_way_is_told_at_the_end(azurite: Azurite, container: str) -> None:
    store = opened(azurite, container, lease_seconds=SHORTEST)
    with azurite.client() as service, pytest.raises(Conflict) as caught, store.lock("model/cxr"):
        (blob,) = [b.name for b in service.get_container_client(container).list_blobs("locks/")]
        service.get_blob_client(container, blob).delete_blob(lease=_lease_of(azurite, container, blob))
    assert caught.value.reason == "LockLost"


def _lease_of(azurite: Azurite, container: str, blob: str) -> str:
    """Break the holder's lease and take it, as an operator could."""
    from azure.storage.blob import BlobLeaseClient

    with azurite.client() as service:
        there = service.get_blob_client(container, blob)
        BlobLeaseClient(there).break_lease(lease_break_period=0)
        return there.acquire_lease(SHORTEST).id


def test_a_failure_inside_a_lost_lock_stays_the_failure(azurite: Azurite, container: str) -> None:
    store = opened(azurite, container, lease_seconds=SHORTEST)
    with azurite.client() as service, pytest.raises(KeyError), store.lock("m"):
        (blob,) = [b.name for b in service.get_container_client(container).list_blobs("locks/")]
        _lease_of(azurite, container, blob)
        raise KeyError


def test_a_lock_that_can_not_be_renewed_is_lost(azurite: Azurite, container: str) -> None:
    cut = threading.Event()

    def meddle(request: Request) -> Fault | None:
        return Fault(503) if cut.is_set() and request.query.get("comp") == "lease" else None

    with RecordingProxy(meddle) as proxy:
        settings = declared(azurite, container, Path(), outbound=Outbound(proxy=proxy.url))
        store = AzureBlobArtifacts(account=account_of(settings), lease_seconds=SHORTEST, retries=0)
        other = opened(azurite, container, lease_seconds=SHORTEST)
        with pytest.raises(Conflict) as caught, store.lock("m"):
            cut.set()
            with other.lock("m", timeout=SHORTEST + 10):
                pass
    assert caught.value.reason == "LockLost"


def test_no_thread_is_left_of_a_lock(azurite: Azurite, container: str) -> None:
    store = opened(azurite, container)
    with store.lock("m"):
        assert any(thread.name == "edgetrain-lock" for thread in threading.enumerate())
    assert not any(thread.name == "edgetrain-lock" for thread in threading.enumerate())


def test_a_large_artifact_goes_in_blocks_and_comes_back(azurite: Azurite, container: str, tmp_path: Path) -> None:
    data = secrets.token_bytes(2 * client.BLOCK + 12345)
    (tmp_path / "model.onnx").write_bytes(data)
    with RecordingProxy() as proxy:
        settings = declared(azurite, container, tmp_path, outbound=Outbound(proxy=proxy.url))
        store = AzureBlobArtifacts(account=account_of(settings))
        digest = store.put_file(tmp_path / "model.onnx")
        blocks = [request for request in proxy.requests if request.query.get("comp") == "block"]
        assert len(blocks) == 3
        proxy.requests.clear()
        assert store.put_file(tmp_path / "model.onnx") == digest
        assert [request.method for request in proxy.requests] == ["HEAD"]  # what is there is not sent again
    with store.open(digest) as stream:
        assert stream.read(10) == data[:10]
        assert stream.read() == data[10:]


KILLED = """
import os, signal
from edgetrain.providers.azure_blob.artifacts import _Checked
taken = 0
def read(self, size=-1, plain=_Checked.read):
    global taken
    taken += 1
    if taken == 3:
        print("two blocks read", flush=True)
        sys.stdin.readline()
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, size)
_Checked.read = read
store.put_bytes(bytes(40 * 2**20))
"""


def test_a_killed_writer_leaves_nothing_visible(azurite: Azurite, container: str) -> None:
    data = bytes(40 * 2**20)
    store = opened(azurite, container)
    with other_runner(azurite, container, KILLED) as killed:
        assert said(killed) == "two blocks read"
        with azurite.client() as service:
            blob = service.get_blob_client(container, f"blobs/sha256/{digest_bytes(data)[7:]}")
            until(lambda: _uncommitted(blob), "a block to arrive")
        go(killed)
        assert killed.wait() == -signal.SIGKILL
    assert store.size(digest_bytes(data)) is None
    assert list(store.digests()) == []
    assert store.size(store.put_bytes(data)) == len(data)


def _uncommitted(blob: object) -> int:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return len(blob.get_block_list("uncommitted")[1])
    except ResourceNotFoundError:
        return 0


def test_two_writers_of_one_large_artifact_both_succeed(azurite: Azurite, container: str) -> None:
    data = secrets.token_bytes(3 * client.BLOCK)
    stores = [opened(azurite, container) for _ in range(2)]
    digests: list[str] = []
    writers = [threading.Thread(target=lambda s=store: digests.append(s.put_bytes(data))) for store in stores]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert digests == [digest_bytes(data)] * 2
    assert list(stores[0].digests()) == [(digest_bytes(data), len(data))]


def test_a_file_that_changes_while_it_is_stored_is_not_stored(
    azurite: Azurite, container: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    for size in (1000, 3 * client.BLOCK):
        for grow in (False, True):
            file.write_bytes(bytes(size))

            def change(request: Request, size: int = size, grow: bool = grow) -> Fault | None:
                if request.method == "HEAD":  # between hashing and sending
                    with file.open("r+b") as late:
                        late.truncate(size - 1) if not grow else late.write(b"x")
                return None

            with RecordingProxy(change) as proxy:
                settings = declared(azurite, container, tmp_path, outbound=Outbound(proxy=proxy.url))
                store = AzureBlobArtifacts(account=account_of(settings))
                with pytest.raises(Transient) as caught:
                    store.put_file(file)
            assert caught.value.reason == "ArtifactChanging"
    assert list(store.digests()) == []


def test_other_bytes_than_the_digests_are_never_whole(azurite: Azurite, container: str) -> None:
    store = opened(azurite, container)
    data = secrets.token_bytes(5 * 2**20)
    digest = store.put_bytes(data)
    azurite.put(container, {f"blobs/sha256/{digest[7:]}": data[:-1] + bytes([data[-1] ^ 1])})
    stream = store.open(digest)
    with pytest.raises(Rejected) as caught:
        stream.read(len(data))  # not even without asking for the end
    assert caught.value.reason == "ArtifactSpoilt"
    azurite.put(container, {f"blobs/sha256/{digest[7:]}": b"short"})
    store.put_bytes(data)
    with store.open(digest) as mended:
        assert mended.read() == data


def test_strange_blobs_are_no_artifacts(azurite: Azurite, container: str) -> None:
    store = opened(azurite, container)
    digest = store.put_bytes(b"weights")
    azurite.put(container, {"blobs/sha256/note.txt": b"1", f"blobs/sha256/x/{'0' * 64}": b"2", "other": b"3"})
    assert list(store.digests()) == [(digest, 7)]


def test_many_claims_are_listed_whole(azurite: Azurite, container: str) -> None:
    store = opened(azurite, container)
    azurite.put(container, {f"claims/t/{n:04}": str(n).encode() for n in range(300)})
    assert list(store.claims("t/")) == [(f"t/{n:04}", str(n).encode()) for n in range(300)]


def test_sites_that_share_a_container_keep_apart(azurite: Azurite, container: str) -> None:
    one, two = (
        AzureBlobArtifacts(account=account_of(declared(azurite, container, Path(), prefix=name)))
        for name in ("st-anna", "st-anna-2")
    )
    one.put_bytes(b"1")
    assert one.claim("t", b"1") == b"1"
    assert list(two.digests()) == []
    assert two.claim("t", b"2") == b"2"
    with one.lock("m"), two.lock("m", timeout=0):
        assert list(one.claims("")) == [("t", b"1")]
