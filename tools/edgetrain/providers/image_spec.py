"""What every registry reads and writes: names, descriptors and manifests of the OCI specifications, none trusted.

Sources: OCI image specification 1.1 (descriptor, manifest, index), OCI distribution specification 1.1 (names).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from edgetrain.core.digest import SHA256, digest_bytes
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import BaseImage, Image, ImagePart, Layer
from edgetrain.core.problem import shown

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
JSON_SIZE = 8 * 2**20
BLOCK = 2**20

_DOCKER = "application/vnd.docker."
DOCKER_MANIFEST_TYPE = _DOCKER + "distribution.manifest.v2+json"
DOCKER_INDEX_TYPE = _DOCKER + "distribution.manifest.list.v2+json"
_TYPES = {
    DOCKER_MANIFEST_TYPE: MANIFEST_TYPE,
    DOCKER_INDEX_TYPE: INDEX_TYPE,
    _DOCKER + "image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    _DOCKER + "image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
}
_LAYER = re.compile(r"application/vnd\.oci\.image\.layer\.v1\.tar(\+gzip|\+zstd)?")
_NAME_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_NAME_PART}(?:/{_NAME_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Descriptor:
    """A descriptor of the OCI image specification; `size` in bytes."""

    media_type: str
    digest: str
    size: int

    @classmethod
    def parse(cls, value: object) -> Descriptor:
        """From parsed JSON. Raises Rejected."""
        if not isinstance(value, Mapping):
            raise broken("a descriptor is not an object")
        media_type, digest, size = (value.get(key) for key in ("mediaType", "digest", "size"))
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise broken("a descriptor's digest is not sha256")
        if type(size) is not int or size < 0 or not isinstance(media_type, str):
            raise broken("a descriptor has no size or media type")
        return cls(media_type, digest, size)

    @property
    def json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


class CheckedStream(io.RawIOBase):
    """A blob's stream that knows its digest: the last read raises Rejected if the bytes are not those."""

    def __init__(self, stream: BinaryIO, blob: Descriptor) -> None:
        self._stream = stream
        self._blob = blob
        self._hash = hashlib.sha256()
        self._size = 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """At most the buffer's size; 0 at the end."""
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._hash.update(data)
        self._size += len(data)
        if self._size > self._blob.size or (not data and "sha256:" + self._hash.hexdigest() != self._blob.digest):
            raise broken(f"the bytes of {self._blob.digest} are not its own")
        return len(data)

    def close(self) -> None:
        """Close what is read from, too."""
        self._stream.close()
        super().close()


def check_repository(name: str) -> str:
    """The name. Raises Rejected if it is not one."""
    if len(name) > 255 or not _REPOSITORY.fullmatch(name):
        raise Rejected(
            f"not a repository's name: {shown(name)}",
            reason="BadRepository",
            fix="use lower-case letters and digits, with single . _ - / between them",
        )
    return name


def check_tag(tag: str) -> str:
    """The tag. Raises Rejected if it is not one."""
    if not _TAG.fullmatch(tag):
        raise Rejected(
            f"not a tag: {shown(tag)}", reason="BadTag", fix="use letters, digits and . _ - (128 at most)"
        )
    return tag


def check_digest(digest: str) -> str:
    """The digest. Raises Rejected if it is not one."""
    if not SHA256.fullmatch(digest):
        raise Rejected(f"not a digest: {shown(digest)}", reason="BadDigest", fix="give sha256:<64 hex digits>")
    return digest


def parsed(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises Rejected for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise broken("a manifest, config or index is not JSON") from None
    if not isinstance(value, dict):
        raise broken("a manifest, config or index is not an object")
    return value


def config_of(reference: str, manifest: Mapping[str, Any]) -> Descriptor:
    """The config of an image's manifest. Raises Rejected for an image index, or anything that is no image."""
    media_type = manifest.get("mediaType", MANIFEST_TYPE)
    if not isinstance(media_type, str) or _TYPES.get(media_type, media_type) != MANIFEST_TYPE:
        raise Rejected(
            f"{shown(reference, 200)} is no image manifest but {shown(media_type)}",
            reason="NotAnImage",
            fix=f"give the digest of the manifest of one platform{_one_platform(manifest)}",
        )
    return Descriptor.parse(manifest.get("config"))


def _one_platform(index: Mapping[str, Any]) -> str:
    """The digest to give instead of an index's: that of linux/amd64, if there is one."""
    entries = index.get("manifests")
    for entry in entries if isinstance(entries, list) else []:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if isinstance(platform, dict) and (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return f": {shown(entry.get('digest'))} for linux/amd64"
    return ""


def base_of(
    digest: str,
    manifest: Mapping[str, Any],
    config: Mapping[str, Any],
    opener: Callable[[Descriptor], Callable[[], BinaryIO]],
) -> BaseImage:
    """The base of a parsed manifest and config. Raises Rejected where they don't fit, or a layer is no tar."""
    layers, rootfs = manifest.get("layers"), config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        raise broken("an image's layers and diff ids do not fit")
    found = [_layer(value, diff_id, opener) for value, diff_id in zip(layers, diff_ids, strict=True)]
    return BaseImage(digest=digest, config=config, layers=tuple(found))


def _layer(value: object, diff_id: object, opener: Callable[[Descriptor], Callable[[], BinaryIO]]) -> Layer:
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
    return Layer(blob.digest, blob.size, media_type, diff_id, opener(blob))


def blobs_of(manifest: Mapping[str, Any]) -> list[Descriptor]:
    """Config and layers, in this order. Raises Rejected."""
    layers = manifest.get("layers")
    if not isinstance(layers, list):
        raise broken("an image's manifest has no layers")
    return [Descriptor.parse(value) for value in [manifest.get("config"), *layers]]


def read_parts(
    digest: str, manifest: Callable[[], bytes], blob: Callable[[Descriptor], BinaryIO]
) -> Iterator[ImagePart]:
    """Every part of the image, each read to its end by streams that know their digests."""
    try:
        data = manifest()
        config, *layers = blobs_of(parsed(data))
    except (NotFound, Rejected) as error:
        yield ImagePart("manifest", digest, error.message)
        return
    yield ImagePart("manifest", digest)
    names = ["config", *(f"layer {at} of {len(layers)}" for at in range(1, len(layers) + 1))]
    for name, one in zip(names, [config, *layers], strict=True):
        try:
            with blob(one) as stream:
                while stream.read(BLOCK):
                    pass
        except (NotFound, Rejected) as error:
            yield ImagePart(name, one.digest, error.message)
        else:
            yield ImagePart(name, one.digest)


def check_image(image: Image) -> None:
    """Raises Rejected if the manifest does not name exactly the config and the layers that are given."""
    given = [(digest_bytes(image.config), len(image.config)), *((one.digest, one.size) for one in image.layers)]
    if [(blob.digest, blob.size) for blob in blobs_of(parsed(image.manifest))] != given:
        raise Rejected(
            "the image's manifest does not name its config and layers",
            reason="DigestMismatch",
            fix="report this: it is a fault of edgetrain",
        )


def broken(what: str) -> Rejected:
    """The content found is not as the specification says."""
    return Rejected(
        f"broken image: {what}",
        reason="BrokenImage",
        fix="copy the image there again, with skopeo for example; move the folder of a broken layout away first",
    )


def missing(where: str, digest: str) -> NotFound:
    """Nothing of this digest is there."""
    return NotFound(
        f"{where} has no {digest}",
        reason="ImageMissing",
        fix="check the digest, or copy the image there, with skopeo for example",
    )
