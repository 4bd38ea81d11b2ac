"""An image from a base, a scoring layer and a model layer, without a daemon and the same to the byte."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgetrain.core.digest import SHA256, canonical, digest_bytes
from edgetrain.core.errors import Rejected
from edgetrain.core.ports import BaseImage, Image, Layer
from edgetrain.core.problem import shown
from edgetrain.image.layer import LayerFile, tar_layer

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
PORT = 8080
USER = "65532:65532"
_OCI = "org.opencontainers.image."
_LABEL = re.compile(r"[a-z0-9]+([._-][A-Za-z0-9]+)*")
# What of a base's settings still holds under another entry point; not its command, volumes or health check.
_KEPT = ("Env", "StopSignal", "WorkingDir")


@dataclass(frozen=True)
class About:
    """What an image tells of itself in `org.opencontainers.image.*` and in `labels` (`edgetrain.*`).

    `created` is RFC 3339 with an offset; it is also every file's time, so it comes from a commit, not from
    a clock. `revision` is a commit, `source` a URL. Empty texts are left out.
    """

    title: str
    version: str
    revision: str
    created: str
    source: str = ""
    description: str = ""
    vendor: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def scoring_files(model: str, version: int, facts: Mapping[str, Any]) -> list[LayerFile]:
    """The scoring server and the `/app/metadata.json` that it serves at `/metadata`.

    `facts` are plain JSON values beside `model` and `version`: identity, run record, signature, labels.
    Raises ValueError if they have no RFC 8785 form.
    """
    program = Path(__file__).with_name("score.py").read_bytes()
    metadata = canonical({**facts, "model": model, "version": version}) + b"\n"
    return [LayerFile.of_bytes("app/metadata.json", metadata), LayerFile.of_bytes("app/score.py", program)]


def assemble(
    *,
    about: About,
    scoring: Sequence[LayerFile],
    model: Sequence[LayerFile],
    base: BaseImage | None = None,
    base_name: str = "",
) -> Image:
    """The image of these files on `base`: the same arguments give the same bytes.

    The scoring server is the entry point where there is a base, whose Python it uses; without a base the
    image only carries the files. `base_name` is the base's repository. Every file is read once here, and
    once more whenever the layer is read. Raises Rejected for a base that is not for Linux or contradicts
    itself, an unsafe path, a bad time or a file not of its size.
    """
    created, mtime = _moment(about.created)
    ours = [tar_layer(scoring, mtime), tar_layer(model, mtime)]
    told = _told(about, created, base, base_name)
    try:
        config = canonical(_config(about, created, base, ours, told))
    except ValueError:
        raise _bad_base("holds what no JSON can tell") from None
    layers = [*(base.layers if base else ()), *ours]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": digest_bytes(config), "size": len(config)},
        "layers": [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in layers],
        "annotations": told,
    }
    return Image(manifest=canonical(manifest), config=config, layers=tuple(layers))


def _moment(text: str) -> tuple[str, int]:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset")
        moment = moment.astimezone(UTC)
        if moment.timestamp() < 0:
            raise ValueError("before 1970")
    except (ValueError, OverflowError):
        raise Rejected(
            f"not an RFC 3339 time: {shown(text)}", reason="BadTime", fix="give it like 2026-01-31T12:00:00Z"
        ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ"), int(moment.timestamp())


def _told(about: About, created: str, base: BaseImage | None, base_name: str) -> dict[str, str]:
    told = {
        "title": about.title,
        "version": about.version,
        "revision": about.revision,
        "created": created,
        "source": about.source,
        "description": about.description,
        "vendor": about.vendor,
        "base.digest": base.digest if base else "",
        "base.name": base_name if base else "",
    }
    return {_OCI + name: text for name, text in told.items() if text}


def _config(
    about: About, created: str, base: BaseImage | None, ours: Sequence[Layer], told: Mapping[str, str]
) -> dict[str, Any]:
    for name in about.labels:
        if not _LABEL.fullmatch(name) or name.startswith(_OCI):
            raise Rejected(f"not a label: {shown(name)}", reason="BadLabel", fix="name it like edgetrain.model")
    settings: dict[str, Any] = {"User": USER, "Labels": {**about.labels, **told}}
    history = [
        {"created": created, "created_by": "edgetrain: scoring server"},
        {"created": created, "created_by": "edgetrain: model"},
    ]
    platform: dict[str, Any] = {"os": "linux", "architecture": "amd64"}
    diff_ids = [layer.diff_id for layer in ours]
    if base is not None:
        kept = _checked(base)
        labels = {k: v for k, v in (kept.get("Labels") or {}).items() if not k.startswith(_OCI)}
        settings = {name: kept[name] for name in _KEPT if kept.get(name)} | settings
        settings["Labels"] = labels | settings["Labels"]
        settings["Entrypoint"] = ["python3", "/app/score.py"]
        settings["ExposedPorts"] = {f"{PORT}/tcp": {}}
        history = _history(base) + history
        platform = {key: base.config[key] for key in ("os", "architecture", "variant") if base.config.get(key)}
        diff_ids = [layer.diff_id for layer in base.layers] + diff_ids
    return {
        "created": created,
        **platform,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    }


def _checked(base: BaseImage) -> Mapping[str, Any]:
    """The base's settings. Raises Rejected if the base can't carry us."""
    settings = base.config.get("config") or {}
    rootfs = base.config.get("rootfs")
    if base.config.get("os") != "linux" or not isinstance(base.config.get("architecture"), str):
        raise _bad_base("is not for Linux")
    if (
        not isinstance(settings, Mapping)
        or not isinstance(settings.get("Labels") or {}, Mapping)
        or not isinstance(rootfs, Mapping)
        or rootfs.get("diff_ids") != [layer.diff_id for layer in base.layers]
        or not all(SHA256.fullmatch(layer.diff_id) for layer in base.layers)
    ):
        raise _bad_base("does not fit its layers")
    return settings


def _bad_base(why: str) -> Rejected:
    return Rejected(f"the base image's config {why}", reason="BadBase", fix="choose another base image")


def _history(base: BaseImage) -> list[Any]:
    """The base's history; where it does not tell one entry per layer, one that does."""
    found = base.config.get("history")
    if isinstance(found, list) and all(isinstance(entry, Mapping) for entry in found):
        filled = sum(not entry.get("empty_layer") for entry in found)
        if filled == len(base.layers):
            return found
    return [{"created_by": "base image"} for _ in base.layers]
