"""Compares what records say with workspace, registries and artifact store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from edgetrain.core.kinds import ModelVersion
from edgetrain.core.planner.releases import image_digest, moved_from, registration_digest, registration_tags
from edgetrain.core.ports import ArtifactStore, Check, CheckStatus, WorkspaceModel
from edgetrain.core.record import ReleaseRecord
from edgetrain.reconcile.planning import open_site
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State
from edgetrain.render.doctor import Part

BLOCK = 2**20
AGAIN = "edgetrain drift says more; edgetrain apply makes again what is gone, and mends the rest after a review"


def deep_parts(state: State, versions: Sequence[ModelVersion], asked: str | None) -> Iterator[Part]:
    """A part a released version. Raises ProviderError if a provider can't be asked."""
    site = open_site(state, asked)
    released = [v for v in versions if state.recorded.release(v.model, v.number)]
    models = sorted({version.model for version in released})
    workspace = site.workspace.observe(models) if models else {}
    for version in released:
        checks = [
            *_registered(state, version, workspace.get(version.model)),
            *_image(state, version, site),
            *_artifacts(version, site.artifacts),
        ]
        yield Part("outside", version.id, tuple(checks))


def _seen(name: str, what: str, wanted: object, actual: object) -> Check:
    if wanted == actual:
        return Check(name, CheckStatus.PASS, what)
    said = f"it does not hold that {what}: it is {actual if actual is not None else 'absent'}, recorded is {wanted}"
    return Check(name, CheckStatus.FAIL, said, "Mismatch", AGAIN)


def _registered(state: State, version: ModelVersion, model: WorkspaceModel | None) -> Iterator[Check]:
    recorded = state.recorded
    if moved_from(state.desired, recorded, version.model, version.number):
        what = "the repository moved to another workspace, and this is not registered there yet"
        yield Check("workspace", CheckStatus.WARN, what, "WorkspaceChanged", "edgetrain apply registers it")
        return
    there = model.versions.get(version.number) if model else None
    last = recorded.registration(version.model, version.number)
    number = last.data.get("registered", {}).get("version") if last else None
    yield _seen("workspace", "it is registered there", True, there is not None)
    if there is None or model is None:
        return
    if number is not None and number != there.number:
        what = f"it is registered as {there.number}, recorded is {number}: it was deleted, and registered again"
        yield Check("workspace-number", CheckStatus.WARN, what, "NumberDiffers", "the tags say which version it is")
    image = image_digest(recorded.release(version.model, version.number))
    wanted = {**registration_tags(version, image), "edgetrain.digest": registration_digest(version)}
    for name, value in sorted(wanted.items()):
        yield _seen("workspace-tag", f"{name} is as recorded", value, there.tags.get(name))
    for channel, at in sorted(recorded.channels(version.model).items()):
        if at == version.number:
            yield _seen("alias", f"the alias {channel} points to it", at, model.channels.get(channel))


def _image(state: State, version: ModelVersion, site: Site) -> Iterator[Check]:
    release: ReleaseRecord | None = state.recorded.release(version.model, version.number)
    if release is None:
        return
    image = release.data["image"]
    registry = site.registry(image["registry"])
    there = registry.has(image["repository"], image["digest"])
    yield _seen("image", "its image is in the registry, whole", True, there)
    tags = registry.tags(image["repository"])
    channels = [name for name, n in state.recorded.channels(version.model).items() if n == version.number]
    for tag in (*image["tags"], *sorted(channels)):
        yield _seen("image-tag", f"the tag {tag} points to its image", image["digest"], tags.get(tag))


def _artifacts(version: ModelVersion, store: ArtifactStore) -> Iterator[Check]:
    """Every stored file read again, for a size can stay as a byte changes."""
    for name, output in sorted(version.spec["artifacts"].items()):
        for entry in output["files"]:
            digest = entry["digest"]
            size = store.size(digest)
            actual = None if size is None else _read(store, digest)
            yield _seen("artifact", f"a file of output {name} is stored as recorded", digest, actual)


def _read(store: ArtifactStore, digest: str) -> str:
    hasher = hashlib.sha256()
    with store.open(digest) as stream:
        while block := stream.read(BLOCK):
            hasher.update(block)
    return "sha256:" + hasher.hexdigest()
