"""The base images run in a container without rights, and come out the same each time."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from images import build
from testbed.base_image import Base
from testbed.registry import Registry
from testbed.vm import Vm

pytestmark = [pytest.mark.needs("mmdebstrap"), pytest.mark.needs("registry"), pytest.mark.needs("skopeo")]
CONFINED = ("--rm", "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
LIMITED = ("--pids-limit=64", "--memory=512m", "--cpus=1", "--user=65534:65534")


@pytest.mark.needs("vm")
@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("base_image", "import bz2, ctypes, lzma, sqlite3, ssl, sys; print('%d.%d' % sys.version_info[:2])"),
        (
            "serve_image",
            "import numpy, onnxruntime, sys; print('%d.%d' % sys.version_info[:2])",
        ),
    ],
)
def test_runs_confined(
    kind: str, script: str, request: pytest.FixtureRequest, vm: Vm, registry_open: Registry
) -> None:
    image: Base = request.getfixturevalue(kind)
    reference = image.pull(vm, registry_open)
    done = vm.run(["podman", "run", *CONFINED, *LIMITED, reference, "python3", "-c", script])
    assert done.stdout.strip() == image.python


def test_builds_the_same_bytes_again(base_image: Base, tmp_path: Path) -> None:
    assert build.build("train", tmp_path / "again") == base_image.digest


def test_names_no_place_where_it_was_built(base_image: Base) -> None:
    largest = max((base_image.layout / "blobs" / "sha256").iterdir(), key=lambda file: file.stat().st_size)
    with tarfile.open(largest) as layer:
        names = set(layer.getnames())
    assert "usr/bin/python3" in names
    assert not {name for name in names if name.startswith(("etc/apt", "var/lib/apt", "etc/hostname", "etc/resolv"))}
