"""The port of a registry, and images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

from edgetrain.core.ports.check import Check


@dataclass(frozen=True)
class Layer:
    """One layer: descriptor facts, and `open` to read its (compressed) bytes from the start."""

    digest: str
    size: int
    media_type: str
    diff_id: str
    open: Callable[[], BinaryIO] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Image:
    """An assembled image. `manifest` and `config` are exact bytes; `layers` in order, base first."""

    manifest: bytes
    config: bytes
    layers: Sequence[Layer]

    media_type: str = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class BaseImage:
    """A base by digest: its config (parsed) and its layers."""

    digest: str
    config: Mapping[str, Any]
    layers: Sequence[Layer]


@dataclass(frozen=True)
class ImagePart:
    """One part of a stored image, read to its end: `manifest`, `config`, or `layer 2 of 4`. `fault` says what is
    wrong with it; empty if its bytes are there and are those of `digest`."""

    name: str
    digest: str
    fault: str = ""


class Registry(Protocol):
    """Where images go."""

    def base(self, reference: str) -> BaseImage:
        """The image `repository@sha256:...`, checked against its digest. Raises NotFound."""

    def push(self, repository: str, image: Image) -> str:
        """Ensure the image is there, blobs before manifest; answer the manifest's digest."""

    def tag(self, repository: str, tag: str, digest: str | None) -> None:
        """Ensure the tag points to the manifest `digest` (which is there); None removes it."""

    def tags(self, repository: str) -> Mapping[str, str]:
        """All tags and the manifest digests that they point to; empty for an absent repository."""

    def has(self, repository: str, digest: str, lately: bool = False) -> bool:
        """Whether the manifest is there with all its blobs. `lately`: of what `tags` just led to, whether it was
        seen whole a short while ago is enough."""

    def read(self, repository: str, digest: str) -> Sequence[ImagePart]:
        """Read every byte of an image as it is stored now: manifest, config, layers. What can't be known because
        of a fault is left out."""

    def where(self, repository: str) -> str:
        """How a person names the repository, in a line."""

    def diagnose(self, repositories: Sequence[str]) -> Sequence[Check]:
        """Whether the registry answers and each repository may be pushed to, found without leaving anything."""
