"""Small images for tests, put into a registry by plain requests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

import requests

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
PATIENCE = 60

Call = Callable[..., requests.Response]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def push_image(url: str, repository: str, tag: str, layer: bytes = b"layer", call: Call | None = None) -> str:
    """Push an image of one layer; its digest. `call` makes the requests, with whatever signs them in."""
    send = call or requests.Session().request
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}}).encode()
    for data in (config, layer):
        begun = send("POST", f"{url}/v2/{repository}/blobs/uploads/", timeout=PATIENCE)
        assert begun.status_code == 202, begun.text
        where = urljoin(url, begun.headers["Location"])
        where += ("&" if "?" in where else "?") + f"digest={digest_of(data)}"
        done = send("PUT", where, data=data, timeout=PATIENCE)
        assert done.status_code == 201, done.text
    manifest = manifest_of(config, layer)
    said = send(
        "PUT",
        f"{url}/v2/{repository}/manifests/{tag}",
        data=manifest,
        headers={"Content-Type": MANIFEST},
        timeout=PATIENCE,
    )
    assert said.status_code == 201, said.text
    assert said.headers["Docker-Content-Digest"] == digest_of(manifest)
    return digest_of(manifest)


def manifest_of(config: bytes, layer: bytes) -> bytes:
    # Spaces that no encoder of ours would write: whoever encodes it again changes its digest.
    parts: Mapping[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": digest_of(layer), "size": len(layer)}],
    }
    return json.dumps(parts, indent=3).encode() + b"  \n"
