"""The registry in a folder: one OCI image layout per repository, as skopeo, umoci and podman read it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgetrain.core.digest import SHA256, digest_bytes
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import BaseImage, Image, Layer, Settings
from edgetrain.core.problem import shown
from edgetrain.providers.oci_layout.layout import (
    MANIFEST_TYPE,
    REF_NAME,
    Descriptor,
    Layout,
    broken,
    parsed,
    tag_of,
)

_NAME_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_NAME_PART}(?:/{_NAME_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# Names inside a layout: a repository of such a name would lie in another one's layout.
_RESERVED = {"blobs", "index.json", "oci-layout"}
_DOCKER = "application/vnd.docker."
_TYPES = {
    _DOCKER + "distribution.manifest.v2+json": MANIFEST_TYPE,
    _DOCKER + "image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    _DOCKER + "image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
}
_LAYER = re.compile(r"application/vnd\.oci\.image\.layer\.v1\.tar(\+gzip|\+zstd)?")


class OciLayoutRegistry:
    """The layouts under `root`; a repository's name is its path there."""

    def __init__(self, *, root: Path) -> None:
        self._root = root

    def base(self, reference: str) -> BaseImage:
        """The image `repository@sha256:...`. Manifest and config are checked now, layers as they are read.

        Raises NotFound; Rejected for an image index, an image that is broken, or a name that is not safe.
        """
        repository, _, digest = reference.partition("@")
        layout = self._layout(repository)
        manifest = parsed(layout.read(digest))
        media_type = str(manifest.get("mediaType", MANIFEST_TYPE))
        if _TYPES.get(media_type, media_type) != MANIFEST_TYPE:
            raise Rejected(
                f"{shown(reference, 200)} is no image manifest but {shown(media_type)}",
                reason="NotAnImage",
                fix="give the digest of the manifest of one platform",
            )
        config = parsed(layout.read(Descriptor.parse(manifest.get("config")).digest))
        layers, rootfs = manifest.get("layers"), config.get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
            raise broken("an image's layers and diff ids do not fit")
        return BaseImage(
            digest=digest,
            config=config,
            layers=tuple(_layer(layout, *pair) for pair in zip(layers, diff_ids, strict=True)),
        )

    def push(self, repository: str, image: Image) -> str:
        """Ensure the image is there: blobs, then manifest, then its place in the index."""
        layout = self._layout(repository)
        _check(image)
        manifest = Descriptor(image.media_type, digest_bytes(image.manifest), len(image.manifest))
        config = Descriptor("", digest_bytes(image.config), len(image.config))
        for layer in image.layers:
            layout.write(Descriptor(layer.media_type, layer.digest, layer.size), layer.open)
        layout.write(config, partial(io.BytesIO, image.config))
        layout.write(manifest, partial(io.BytesIO, image.manifest))
        if not _of(layout.entries(), manifest.digest):
            with layout.editing() as entries:
                if not _of(entries, manifest.digest):
                    entries.append(_entry(manifest))
        return manifest.digest

    def tag(self, repository: str, tag: str, digest: str | None) -> None:
        """Ensure the tag. What loses its last tag stays in the index without one. Raises NotFound."""
        if not _TAG.fullmatch(tag):
            raise Rejected(
                f"not a tag: {shown(tag)}", reason="BadTag", fix="use letters, digits and . _ - (128 at most)"
            )
        layout = self._layout(repository)
        if _tags(layout.entries()).get(tag) == digest:
            return
        with layout.editing() as entries:
            targets = _of(entries, digest) if digest is not None else []
            if digest is not None and not targets:
                raise NotFound(
                    f"{shown(repository)} has no image {shown(digest)}",
                    reason="ImageMissing",
                    fix="push the image before its tag",
                )
            for entry in [entry for entry in entries if tag_of(entry) == tag]:
                _untag(entries, entry)
            if targets:
                entries[:] = [e for e in entries if tag_of(e) is not None or e["digest"] != digest]
                entries.append(_entry(Descriptor.parse(targets[0]), tag))

    def tags(self, repository: str) -> Mapping[str, str]:
        """All tags and what they point to. Raises Rejected if a tag is there twice."""
        return _tags(self._layout(repository).entries())

    def has(self, repository: str, digest: str) -> bool:
        """Whether the manifest is in the index and all its blobs are there with their sizes."""
        layout = self._layout(repository)
        if not SHA256.fullmatch(digest) or not _of(layout.entries(), digest):
            return False
        try:
            manifest = parsed(layout.read(digest))
        except NotFound:
            return False
        layers = manifest.get("layers")
        if not isinstance(layers, list):
            return False
        blobs = [Descriptor.parse(value) for value in [manifest.get("config"), *layers]]
        return all(layout.size(blob.digest) == blob.size for blob in blobs)

    def where(self, repository: str) -> str:
        """As skopeo names it."""
        return f"oci:{self._layout(repository).folder}"

    def _layout(self, repository: str) -> Layout:
        parts = repository.split("/")
        if len(repository) > 255 or not _REPOSITORY.fullmatch(repository) or _RESERVED & {*parts}:
            raise Rejected(
                f"not a repository's name: {shown(repository)}",
                reason="BadRepository",
                fix="use lower-case letters and digits, with single . _ - / between them",
            )
        folder = self._root
        for part in [*parts, "blobs", "sha256"]:
            folder = folder / part
            if folder.is_symlink():
                raise Rejected(
                    f"a folder of {shown(repository)} is a symbolic link", reason="Symlink", fix="use a real folder"
                )
        # Hidden names: no repository's name begins with a dot.
        lock = self._root / ".locks" / (hashlib.sha256(repository.encode()).hexdigest() + ".lock")
        return Layout(self._root.joinpath(*parts), lock, self._root / ".incoming")


def _layer(layout: Layout, value: object, diff_id: object) -> Layer:
    blob = Descriptor.parse(value)
    media_type = _TYPES.get(blob.media_type, blob.media_type)
    if not _LAYER.fullmatch(media_type):
        raise Rejected(
            f"a layer is of the type {shown(blob.media_type)}",
            reason="UnsupportedLayer",
            fix="use a base image with plain tar layers",
        )
    if not isinstance(diff_id, str) or not SHA256.fullmatch(diff_id):
        raise broken("a diff id is not a sha256 digest")
    return Layer(blob.digest, blob.size, media_type, diff_id, partial(layout.open, blob))


def _check(image: Image) -> None:
    """Raises Rejected if the manifest does not name exactly the config and the layers that are given."""
    manifest = parsed(image.manifest)
    layers = manifest.get("layers")
    named = [Descriptor.parse(value) for value in [manifest.get("config"), *(layers or [])]]
    given = [(digest_bytes(image.config), len(image.config)), *((one.digest, one.size) for one in image.layers)]
    if [(blob.digest, blob.size) for blob in named] != given:
        raise Rejected(
            "the image's manifest does not name its config and layers",
            reason="DigestMismatch",
            fix="report this: it is a fault of edgetrain",
        )


def _entry(manifest: Descriptor, tag: str | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
    }
    return entry | ({"annotations": {REF_NAME: tag}} if tag is not None else {})


def _of(entries: list[dict[str, Any]], digest: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["digest"] == digest]


def _tags(entries: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        tag = tag_of(entry)
        if tag is not None and found.setdefault(tag, entry["digest"]) != entry["digest"]:
            raise broken(f"the tag {shown(tag)} points to two images")
    return found


def _untag(entries: list[dict[str, Any]], entry: dict[str, Any]) -> None:
    entries.remove(entry)
    if not _of(entries, entry["digest"]):
        entries.append(_entry(Descriptor.parse(entry)))


def from_settings(settings: Settings) -> OciLayoutRegistry:
    """The declared folder, or one at the site's state."""
    path = settings.block.get("path")
    return OciLayoutRegistry(root=Path(path).expanduser() if path else settings.state / "images")
