"""A base image on its way to a machine: streamed by the runner, so that the machine needs no registry and no right.

The stream is what `docker save` writes since version 25: an OCI layout (OCI image spec 1.1, image-layout) with
docker's `manifest.json` beside it (moby image spec 1.2). Docker, with either of its stores, and podman take it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.core.digest import SHA256, digest_bytes
from edgetrain.core.errors import Rejected
from edgetrain.core.ports import BaseImage, Layer
from edgetrain.providers.contract import SYSTEM_PATH

CHUNK = 2**20
NAME = "edgetrain.invalid/base"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
MAX_ENV = 1000


@dataclass(frozen=True)
class RunImage:
    """What a run needs of its base. `id` is how the machine's engine calls it: the digest of the configuration (or
    of the manifest, in docker's containerd store: see `ids`)."""

    id: str
    manifest: str
    reference: str
    env: Mapping[str, str]
    volumes: Sequence[str]
    platform: str

    @property
    def ids(self) -> tuple[str, str]:
        """The ids that it may have on a machine, all digests of its content."""
        return self.id, self.manifest

    def check(self) -> None:
        """Raises Rejected for an image that no run can have."""
        if self.volumes:
            raise Rejected(
                "the base image declares volumes, which would be writable and without a limit",
                reason="ImageVolumes",
                fix="build it without VOLUME, or choose another base",
            )

    def called(self, found: str) -> RunImage:
        """The same, under the id that the machine's engine has given it. Raises Rejected if it is another image."""
        if found not in self.ids:
            raise Rejected(
                "the machine holds another image than the one sent",
                reason="ImageChanged",
                fix="remove that image on the machine, then apply again",
            )
        return RunImage(found, self.manifest, self.reference, self.env, self.volumes, self.platform)


def check_reference(reference: str | None) -> str:
    """The digest in `host/repository@sha256:...`. Raises Rejected if there is none."""
    _, _, digest = (reference or "").rpartition("@")
    if not SHA256.fullmatch(digest):
        raise Rejected(
            "the experiment names no base image by its digest",
            reason="ImageMissing",
            fix="set environment.image to one of allowedBases, `...@sha256:...`: an ssh target runs containers",
        )
    return digest


def describe(base: BaseImage) -> RunImage:
    """What a run needs to know of it."""
    config = base.config.get("config") or {}
    pairs = [str(entry).partition("=") for entry in (config.get("Env") or [])[:MAX_ENV]]
    env = {name: value for name, _, value in pairs}
    identity, manifest = digest_bytes(_config(base)), digest_bytes(_manifest(base))
    return RunImage(
        id=identity,
        manifest=manifest,
        reference=f"{NAME}:{identity.removeprefix('sha256:')[:32]}",
        env={"PATH": SYSTEM_PATH, **env},
        volumes=sorted(config.get("Volumes") or {}),
        platform=f"{base.config.get('os', 'linux')}/{base.config.get('architecture', '')}",
    )


def _config(base: BaseImage) -> bytes:
    """The configuration's bytes: the same for the same content, whatever its registry's copy looks like."""
    return json.dumps(base.config, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _manifest(base: BaseImage) -> bytes:
    config = _config(base)
    found = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_bytes(config), "size": len(config)},
        "layers": [
            {"mediaType": _oci(layer.media_type), "digest": layer.digest, "size": layer.size}
            for layer in base.layers
        ],
    }
    return _json(found)


def _oci(media_type: str) -> str:
    """OCI's word for a layer's type, also where the registry speaks docker's."""
    kinds = {".gzip": "+gzip", "+gzip": "+gzip", "+zstd": "+zstd"}
    suffix = next((ours for theirs, ours in kinds.items() if media_type.endswith(theirs)), "")
    return "application/vnd.oci.image.layer.v1.tar" + suffix


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def archive(base: BaseImage) -> Iterator[bytes]:
    """The tar stream. Every layer is checked while it passes: raises Rejected before the stream's end."""
    config, manifest, image = _config(base), _manifest(base), describe(base)
    descriptor = {"mediaType": MANIFEST, "digest": digest_bytes(manifest), "size": len(manifest)}
    tag = image.reference.rpartition(":")[2]
    names = {"io.containerd.image.name": image.reference, "org.opencontainers.image.ref.name": tag}
    layers = {layer.digest: layer for layer in base.layers}
    legacy = [
        {
            "Config": _blob(digest_bytes(config)),
            "RepoTags": [image.reference],
            "Layers": [_blob(layer.digest) for layer in base.layers],
        }
    ]
    index = {"schemaVersion": 2, "manifests": [{**descriptor, "annotations": names}]}
    for name, data in (
        ("oci-layout", _json({"imageLayoutVersion": "1.0.0"})),
        ("index.json", _json(index)),
        ("manifest.json", _json(legacy)),
        (_blob(digest_bytes(config)), config),
        (_blob(digest_bytes(manifest)), manifest),
    ):
        yield from _member(name, len(data), iter([data]))
    for layer in layers.values():
        yield from _member(_blob(layer.digest), layer.size, _checked(layer))
    yield bytes(tarfile.RECORDSIZE)


def _blob(digest: str) -> str:
    return "blobs/sha256/" + digest.removeprefix("sha256:")


def _member(name: str, size: int, content: Iterator[bytes]) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    yield header.tobuf(tarfile.GNU_FORMAT)
    yield from content
    yield bytes(-size % tarfile.BLOCKSIZE)


def _checked(layer: Layer) -> Iterator[bytes]:
    hasher, left = hashlib.sha256(), layer.size
    with layer.open() as file:
        while data := file.read(CHUNK):
            left -= len(data)
            hasher.update(data)
            if left < 0:
                break
            yield data
    if left or "sha256:" + hasher.hexdigest() != layer.digest:
        raise Rejected(
            "a layer of the base image is not what its digest says",
            reason="LayerChanged",
            fix="push the base image anew, or choose another",
        )


def size(base: BaseImage) -> int:
    """The stream's bytes, near enough to compare with the room on a disk."""
    return sum(layer.size for layer in base.layers) + io.DEFAULT_BUFFER_SIZE
