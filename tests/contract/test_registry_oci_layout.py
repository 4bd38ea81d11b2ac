"""The layout registry passes the contract, keeps to the layout's rules, and trusts nothing that it reads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import Settings
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.providers.table import provider

from .registry import REPOSITORY, RegistryContract, everything, image

REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def layout(root: Path) -> Path:
    return root / REPOSITORY


class TestOciLayoutRegistry(RegistryContract):
    @pytest.fixture
    def registry(self, root: Path) -> OciLayoutRegistry:
        return OciLayoutRegistry(root=root)


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file under the folder with its inode and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def entries(layout: Path) -> list[tuple[str, str | None]]:
    index = json.loads((layout / "index.json").read_bytes())
    return [(one["digest"], one.get("annotations", {}).get(REF_NAME)) for one in index["manifests"]]


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_the_table_makes_it(root: Path) -> None:
    assert isinstance(
        provider("registry", "oci-layout", Settings("local", {"path": str(root)}, root)), OciLayoutRegistry
    )


def test_looking_makes_nothing(root: Path) -> None:
    registry = OciLayoutRegistry(root=root)
    assert registry.tags(REPOSITORY) == {}
    registry.tag(REPOSITORY, "1", None)
    assert not registry.has(REPOSITORY, digest_bytes(b""))
    assert not root.exists()


def test_pushing_and_tagging_again_writes_nothing(root: Path, layout: Path) -> None:
    registry = OciLayoutRegistry(root=root)
    digest = registry.push(REPOSITORY, image())
    registry.tag(REPOSITORY, "1", digest)
    before = seen(root)
    assert {str(Path(name)) for name in seen(layout)} == {
        "index.json",
        "oci-layout",
        *(
            str(blob(Path(), one))
            for one in (digest, digest_bytes(image().config), *(layer.digest for layer in image().layers))
        ),
    }
    assert registry.push(REPOSITORY, image()) == digest
    registry.tag(REPOSITORY, "1", digest)
    assert seen(root) == before
    assert json.loads((layout / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


def test_an_image_without_a_tag_stays_in_the_index_once(root: Path, layout: Path) -> None:
    registry = OciLayoutRegistry(root=root)
    first, second = (registry.push(REPOSITORY, image(n)) for n in (1, 2))
    assert sorted(entries(layout)) == sorted([(first, None), (second, None)])
    for tag in ("1", "production"):
        registry.tag(REPOSITORY, tag, first)
    assert entries(layout) == [(second, None), (first, "1"), (first, "production")]
    registry.tag(REPOSITORY, "production", second)
    assert entries(layout) == [(first, "1"), (second, "production")]
    registry.tag(REPOSITORY, "1", None)
    assert entries(layout) == [(first, None), (second, "production")]


def test_the_index_does_not_depend_on_the_order(root: Path, tmp_path: Path) -> None:
    texts = []
    for number, order in enumerate(((1, 2, 3), (3, 1, 2))):
        registry = OciLayoutRegistry(root=tmp_path / str(number))
        for n in order:
            registry.tag("cxr", str(n), registry.push("cxr", image(n)))
        texts.append((tmp_path / str(number) / "cxr" / "index.json").read_bytes())
    assert texts[0] == texts[1]


def test_what_others_put_into_the_index_stays(root: Path, layout: Path) -> None:
    registry = OciLayoutRegistry(root=root)
    digest = registry.push(REPOSITORY, image())
    index = json.loads((layout / "index.json").read_bytes())
    theirs = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest_bytes(b"theirs"),
        "size": 6,
        "annotations": {REF_NAME: "theirs", "x": "y"},
    }
    (layout / "index.json").write_text(
        json.dumps({**index, "annotations": {"of": "all"}, "manifests": [*index["manifests"], theirs]})
    )
    registry.tag(REPOSITORY, "1", digest)
    after = json.loads((layout / "index.json").read_bytes())
    assert theirs in after["manifests"]
    assert after["annotations"] == {"of": "all"}
    assert registry.tags(REPOSITORY) == {"1": digest, "theirs": theirs["digest"]}
    with pytest.raises(NotFound):
        registry.base(f"{REPOSITORY}@{theirs['digest']}")


def test_many_taggers_lose_no_tag(root: Path) -> None:
    registries = [OciLayoutRegistry(root=root) for _ in range(4)]
    digests = {str(n): registries[0].push(REPOSITORY, image(n)) for n in range(4)}
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(registries[n % 4].tag, REPOSITORY, f"{tag}-{n}", digest)
            for n in range(6)
            for tag, digest in digests.items()
        ]
        for job in jobs:
            job.result()
    assert registries[0].tags(REPOSITORY) == {
        f"{tag}-{n}": digest for n in range(6) for tag, digest in digests.items()
    }


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[2])
from contract.registry import REPOSITORY, image
from edgetrain.providers import durable
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry

left = int(sys.argv[3])
replace = durable.Incoming.replace

def count(self, final):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(self, final)

durable.Incoming.replace = count
OciLayoutRegistry(root=pathlib.Path(sys.argv[1])).push(REPOSITORY, image())
"""


@pytest.mark.parametrize("survives", range(7))
def test_killed_anywhere_the_next_push_converges(root: Path, layout: Path, survives: int) -> None:
    """A push makes six files visible: two layers, config, manifest, oci-layout, index.json."""
    tests = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), tests, str(survives)], check=False)
    assert done.returncode == (0 if survives == 6 else -signal.SIGKILL)
    registry = OciLayoutRegistry(root=root)
    digest = digest_bytes(image().manifest)
    assert registry.has(REPOSITORY, digest) == (survives == 6)
    assert registry.tags(REPOSITORY) == {}
    for path in (layout / "blobs" / "sha256").glob("*"):
        assert digest_bytes(path.read_bytes()) == "sha256:" + path.name
    assert registry.push(REPOSITORY, image()) == digest
    assert registry.has(REPOSITORY, digest)
    assert entries(layout) == [(digest, None)]


@pytest.mark.parametrize("lost", ["config", "layer", "manifest"])
def test_an_image_that_lost_a_blob_is_not_there_until_pushed_again(root: Path, layout: Path, lost: str) -> None:
    registry = OciLayoutRegistry(root=root)
    made = image()
    digest = registry.push(REPOSITORY, made)
    which = {"config": digest_bytes(made.config), "layer": made.layers[1].digest, "manifest": digest}[lost]
    blob(layout, which).unlink()
    assert not registry.has(REPOSITORY, digest)
    assert registry.push(REPOSITORY, made) == digest
    assert registry.has(REPOSITORY, digest)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_spoilt_bytes_are_noticed_when_read(root: Path, layout: Path) -> None:
    registry = OciLayoutRegistry(root=root)
    made = image()
    reference = f"{REPOSITORY}@{registry.push(REPOSITORY, made)}"
    spoil(blob(layout, made.layers[1].digest))
    base = registry.base(reference)
    assert everything(base.layers[0]) == everything(made.layers[0])
    with pytest.raises(Rejected, match="not its own"):
        everything(base.layers[1])
    with pytest.raises(Rejected):
        registry.push("copy", replace(made, layers=base.layers))
    spoil(blob(layout, digest_bytes(made.config)))
    with pytest.raises(Rejected, match="not its own"):
        registry.base(reference)
    spoil(blob(layout, digest_bytes(made.manifest)))
    with pytest.raises(Rejected, match="not its own"):
        registry.base(reference)


GOOD = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_bytes(b""), "size": 0}


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"manifests": {}}',
        b'{"manifests": [1]}',
        json.dumps({"manifests": [{**GOOD, "digest": "sha256:../../../../etc/passwd"}]}).encode(),
        json.dumps({"manifests": [{**GOOD, "digest": ["x"]}]}).encode(),
        json.dumps({"manifests": [{**GOOD, "size": "1"}]}).encode(),
        json.dumps({"manifests": [{**GOOD, "size": True}]}).encode(),
        json.dumps({"manifests": [{**GOOD, "mediaType": []}]}).encode(),
        json.dumps({"manifests": [{**GOOD, "annotations": []}]}).encode(),
        b" " * (8 * 2**20 + 1),
    ],
    ids=lambda data: data[:40].decode("latin-1"),
)
def test_a_hostile_index_is_refused(root: Path, layout: Path, index: bytes) -> None:
    layout.mkdir(parents=True)
    (layout / "index.json").write_bytes(index)
    registry = OciLayoutRegistry(root=root)
    for use in (
        lambda: registry.tags(REPOSITORY),
        lambda: registry.has(REPOSITORY, digest_bytes(b"")),
        lambda: registry.push(REPOSITORY, image()),
        lambda: registry.tag(REPOSITORY, "1", digest_bytes(b"")),
    ):
        with pytest.raises(Rejected) as caught:
            use()
        assert caught.value.reason == "BrokenImage"
    assert (layout / "index.json").read_bytes() == index


def test_a_tag_that_points_to_two_images_is_refused(root: Path, layout: Path) -> None:
    layout.mkdir(parents=True)
    tagged = [{**GOOD, "digest": digest_bytes(data), "annotations": {REF_NAME: "1"}} for data in (b"a", b"b")]
    (layout / "index.json").write_text(json.dumps({"manifests": tagged}))
    with pytest.raises(Rejected, match="two images"):
        OciLayoutRegistry(root=root).tags(REPOSITORY)


def manifest_of(changes: Callable[[dict[str, Any]], object]) -> bytes:
    manifest = json.loads(image().manifest)
    changes(manifest)
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (b"[]", "BrokenImage"),
        (b"not JSON", "BrokenImage"),
        (b" " * (8 * 2**20 + 1), "BrokenImage"),
        (manifest_of(lambda m: m.update(mediaType="application/vnd.oci.image.index.v1+json")), "NotAnImage"),
        (manifest_of(lambda m: m.update(mediaType=["x"])), "NotAnImage"),
        (manifest_of(lambda m: m.pop("config")), "BrokenImage"),
        (manifest_of(lambda m: m["config"].update(digest="sha256:../../../x")), "BrokenImage"),
        (manifest_of(lambda m: m["layers"].pop()), "BrokenImage"),
        (manifest_of(lambda m: m.update(layers=None)), "BrokenImage"),
        (manifest_of(lambda m: m["layers"][0].update(mediaType="application/x-evil")), "UnsupportedLayer"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_base_is_refused(root: Path, layout: Path, manifest: bytes, reason: str) -> None:
    registry = OciLayoutRegistry(root=root)
    registry.push(REPOSITORY, image())
    blob(layout, digest_bytes(manifest)).write_bytes(manifest)
    with pytest.raises(Rejected) as caught:
        registry.base(f"{REPOSITORY}@{digest_bytes(manifest)}")
    assert caught.value.reason == reason


def test_a_docker_image_serves_as_a_base(root: Path, layout: Path) -> None:
    registry = OciLayoutRegistry(root=root)
    registry.push(REPOSITORY, image())
    docker = "application/vnd.docker."

    def change(manifest: dict[str, Any]) -> None:
        manifest["mediaType"] = docker + "distribution.manifest.v2+json"
        for layer in manifest["layers"]:
            layer["mediaType"] = docker + "image.rootfs.diff.tar.gzip"

    manifest = manifest_of(change)
    blob(layout, digest_bytes(manifest)).write_bytes(manifest)
    base = registry.base(f"{REPOSITORY}@{digest_bytes(manifest)}")
    assert {layer.media_type for layer in base.layers} == {"application/vnd.oci.image.layer.v1.tar+gzip"}


def test_links_are_not_followed(root: Path, layout: Path, tmp_path: Path) -> None:
    registry = OciLayoutRegistry(root=root)
    made = image()
    digest = registry.push(REPOSITORY, made)
    path = blob(layout, made.layers[0].digest)
    path.rename(tmp_path / "layer")
    path.symlink_to(tmp_path / "layer")
    with pytest.raises(Rejected) as caught:
        everything(registry.base(f"{REPOSITORY}@{digest}").layers[0])
    assert caught.value.reason == "Symlink"
    assert not registry.has(REPOSITORY, digest)
    (tmp_path / "elsewhere").mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Rejected) as caught:
        registry.push("linked/cxr", made)
    assert caught.value.reason == "Symlink"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("repository", ["cxr/blobs", "cxr/index.json", "cxr/oci-layout/x", "blobs"])
def test_no_repository_lies_inside_anothers_layout(root: Path, repository: str) -> None:
    with pytest.raises(Rejected):
        OciLayoutRegistry(root=root).push(repository, image())


def test_a_lock_that_stays_held_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgetrain.providers.oci_layout.layout.LOCK_SECONDS", 0.05)
    registry = OciLayoutRegistry(root=root)
    digest = registry.push(REPOSITORY, image())
    layout = registry._layout(REPOSITORY)
    with ThreadPoolExecutor(1) as other, layout.editing():
        failure = other.submit(registry.tag, REPOSITORY, "1", digest).exception()
    assert getattr(failure, "reason", None) == "Locked"
