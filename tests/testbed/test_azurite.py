"""The blob store keeps what it was given, speaks TLS, and ends with its owner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testbed.azurite import Azurite
from testbed.ca import Authority
from testbed.part import answers, until

pytestmark = pytest.mark.needs("azurite")


def test_puts_files_and_reads_them_back(azurite: Azurite, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.csv").write_bytes(b"1,2\n")
    azurite.put_folder("put-folder", tmp_path, "2026/")
    with azurite.client() as service:
        there = service.get_container_client("put-folder")
        assert [blob.name for blob in there.list_blobs()] == ["2026/a/x.csv"]
        assert there.download_blob("2026/a/x.csv").readall() == b"1,2\n"


def test_keeps_its_blobs_and_port_over_a_restart_and_speaks_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with Azurite(tls=authority.issue("127.0.0.1"), ca_bundle=authority.bundle) as part:
        part.put("kept", {"one": b"1"})
        before = part.endpoint
        part.restart()
        assert part.endpoint == before
        assert before.startswith("https://")
        with part.client() as service:
            assert service.get_blob_client("kept", "one").download_blob().readall() == b"1"


def test_ends_when_its_owner_is_killed() -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal\n"
            "from testbed.azurite import Azurite\n"
            "part = Azurite(); part.start(); print(part.port, part.folder, flush=True); signal.pause()",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    port, folder = owner.stdout.readline().split()
    assert answers("127.0.0.1", int(port)) and Path(folder).is_dir()
    owner.kill()
    owner.wait()
    until(lambda: not answers("127.0.0.1", int(port)), "Azurite to end")
    with Azurite():
        # The next part sweeps what dead owners left; a part of another worker may have been quicker.
        assert not Path(folder).exists()
