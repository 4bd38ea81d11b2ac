"""What refers to an image, signatures and SBOMs: attached with `subject`, listed by the API or its fallback tag.

Source: OCI distribution specification 1.1, "Pushing manifests with subject" and "Listing referrers".
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from edgetrain.core.digest import canonical, digest_bytes
from edgetrain.core.errors import Conflict, NotFound
from edgetrain.providers.image_spec import INDEX_TYPE, JSON_SIZE, MANIFEST_TYPE, Descriptor, broken, parsed
from edgetrain.providers.oci import auth
from edgetrain.providers.oci.client import Client
from edgetrain.providers.oci.transport import discard, read, refusal
from edgetrain.providers.oci.upload import ensure_blob

EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
ROUNDS = 5


@dataclass(frozen=True)
class Part:
    """A blob of an artifact: its media type, its bytes, and what is told of it."""

    media_type: str
    data: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        """As the manifest names it."""
        return Descriptor(self.media_type, digest_bytes(self.data), len(self.data))


@dataclass(frozen=True)
class Referrer:
    """An artifact that refers to an image."""

    manifest: Descriptor
    artifact_type: str
    annotations: Mapping[str, str]

    @property
    def json(self) -> dict[str, Any]:
        """As it stands in an index of referrers."""
        told = {"annotations": dict(self.annotations)} if self.annotations else {}
        return {**self.manifest.json, "artifactType": self.artifact_type, **told}


def artifact_manifest(
    artifact_type: str,
    parts: Sequence[Part],
    annotations: Mapping[str, str],
    subject: Descriptor | None = None,
) -> bytes:
    """The manifest of an artifact: the same arguments give the same bytes."""
    blobs = parts or [Part(EMPTY_TYPE, EMPTY)]
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": {"mediaType": EMPTY_TYPE, "digest": digest_bytes(EMPTY), "size": len(EMPTY)},
        "layers": [
            {**one.descriptor.json, **({"annotations": dict(one.annotations)} if one.annotations else {})}
            for one in blobs
        ],
    }
    if subject is not None:
        manifest["subject"] = subject.json
    if annotations:
        manifest["annotations"] = dict(annotations)
    return canonical(manifest)


def push_artifact(
    client: Client, repository: str, manifest: bytes, parts: Sequence[Part], reference: str = ""
) -> bool:
    """Ensure an artifact under its digest, or the tag `reference`; whether the registry lists it as a referrer."""
    for data in {EMPTY, *(one.data for one in parts)}:
        blob = Descriptor(EMPTY_TYPE, digest_bytes(data), len(data))
        ensure_blob(client, repository, blob, partial(io.BytesIO, data), threading.Event())
    headers = client.put_manifest(repository, reference or digest_bytes(manifest), manifest, MANIFEST_TYPE)
    return bool(headers.get("oci-subject"))


def attach(
    client: Client,
    repository: str,
    subject: str,
    artifact_type: str,
    parts: Sequence[Part],
    annotations: Mapping[str, str],
) -> str:
    """Ensure that the artifact refers to the image `subject`; its manifest's digest.

    Raises NotFound if the image is not there; Conflict if others change the fallback tag all the time.
    """
    data, media_type = client.manifest(repository, subject)
    manifest = artifact_manifest(artifact_type, parts, annotations, Descriptor(media_type, subject, len(data)))
    mine = Referrer(
        Descriptor(MANIFEST_TYPE, digest_bytes(manifest), len(manifest)), artifact_type, dict(annotations)
    )
    if mine in referrers(client, repository, subject):
        return mine.manifest.digest
    if not push_artifact(client, repository, manifest, parts):
        _into_fallback(client, repository, subject, mine)
    return mine.manifest.digest


def fallback_tag(digest: str) -> str:
    """The tag that lists an image's referrers where the registry has no API for them."""
    return digest.replace(":", "-", 1)


def referrers(client: Client, repository: str, subject: str, artifact_type: str = "") -> list[Referrer]:
    """What refers to the image, of one type or of any."""
    path = f"/v2/{repository}/referrers/{subject}"
    scopes = frozenset({auth.pull(repository)})
    what = f"list what refers to an image of {repository}"

    def attempt() -> bytes | None:
        answer = client.once("GET", path, scopes, headers={"Accept": INDEX_TYPE}, follow=True)
        if answer.status == 200:
            return read(answer, JSON_SIZE)
        if answer.status in {400, 404, 405}:  # Registries without the API answer so.
            discard(answer)
            return None
        raise refusal(answer, client.host, what)

    data = client.retrying()(attempt)
    found = _entries(data) if data is not None else _fallback(client, repository, subject)
    return [one for one in found if artifact_type in ("", one.artifact_type)]


def _fallback(client: Client, repository: str, subject: str) -> list[Referrer]:
    try:
        return _entries(client.manifest(repository, fallback_tag(subject))[0])
    except NotFound:
        return []


def _into_fallback(client: Client, repository: str, subject: str, mine: Referrer) -> None:
    """Put it into the fallback tag's index, and look whether another writer's index came over it."""
    for _ in range(ROUNDS):
        found = _fallback(client, repository, subject)
        if any(one.manifest.digest == mine.manifest.digest for one in found):
            return
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": sorted((one.json for one in [*found, mine]), key=lambda entry: str(entry["digest"])),
        }
        client.put_manifest(repository, fallback_tag(subject), canonical(index), INDEX_TYPE)
    if not any(one.manifest.digest == mine.manifest.digest for one in _fallback(client, repository, subject)):
        raise Conflict(
            f"others change what refers to an image of {client.host}/{repository} at the same time",
            reason="ReferrersContended",
            fix="apply again",
        )


def _entries(data: bytes) -> list[Referrer]:
    entries = parsed(data).get("manifests")
    if not isinstance(entries, list):
        raise broken("an index of referrers has no list of manifests")
    found = []
    for entry in entries:
        manifest = Descriptor.parse(entry)
        told, kind = entry.get("annotations") or {}, entry.get("artifactType", "")
        if not isinstance(told, dict) or not isinstance(kind, str):
            raise broken("an index of referrers is not as specified")
        found.append(Referrer(manifest, kind, told))
    return found
