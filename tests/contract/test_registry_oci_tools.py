"""What we put into a layout is accepted by the field's own tools, and what they put there by us."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from edgetrain.core.digest import digest_bytes
from edgetrain.image.assembly import About, assemble, scoring_files
from edgetrain.image.layer import LayerFile
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry

from .registry import everything, image

ABOUT = About(
    title="cxr-triage",
    version="3",
    revision="5" * 40,
    created="2026-10-01T12:00:00Z",
    labels={"edgetrain.model": "cxr-triage"},
)


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def umoci(verb: str, *arguments: str | Path) -> str:
    rootless = ["--rootless"] if os.geteuid() and verb in {"unpack", "insert"} else []
    return run("umoci", verb, *rootless, *arguments)


@pytest.fixture
def registry(tmp_path: Path) -> OciLayoutRegistry:
    return OciLayoutRegistry(root=tmp_path / "images")


@pytest.fixture
def pushed(registry: OciLayoutRegistry) -> str:
    """Version 3 and an older one, tagged as a release does; answers the digest of version 3."""
    made = assemble(
        about=ABOUT,
        scoring=scoring_files("cxr-triage", 3, {}),
        model=[LayerFile.of_bytes("model/model.onnx", b"weights" * 100_000)],
    )
    digest = registry.push("cxr-triage", made)
    registry.tag("cxr-triage", "2", registry.push("cxr-triage", image(2)))
    for tag in ("3", "production"):
        registry.tag("cxr-triage", tag, digest)
    return digest


@pytest.mark.needs("skopeo")
def test_skopeo_sees_what_we_pushed(registry: OciLayoutRegistry, pushed: str) -> None:
    for tag in ("3", "production"):
        seen = json.loads(run("skopeo", "inspect", f"{registry.where('cxr-triage')}:{tag}"))
        assert seen["Digest"] == pushed
        assert seen["Labels"]["edgetrain.model"] == "cxr-triage"
        assert seen["Labels"]["org.opencontainers.image.version"] == "3"
        assert (seen["Os"], seen["Architecture"]) == ("linux", "amd64")
        assert seen["Created"] == "2026-10-01T12:00:00Z"
        assert len(seen["Layers"]) == 2


@pytest.mark.needs("skopeo")
def test_skopeo_copies_to_and_fro_keeping_the_digest(
    registry: OciLayoutRegistry, pushed: str, tmp_path: Path
) -> None:
    source = f"{registry.where('cxr-triage')}:3"
    policy = ("--insecure-policy",)
    run("skopeo", *policy, "copy", "--preserve-digests", source, f"dir:{tmp_path / 'dir'}")
    assert digest_bytes((tmp_path / "dir" / "manifest.json").read_bytes()) == pushed
    registry.push("mirror/cxr-triage", image(1))
    target = f"{registry.where('mirror/cxr-triage')}:copied"
    run("skopeo", *policy, "copy", "--preserve-digests", f"dir:{tmp_path / 'dir'}", target)
    assert registry.tags("mirror/cxr-triage") == {"copied": pushed}
    assert registry.has("mirror/cxr-triage", pushed)
    base = registry.base(f"mirror/cxr-triage@{pushed}")
    assert sum(len(everything(layer)) for layer in base.layers) > 700_000
    registry.tag("mirror/cxr-triage", "4", pushed)
    assert json.loads(run("skopeo", "inspect", target))["Digest"] == pushed


@pytest.mark.needs("umoci")
def test_umoci_unpacks_what_we_pushed(registry: OciLayoutRegistry, pushed: str, tmp_path: Path) -> None:
    layout = tmp_path / "images" / "cxr-triage"
    assert sorted(umoci("list", "--layout", layout).split()) == ["2", "3", "production"]
    umoci("unpack", "--image", f"{layout}:3", tmp_path / "bundle")
    rootfs = tmp_path / "bundle" / "rootfs"
    assert (rootfs / "model" / "model.onnx").read_bytes() == b"weights" * 100_000
    assert json.loads((rootfs / "app" / "metadata.json").read_bytes()) == {"model": "cxr-triage", "version": 3}
    score = (rootfs / "app" / "score.py").stat()
    assert (score.st_mode & 0o777, score.st_mtime) == (0o644, 1790856000)
    assert json.loads((tmp_path / "bundle" / "config.json").read_bytes())["process"]["user"] == {
        "uid": 65532,
        "gid": 65532,
    }
    umoci("gc", "--layout", layout)
    assert registry.has("cxr-triage", pushed)
    assert registry.base(f"cxr-triage@{pushed}").digest == pushed


@pytest.mark.needs("umoci")
def test_a_base_made_by_umoci_carries_our_layers(registry: OciLayoutRegistry, tmp_path: Path) -> None:
    layout = tmp_path / "images" / "onnx-serve"
    layout.parent.mkdir()
    umoci("init", "--layout", layout)
    umoci("new", "--image", f"{layout}:1")
    (tmp_path / "python").write_bytes(b"an interpreter")
    umoci("insert", "--image", f"{layout}:1", tmp_path / "python", "/usr/bin/python3")
    base = registry.base(f"onnx-serve@{registry.tags('onnx-serve')['1']}")
    assert [layer.media_type for layer in base.layers] == ["application/vnd.oci.image.layer.v1.tar+gzip"]
    made = assemble(
        about=ABOUT,
        scoring=scoring_files("cxr-triage", 3, {}),
        model=[LayerFile.of_bytes("model/model.onnx", b"weights")],
        base=base,
        base_name="onnx-serve",
    )
    registry.tag("cxr-triage", "3", registry.push("cxr-triage", made))
    umoci("unpack", "--image", f"{tmp_path / 'images' / 'cxr-triage'}:3", tmp_path / "bundle")
    rootfs = tmp_path / "bundle" / "rootfs"
    assert (rootfs / "usr" / "bin" / "python3").read_bytes() == b"an interpreter"
    assert (rootfs / "model" / "model.onnx").read_bytes() == b"weights"
    process = json.loads((tmp_path / "bundle" / "config.json").read_bytes())["process"]
    assert process["args"] == ["python3", "/app/score.py"]
