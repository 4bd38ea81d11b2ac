"""The registry over the OCI distribution API: Azure Container Registry, Docker distribution and others."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

from edgetrain.core.digest import SHA256, digest_bytes
from edgetrain.core.errors import NotFound, Unavailable
from edgetrain.core.ports import BaseImage, Check, Image, ImagePart, Outbound, Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.image_spec import (
    Descriptor,
    base_of,
    blobs_of,
    broken,
    check_digest,
    check_image,
    check_repository,
    check_tag,
    config_of,
    parsed,
    read_parts,
)
from edgetrain.providers.oci import referrers
from edgetrain.providers.oci.auth import Credential
from edgetrain.providers.oci.client import Client, RemoteBlob
from edgetrain.providers.oci.diagnosis import diagnose
from edgetrain.providers.oci.seen import Seen
from edgetrain.providers.oci.transport import Transport
from edgetrain.providers.oci.upload import CHUNK, Abandoned, ensure_blob

PARALLEL = 4
REMOVED = "application/vnd.edgetrain.removed-tag.v1"
_FALLBACK_TAG = re.compile(r"sha256-[0-9a-f]{64}")
# A config is read whole; layers are not.
CONFIG_SIZE = 8 * 2**20


class OciRegistry:
    """The repositories of one registry, under `prefix`. `sleep` waits between attempts; `chunk` is in bytes; in
    `state`, the site's folder, it is remembered what was seen whole."""

    def __init__(
        self,
        host: str,
        *,
        plain_http: bool = False,
        prefix: str = "",
        credential: Credential | None = None,
        ca_bundle: str = "",
        outbound: Outbound | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
        chunk: int = CHUNK,
        state: Path | None = None,
    ) -> None:
        transport = Transport(host, plain_http=plain_http, outbound=outbound or Outbound(), ca_bundle=ca_bundle)
        self._client = Client(transport, credential, sleep=sleep, now=now)
        self._prefix = prefix
        self._chunk = chunk
        # What this process pushed: its tags need not fetch the manifest again.
        self._pushed: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._state = state
        self._tagged: dict[str, frozenset[str]] = {}

    def base(self, reference: str) -> BaseImage:
        """The image `repository@sha256:...`, or `host/repository@sha256:...` with the repository's full path.

        Manifest and config are checked now, layers as they are read. Raises NotFound; Rejected for an image index,
        an image that is broken, or a name that is not safe.
        """
        name, _, digest = reference.partition("@")
        own = f"{self._client.host}/"
        path = check_repository(name.removeprefix(own)) if name.startswith(own) else self._path(name)
        manifest = parsed(self._client.manifest(path, check_digest(digest))[0])
        wanted = config_of(reference, manifest)
        if wanted.size > CONFIG_SIZE:
            raise broken("a config is over 8 MiB")
        with self._client.blob(path, wanted) as stream:
            config = parsed(stream.read())
        return base_of(digest, manifest, config, lambda blob: RemoteBlob(self._client, path, blob))

    def push(self, repository: str, image: Image) -> str:
        """Ensure the image is there: blobs, several at a time, then the manifest; its digest."""
        path = self._path(repository)
        check_image(image)
        digest = digest_bytes(image.manifest)
        blobs: dict[str, tuple[Descriptor, Callable[[], BinaryIO]]] = {
            one.digest: (Descriptor(one.media_type, one.digest, one.size), one.open) for one in image.layers
        }
        config = Descriptor("", digest_bytes(image.config), len(image.config))
        blobs[config.digest] = (config, partial(io.BytesIO, image.config))
        self._push_blobs(path, sorted(blobs.values(), key=lambda one: -one[0].size))
        if self._client.digest(path, digest) is None:
            self._client.put_manifest(path, digest, image.manifest, image.media_type)
        self._pushed = {(path, digest): (image.manifest, image.media_type)}
        return digest

    def _push_blobs(self, path: str, blobs: Sequence[tuple[Descriptor, Callable[[], BinaryIO]]]) -> None:
        stop = threading.Event()

        def ensure(one: tuple[Descriptor, Callable[[], BinaryIO]]) -> BaseException | None:
            try:
                ensure_blob(self._client, path, *one, stop, self._chunk)
            except Abandoned:
                return None
            except Exception as error:
                stop.set()
                return error
            return None

        with ThreadPoolExecutor(PARALLEL, "push") as pool:
            try:
                failures = [error for error in pool.map(ensure, blobs) if error is not None]
            except BaseException:  # A signal asked for a clean stop.
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        if failures:
            raise failures[0]

    def tag(self, repository: str, tag: str, digest: str | None) -> None:
        """Ensure the tag: its manifest is put under that name, and no blob moves. Raises NotFound.

        Registries differ in how a tag is removed, and some delete the image with it. So the tag is first moved to
        an empty artifact of its own, and then that is deleted. Where nothing can be deleted it stays, and `tags`
        does not show it; who pulls the tag gets an error and not the old image.
        """
        path = self._path(repository)
        check_tag(tag)
        if digest is None:
            self._untag(path, tag)
        elif self._client.digest(path, tag) != check_digest(digest):
            data, media_type = self._pushed.get((path, digest)) or self._client.manifest(path, digest)
            self._client.put_manifest(path, tag, data, media_type)

    def _untag(self, path: str, tag: str) -> None:
        now, nothing = self._client.digest(path, tag), _nothing(tag)
        if now is None:
            return
        if now != digest_bytes(nothing):
            referrers.push_artifact(self._client, path, nothing, [], tag)
        if not self._client.delete_manifest(path, tag) or self._client.digest(path, tag) is not None:
            self._client.delete_manifest(path, digest_bytes(nothing))

    def tags(self, repository: str) -> Mapping[str, str]:
        """All tags and what they point to; without removed ones, and without the referrers API's fallback tags."""
        path = self._path(repository)
        names = [name for name in self._client.tags(path) if not _FALLBACK_TAG.fullmatch(name)]
        with ThreadPoolExecutor(PARALLEL, "tags") as pool:
            digests = pool.map(partial(self._client.digest, path), names)
            pairs = zip(names, digests, strict=True)
            found = {name: one for name, one in pairs if one is not None and one != digest_bytes(_nothing(name))}
        self._tagged[path] = frozenset(found.values())
        return found

    def has(self, repository: str, digest: str, lately: bool = False) -> bool:
        """Whether the manifest is there with all its blobs, of their sizes. `lately`: what a tag led to when tags
        were last asked for, and was seen whole within a day, is not looked at again; a registry removes no blob of
        an image that it still has."""
        path = self._path(repository)
        if not SHA256.fullmatch(digest):
            return False
        if self._state is None:
            return self._whole(path, digest)
        with Seen(self._state, self._client.host) as seen:
            if lately and digest in self._tagged.get(path, ()) and seen.today(path, digest):
                return True
            whole = self._whole(path, digest)
            if whole:
                seen.put(path, digest)
            return whole

    def _whole(self, path: str, digest: str) -> bool:
        try:
            blobs = blobs_of(parsed(self._client.manifest(path, digest)[0]))
        except NotFound:
            return False
        with ThreadPoolExecutor(PARALLEL, "has") as pool:
            sizes = pool.map(lambda blob: self._client.blob_size(path, blob.digest), blobs)
            return all(size == blob.size for size, blob in zip(sizes, blobs, strict=True))

    def read(self, repository: str, digest: str) -> Sequence[ImagePart]:
        """Fetch the image whole, and keep nothing of it."""
        path = self._path(repository)
        return list(
            read_parts(
                digest,
                lambda: self._client.manifest(path, check_digest(digest))[0],
                lambda blob: self._client.blob(path, blob),
            )
        )

    def where(self, repository: str) -> str:
        """As docker, podman and skopeo name it."""
        return f"{self._client.host}/{self._path(repository)}"

    def diagnose(self, repositories: Sequence[str]) -> Sequence[Check]:
        """Whether the registry answers, lets us in, and would take pushes; nothing is left there."""
        return diagnose(self._client, [self._path(one) for one in repositories])

    def attach(
        self,
        repository: str,
        subject: str,
        artifact_type: str,
        parts: Sequence[referrers.Part],
        annotations: Mapping[str, str] | None = None,
    ) -> str:
        """Ensure an artifact (a signature, an SBOM) that refers to the image `subject`; its manifest's digest.

        Raises NotFound if the image is not there.
        """
        path = self._path(repository)
        return referrers.attach(self._client, path, check_digest(subject), artifact_type, parts, annotations or {})

    def referrers(self, repository: str, subject: str, artifact_type: str = "") -> list[referrers.Referrer]:
        """What refers to the image, of one type or of any; none if nothing does."""
        return referrers.referrers(self._client, self._path(repository), check_digest(subject), artifact_type)

    def _path(self, repository: str) -> str:
        check_repository(repository)
        return check_repository(f"{self._prefix}/{repository}") if self._prefix else repository


def _nothing(tag: str) -> bytes:
    """What a removed tag points to until it is deleted: another artifact for each tag, so that each goes alone."""
    return referrers.artifact_manifest(REMOVED, [], {"edgetrain.tag": tag})


def from_settings(settings: Settings) -> OciRegistry:
    """The declared registry."""
    block = settings.block
    return OciRegistry(
        block["host"],
        plain_http=block.get("plainHttp", False),
        prefix=block.get("repositoryPrefix", ""),
        credential=_credential(settings),
        ca_bundle=block.get("caBundle", ""),
        outbound=settings.outbound,
        state=settings.state,
    )


def _credential(settings: Settings) -> Credential | None:
    block = settings.block.get("credential")
    if block is None:
        return None
    if block.get("workspace"):
        if settings.workspace_token is not None:
            return Credential(token=partial(settings.workspace_token, settings.block["host"]))
        raise Unavailable(
            f"registry {settings.name} asks for the workspace's sign-in, which this workspace does not give",
            reason="NoWorkspaceSignIn",
            fix="give credential.token, or credential.username and password",
        )

    def value(name: str) -> Callable[[], Secret] | None:
        return partial(settings.secret, block[name]["secret"]) if name in block else None

    return Credential(block.get("username", ""), value("password"), value("token"))
