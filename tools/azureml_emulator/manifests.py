"""What the registry's own API says of repositories, tags and manifests beyond the distribution's."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from azureml_emulator import upstream
from azureml_emulator.message import Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

KIND = "manifest"
TAG = "image tag"
_PUT = re.compile(rf"/v2/({upstream.NAME})/manifests/({upstream.REFERENCE})")
_CHANGEABLE = {"deleteEnabled": True, "writeEnabled": True, "readEnabled": True, "listEnabled": True}
PAGE = 100


def pushed(emulator: Emulator, path: str, headers: dict[str, str]) -> None:
    """Remember when a manifest, and its tag, were pushed: the distribution doesn't."""
    match = _PUT.fullmatch(path)
    digest = headers.get("docker-content-digest", "")
    if match is None or not digest:
        return
    with emulator.store.transaction():
        _times(emulator, KIND, f"{match[1]}@{digest}")
        if ":" not in match[2]:
            _times(emulator, TAG, f"{match[1]}:{match[2]}", digest)


def _times(emulator: Emulator, kind: str, key: str, digest: str = "") -> dict[str, str]:
    """When it was first seen, and when it last changed."""
    with emulator.store.transaction():
        held: dict[str, str] = emulator.store.get(kind, key) or {}
        if not held or held.get("digest", "") != digest:
            now = emulator.time()
            held = {"createdTime": held.get("createdTime", now), "lastUpdateTime": now, "digest": digest}
            emulator.store.put(kind, key, held)
    return {name: held[name] for name in ("createdTime", "lastUpdateTime")}


def repositories(emulator: Emulator) -> list[str]:
    """The names of all repositories, sorted."""
    found: list[str] = []
    while True:
        last = f"&last={quote(found[-1], safe='')}" if found else ""
        said = upstream.asked(emulator, f"/v2/_catalog?n={PAGE}{last}") or {}
        more = [name for name in said.get("repositories") or [] if not found or name > found[-1]]
        if not more:
            return found
        found += more


def tag_names(emulator: Emulator, repository: str) -> list[str]:
    """All tags, sorted. Raises Refused (404) for a repository that is not there."""
    found = upstream.asked(emulator, f"/v2/{repository}/tags/list")
    if found is None:
        raise Refused(404, "NAME_UNKNOWN", f"repository {repository} is not found")
    return sorted(found.get("tags") or [])


def tag(emulator: Emulator, repository: str, name: str) -> dict[str, Any]:
    """The attributes of a tag. Raises Refused (404)."""
    status, headers, _ = upstream.ask(emulator, "HEAD", f"/v2/{repository}/manifests/{name}")
    if status != 200:
        raise Refused(404, "TAG_UNKNOWN", "the specified tag does not exist")
    digest = headers["docker-content-digest"]
    times = _times(emulator, TAG, f"{repository}:{name}", digest)
    return {"name": name, "digest": digest, **times, "signed": False, "changeableAttributes": _CHANGEABLE}


def tags(emulator: Emulator, repository: str) -> list[dict[str, Any]]:
    """The attributes of all tags."""
    return [tag(emulator, repository, name) for name in tag_names(emulator, repository)]


def manifest(emulator: Emulator, repository: str, digest: str, of_tags: list[dict[str, Any]]) -> dict[str, Any]:
    """The attributes of a manifest; `of_tags` are the repository's tags. Raises Refused (404)."""
    status, headers, body = upstream.ask(emulator, "GET", f"/v2/{repository}/manifests/{digest}")
    if status != 200:
        raise Refused(404, "MANIFEST_UNKNOWN", "the specified manifest does not exist")
    said = json.loads(body)
    config = said.get("config") or {}
    platform: dict[str, Any] = {}
    if config.get("mediaType", "").endswith(("image.config.v1+json", "container.image.v1+json")):
        platform = upstream.asked(emulator, f"/v2/{repository}/blobs/{config['digest']}") or {}
    found = {
        "digest": digest,
        "imageSize": sum(int(part.get("size", 0)) for part in (config, *said.get("layers", []))),
        **_times(emulator, KIND, f"{repository}@{digest}"),
        "architecture": platform.get("architecture"),
        "os": platform.get("os"),
        "mediaType": headers.get("content-type", ""),
        "tags": [item["name"] for item in of_tags if item["digest"] == digest],
        "changeableAttributes": _CHANGEABLE,
    }
    if config:
        found["configMediaType"] = config["mediaType"]
    if "manifests" in said:
        found["references"] = [
            {"digest": part["digest"], **_platform(part.get("platform") or {})} for part in said["manifests"]
        ]
    return found


def _platform(platform: dict[str, Any]) -> dict[str, Any]:
    return {key: platform[key] for key in ("architecture", "os") if platform.get(key)}


def digests(emulator: Emulator, repository: str, of_tags: list[dict[str, Any]]) -> list[str]:
    """All manifests: the tagged, and those that were pushed here and are still there."""
    known = {item["digest"] for item in of_tags}
    for key, _ in emulator.store.scan(KIND, f"{repository}@"):
        digest = key.partition("@")[2]
        if digest not in known and upstream.has(emulator, f"{repository}@{digest}"):
            known.add(digest)
    return sorted(known)


def repository(emulator: Emulator, name: str) -> dict[str, Any]:
    """The attributes of a repository. Raises Refused (404)."""
    of_tags = tags(emulator, name)
    if not of_tags and not digests(emulator, name, of_tags):
        raise Refused(404, "NAME_UNKNOWN", f"repository {name} is not found")
    held = [_times(emulator, KIND, f"{name}@{digest}") for digest in digests(emulator, name, of_tags)]
    return {
        "imageName": name,
        "createdTime": min(item["createdTime"] for item in held),
        "lastUpdateTime": max(item["lastUpdateTime"] for item in (*held, *of_tags)),
        "manifestCount": len(held),
        "tagCount": len(of_tags),
        "changeableAttributes": _CHANGEABLE,
    }
