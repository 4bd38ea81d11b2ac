"""The registry in a folder: one OCI image layout per repository, as skopeo, umoci and podman read it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from edgetrain.core.digest import SHA256, digest_bytes
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import BaseImage, Check, Image, ImagePart, Settings
from edgetrain.core.problem import shown
from edgetrain.providers.diagnosis import tried
from edgetrain.providers.durable import disk
from edgetrain.providers.image_spec import (
    Descriptor,
    base_of,
    blobs_of,
    broken,
    check_image,
    check_repository,
    check_tag,
    config_of,
    missing,
    parsed,
    read_parts,
)
from edgetrain.providers.oci_layout.layout import REF_NAME, Layout, tag_of

# Names inside a layout: a repository of such a name would lie in another one's layout.
_RESERVED = {"blobs", "index.json", "oci-layout"}


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
        config = parsed(layout.read(config_of(reference, manifest).digest))
        return base_of(digest, manifest, config, lambda blob: partial(layout.open, blob))

    def push(self, repository: str, image: Image) -> str:
        """Ensure the image is there: blobs, then manifest, then its place in the index."""
        layout = self._layout(repository)
        check_image(image)
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
        check_tag(tag)
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

    def has(self, repository: str, digest: str, lately: bool = False) -> bool:
        """Whether the manifest is in the index and all its blobs are there with their sizes, now."""
        layout = self._layout(repository)
        if not SHA256.fullmatch(digest) or not _of(layout.entries(), digest):
            return False
        try:
            blobs = blobs_of(parsed(layout.read(digest)))
        except NotFound:
            return False
        return all(layout.size(blob.digest) == blob.size for blob in blobs)

    def read(self, repository: str, digest: str) -> Sequence[ImagePart]:
        """Every file of the image that the index names, hashed again."""
        layout = self._layout(repository)

        def manifest() -> bytes:
            if not _of(layout.entries(), digest):
                raise missing("the image layout's index", digest)
            return layout.read(digest)

        return list(read_parts(digest, manifest, layout.open))

    def diagnose(self, repositories: Sequence[str]) -> Sequence[Check]:
        """Whether the folder can be written, and each repository read and written."""
        return [
            tried("registry", "the folder of images can be written", lambda: _write(self._root)),
            *(
                tried("registry-push", f"{shown(name)} takes a push", partial(self._takes, name))
                for name in repositories
            ),
        ]

    def _takes(self, repository: str) -> None:
        layout = self._layout(repository)
        layout.entries()
        _write(layout.folder)

    def where(self, repository: str) -> str:
        """As skopeo names it."""
        return f"oci:{self._layout(repository).folder}"

    def _layout(self, repository: str) -> Layout:
        parts = check_repository(repository).split("/")
        if _RESERVED & {*parts}:
            raise Rejected(
                f"{shown(repository)} would lie in another repository's layout",
                reason="BadRepository",
                fix=f"use a name without {' or '.join(sorted(_RESERVED))}",
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


def _write(folder: Path) -> None:
    """Try to write there, or where the folder would be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with disk("writing the folder of images"), TemporaryFile(dir=there) as file:
        file.write(b"doctor")


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
