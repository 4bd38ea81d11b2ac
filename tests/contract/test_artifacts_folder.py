"""The folder artifact store passes the contract, and keeps its word through crashes and disk faults."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import Conflict, Denied, Rejected, Unavailable
from edgetrain.core.ports import Settings
from edgetrain.providers import durable
from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.providers.table import provider

from .artifacts import ArtifactStoreContract


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "site" / "state"


class TestFolderArtifacts(ArtifactStoreContract):
    @pytest.fixture
    def store(self, root: Path) -> FolderArtifacts:
        return FolderArtifacts(root=root)


def run_python(program: str, root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(root)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def test_the_table_makes_it(root: Path) -> None:
    assert isinstance(provider("artifacts", "folder", Settings("artifacts", {}, root)), FolderArtifacts)


def test_looking_makes_nothing(root: Path) -> None:
    store = FolderArtifacts(root=root)
    assert list(store.digests()) == []
    assert list(store.claims("t/")) == []
    assert store.size(digest_bytes(b"")) is None
    assert not root.exists()


def test_a_blob_lies_where_its_digest_says(root: Path) -> None:
    digest = FolderArtifacts(root=root).put_bytes(b"weights").removeprefix("sha256:")
    assert (root / "blobs" / "sha256" / digest[:2] / digest).read_bytes() == b"weights"


KILLED_AT_THE_WORST_MOMENT = """
import os, pathlib, signal, sys
from edgetrain.providers import durable
from edgetrain.providers.folder.artifacts import FolderArtifacts
durable.Incoming.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store = FolderArtifacts(root=pathlib.Path(sys.argv[1]))
store.put_bytes(b"x" * 5_000_000) if "{step}" == "replace" else store.claim("tickets/run-1", b"mine")
"""


@pytest.mark.parametrize("step", ["replace", "create"])
def test_a_killed_writer_leaves_nothing_visible(root: Path, step: str) -> None:
    with run_python(KILLED_AT_THE_WORST_MOMENT.format(step=step), root) as killed:
        assert killed.wait() == -signal.SIGKILL
    store = FolderArtifacts(root=root)
    left = list((root / "incoming").iterdir())
    assert len(left) == 1
    assert list(store.digests()) == []
    assert list(store.claims("")) == []
    assert store.claim("tickets/run-1", b"other") == b"other"

    store.put_bytes(b"a")
    assert left[0].exists()  # perhaps its writer is only slow
    day_before_yesterday = left[0].stat().st_mtime - 2 * 24 * 3600
    os.utime(left[0], (day_before_yesterday, day_before_yesterday))
    FolderArtifacts(root=root).put_bytes(b"b")
    assert list((root / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (errno.ENOSPC, Unavailable, "StorageFull"),
        (errno.EDQUOT, Unavailable, "StorageFull"),
        (errno.EACCES, Denied, "NoPermission"),
        (errno.EIO, Unavailable, "StorageFault"),
    ],
)
def test_a_disk_fault_leaves_nothing_and_says_what_to_do(
    root: Path, monkeypatch: pytest.MonkeyPatch, fault: int, kind: type[Exception], reason: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(fault, os.strerror(fault))

    store = FolderArtifacts(root=root)
    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", fail)
        with pytest.raises(kind) as caught:
            store.put_bytes(b"data")
    assert caught.value.reason == reason
    assert caught.value.fix
    assert str(root) not in caught.value.message
    assert list(store.digests()) == []
    assert not (root / "incoming").exists() or list((root / "incoming").iterdir()) == []
    assert store.size(store.put_bytes(b"data")) == 4


def test_storing_again_mends_a_spoilt_blob(root: Path) -> None:
    store = FolderArtifacts(root=root)
    digest = store.put_bytes(b"weights")
    hexes = digest.removeprefix("sha256:")
    (root / "blobs" / "sha256" / hexes[:2] / hexes).write_bytes(b"spoilt")
    store.put_bytes(b"weights")
    with store.open(digest) as stream:
        assert stream.read() == b"weights"


def test_strange_files_are_no_blobs(root: Path) -> None:
    store = FolderArtifacts(root=root)
    digest = store.put_bytes(b"weights")
    folder = root / "blobs" / "sha256"
    (folder / "zz").mkdir()
    (folder / "zz" / ("0" * 64)).write_bytes(b"elsewhere")
    (folder / digest[7:9] / "note.txt").write_bytes(b"")
    assert list(store.digests()) == [(digest, 7)]


def test_a_blob_that_is_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    digest = digest_bytes(b"secret")
    place = root / "blobs" / "sha256" / digest[7:9] / digest[7:]
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "secret")
    with pytest.raises(Rejected):
        FolderArtifacts(root=root).open(digest)


def test_a_pipe_is_refused_without_waiting(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Rejected):
        FolderArtifacts(root=root).put_file(tmp_path / "pipe")


def test_a_file_system_without_hard_links_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(durable.os, "link", fail)
    with pytest.raises(Unavailable) as caught:
        FolderArtifacts(root=root).claim("t", b"x")
    assert caught.value.reason == "NoHardLinks"


def test_claims_that_cant_be_listed_are_not_taken_for_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    store = FolderArtifacts(root=root)
    store.claim("tickets/run-1", b"x")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(Denied):
        list(store.claims("tickets/"))


HOLD = """
import pathlib, sys
from edgetrain.providers.folder.artifacts import FolderArtifacts
with FolderArtifacts(root=pathlib.Path(sys.argv[1])).lock("model/cxr"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_and_its_death_frees_the_lock(root: Path) -> None:
    store = FolderArtifacts(root=root)
    with run_python(HOLD, root) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match="another process holds model/cxr"), store.lock("model/cxr", 0.05):
            pass
        holder.kill()
        holder.wait()
    with store.lock("model/cxr", timeout=5):
        assert len(list((root / "locks").iterdir())) == 1
