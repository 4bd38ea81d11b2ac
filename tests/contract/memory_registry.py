"""A registry in memory: a second provider that shows the seam holds."""

from __future__ import annotations

import io
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

from edgetrain.core.digest import SHA256, digest_bytes
from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import BaseImage, Check, CheckStatus, Image, ImagePart, Layer
from edgetrain.providers.diagnosis import tried

_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"(?=.{{1,255}}$){_PART}(/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class MemoryRegistry:
    """Lives as long as its process."""

    def __init__(self) -> None:
        self._blobs: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._manifests: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._tags: dict[str, dict[str, str]] = defaultdict(dict)

    def diagnose(self, repositories: Sequence[str]) -> Sequence[Check]:
        return [
            Check("registry", CheckStatus.PASS, "it answers"),
            *(tried("registry-push", f"{name} takes a push", partial(_check, name)) for name in repositories),
        ]

    def base(self, reference: str) -> BaseImage:
        repository, _, digest = reference.partition("@")
        blobs = self._blobs[_named(repository)]
        if not SHA256.fullmatch(digest):
            raise Rejected("no digest")
        if digest not in self._manifests[repository]:
            raise NotFound(reference)
        manifest = json.loads(self._manifests[repository][digest])
        config = json.loads(blobs[manifest["config"]["digest"]])
        layers = zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        return BaseImage(
            digest,
            config,
            tuple(
                Layer(
                    one["digest"],
                    one["size"],
                    one["mediaType"],
                    diff_id,
                    partial(io.BytesIO, blobs[one["digest"]]),
                )
                for one, diff_id in layers
            ),
        )

    def push(self, repository: str, image: Image) -> str:
        blobs = self._blobs[_named(repository)]
        manifest = json.loads(image.manifest)
        given = [digest_bytes(image.config), *(layer.digest for layer in image.layers)]
        if not isinstance(manifest, dict) or given != [
            one["digest"] for one in [manifest["config"], *manifest["layers"]]
        ]:
            raise Rejected("not its layers")
        for layer in image.layers:
            if layer.digest not in blobs:
                with layer.open() as stream:
                    data = stream.read()
                if digest_bytes(data) != layer.digest:
                    raise Rejected("not its bytes")
                blobs[layer.digest] = data
        blobs[given[0]] = image.config
        digest = digest_bytes(image.manifest)
        self._manifests[repository][digest] = image.manifest
        return digest

    def tag(self, repository: str, tag: str, digest: str | None) -> None:
        if not _TAG.fullmatch(tag):
            raise Rejected("not a tag")
        tags = self._tags[_named(repository)]
        if digest is None:
            tags.pop(tag, None)
        elif digest not in self._manifests[repository]:
            raise NotFound(digest)
        else:
            tags[tag] = digest

    def tags(self, repository: str) -> Mapping[str, str]:
        return dict(self._tags[_named(repository)])

    def has(self, repository: str, digest: str, lately: bool = False) -> bool:
        return digest in self._manifests[_named(repository)]

    def read(self, repository: str, digest: str) -> Sequence[ImagePart]:
        manifests, blobs = self._manifests[_named(repository)], self._blobs[repository]
        if digest_bytes(manifests.get(digest, b"")) != digest:
            return [ImagePart("manifest", digest, "not there, or other bytes")]
        manifest = json.loads(manifests[digest])
        layers = [one["digest"] for one in manifest["layers"]]
        names = ["config", *(f"layer {at} of {len(layers)}" for at in range(1, len(layers) + 1))]
        wanted = zip(names, [manifest["config"]["digest"], *layers], strict=True)
        faults = {one: digest_bytes(blobs.get(one, b"")) != one for one in [manifest["config"]["digest"], *layers]}
        parts = [ImagePart(name, one, "other bytes" if faults[one] else "") for name, one in wanted]
        return [ImagePart("manifest", digest), *parts]

    def where(self, repository: str) -> str:
        return f"memory:{_named(repository)}"


def _check(repository: str) -> None:
    _named(repository)


def _named(repository: str) -> str:
    if not _REPOSITORY.fullmatch(repository):
        raise Rejected("not a repository")
    return repository
