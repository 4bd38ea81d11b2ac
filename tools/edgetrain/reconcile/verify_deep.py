"""Compares what records say with workspace, registries, artifact store and data, down to the last byte of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from edgetrain.core.errors import NotFound, ProviderError, Rejected
from edgetrain.core.kinds import ModelVersion
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.planner.releases import image_digest, moved_from, registration_digest, registration_tags
from edgetrain.core.ports import ARTIFACT_SPOILT, ArtifactStore, Check, CheckStatus, WorkspaceModel
from edgetrain.core.record import ReleaseRecord, RunRecord
from edgetrain.core.template import literal
from edgetrain.reconcile.data import measure_input
from edgetrain.reconcile.facts import tags_of
from edgetrain.reconcile.planning import open_site
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State
from edgetrain.reconcile.workers import Workers
from edgetrain.render.doctor import Part
from edgetrain.render.verify import UNREACHED
from edgetrain.render.words import plural

BLOCK = 2**20
# Files and the image are hashed side by side, one a processor.
READERS = min(8, os.cpu_count() or 1)
AGAIN = "edgetrain drift says more; edgetrain apply makes again what is gone, and mends the rest after a review"
ARTIFACT = "restore the artifact store from its backup, or train again: edgetrain retry RUN --reason ..."
ENTRY = "ask who may write in the workspace; the record in git is the truth"


def deep_parts(
    state: State, versions: Sequence[ModelVersion], others: Sequence[RunRecord], asked: str | None
) -> Iterator[Part]:
    """A part a version, and one of the other runs. Raises UsageError for an unclear site; what a
    provider does not answer is told in its place."""
    site = open_site(state, asked)
    with Workers(max_workers=READERS, thread_name_prefix="read") as pool:
        look = _Look(state, site, pool)
        for version in versions:
            yield Part("outside", version.id, tuple(look.version(version)))
        if others:
            yield Part("outside", "runs", tuple(look.others(others)))


def _seen(name: str, what: str, wanted: object, actual: object, fix: str = AGAIN) -> Check:
    if wanted == actual:
        return Check(name, CheckStatus.PASS, what)
    said = f"it does not hold that {what}: it is {actual if actual is not None else 'absent'}, recorded is {wanted}"
    return Check(name, CheckStatus.FAIL, said, "Mismatch", fix)


def _asked(what: str, checks: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The checks; where the provider does not answer, that it could not be asked."""
    try:
        yield from checks()
    except ProviderError as error:
        said = f"{what} could not be asked: {error.message}"
        yield Check(UNREACHED, CheckStatus.WARN, said, error.reason, error.fix or "verify again later")


class _Look:
    """One look at one site. `pool` reads what is large while the workspace is asked."""

    def __init__(self, state: State, site: Site, pool: Executor) -> None:
        self._state, self._site, self._pool = state, site, pool
        self._models: dict[str, WorkspaceModel | None] = {}
        self._stored: dict[str, Future[str | None]] = {}
        self._data: dict[tuple[str, str, str], str | ProviderError] = {}

    def version(self, version: ModelVersion) -> Iterator[Check]:
        """What the providers hold of a version."""
        run = self._state.recorded.run(version.record)
        here = run is None or run.data["target"]["site"] == self._site.name
        release = self._state.recorded.release(version.model, version.number)
        image: Future[list[Check]] | None = None
        if release is not None:
            seen = partial(self._image, version, release)
            image = self._pool.submit(lambda: list(_asked("the registry", seen)))
        for digest in _of_version(version) if here else ():
            self._reading(digest)
        if image is not None:
            yield from _asked("the workspace", lambda: self._registered(version))
            yield from image.result()
        if run is not None:
            yield from _asked("the workspace", lambda: self._tracked(run))
        if here:
            yield from _asked("the artifact store", lambda: self._artifacts(version))
            yield from self._inputs(version)
        elif run is not None:
            site = run.data["target"]["site"]
            what = f"its artifacts and data are at the site {site}, and {self._site.name} was asked"
            yield Check("artifact", CheckStatus.WARN, what, "OtherSite", f"on its runner: --deep --site {site}")

    def others(self, runs: Sequence[RunRecord]) -> Iterator[Check]:
        """The workspace entries and stored outputs of runs that became no version: told only where it is wrong."""
        checks: list[Check] = []
        gone = 0
        for run in runs:
            checks += _asked("the workspace", lambda run=run: self._tracked(run))  # type: ignore[misc]
            if checks and checks[-1].name == UNREACHED:
                break
        for run in runs if not checks or checks[-1].name != UNREACHED else ():
            if run.data["target"]["site"] == self._site.name:
                digests = _files(run)
                for digest in digests:
                    self._reading(digest)
                for digest in digests:
                    checks += _asked("the artifact store", lambda d=digest: self._kept(d))  # type: ignore[misc]
                    reading = self._reading(digest)
                    gone += reading.exception() is None and reading.result() is None
        bad = [check for check in checks if check.status is not CheckStatus.PASS]
        yield from bad
        if gone:
            what = f"{plural(gone, 'file')} of runs that became no version can't be read again: not stored any more"
            yield Check("artifact", CheckStatus.WARN, what, "ArtifactGone", "gc keeps what versions name")
        if runs and not bad:
            yield Check(
                "run-entries", CheckStatus.PASS, f"the entries of {plural(len(runs), 'more run')} are as recorded"
            )

    def _registered(self, version: ModelVersion) -> Iterator[Check]:
        recorded = self._state.recorded
        if moved_from(self._state.desired, recorded, version.model, version.number):
            what = "the repository moved to another workspace, and this is not registered there yet"
            yield Check("workspace", CheckStatus.WARN, what, "WorkspaceChanged", "edgetrain apply registers it")
            return
        if version.model not in self._models:
            self._models[version.model] = self._site.workspace.observe([version.model]).get(version.model)
        model = self._models[version.model]
        there = model.versions.get(version.number) if model else None
        last = recorded.registration(version.model, version.number)
        number = last.data.get("registered", {}).get("version") if last else None
        yield _seen("workspace", "it is registered there", True, there is not None)
        if there is None or model is None:
            return
        if number is not None and number != there.number:
            what = f"it is registered as {there.number}, recorded is {number}: it was deleted, and registered again"
            yield Check(
                "workspace-number", CheckStatus.WARN, what, "NumberDiffers", "the tags say which version it is"
            )
        image = image_digest(recorded.release(version.model, version.number))
        wanted = {**registration_tags(version, image), "edgetrain.digest": registration_digest(version)}
        for name, value in sorted(wanted.items()):
            yield _seen("workspace-tag", f"{name} is as recorded", value, there.tags.get(name))
            if name in there.fixed:
                what = f"{name} is as it was registered"
                yield _seen("workspace-property", what, value, there.fixed[name], ENTRY)
        for channel, at in sorted(recorded.channels(version.model).items()):
            if at == version.number:
                yield _seen("alias", f"the alias {channel} points to it", at, model.channels.get(channel))

    def _tracked(self, run: RunRecord) -> Iterator[Check]:
        """The run's entry: its final metrics, parameters and tags."""
        kept: Any = run.data.get("workspace") or {}
        number = kept.get("run")
        if not isinstance(number, str):
            return
        type_ = self._site.configuration.workspace["type"]
        if kept.get("type") != type_:
            what = (
                f"{run.run_id} was tracked in a workspace of type {kept.get('type')}, and the one of now is {type_}"
            )
            yield Check("run-entry", CheckStatus.WARN, what, "WorkspaceChanged", "look there by hand")
            return
        found = self._site.workspace.tracked(number, run.tracked)
        if found is None:
            what = (
                f"{run.run_id} is not in the workspace of now as {number}: it was deleted there, or is in another"
            )
            yield Check("run-entry", CheckStatus.WARN, what, "EntryGone", "the record in git has all of it")
            return
        for name, value in sorted(run.tracked.items()):
            what = f"the metric {name} of {run.run_id} is as recorded"
            yield _seen("run-metric", what, value, found.metrics.get(name), ENTRY)
        for name, value in sorted(run.data["parameters"].items()):
            if name in found.parameters:
                what = f"the parameter {name} of {run.run_id} is as recorded"
                yield _seen("run-parameter", what, literal(value), found.parameters[name], ENTRY)
        facts = {**run.data, "site": run.data["target"]["site"]}
        outcome = self._state.recorded.outcome(run).value
        # An entry may tell the outcome of then, or that by the gates of now.
        outcome = outcome if found.tags.get("edgetrain.outcome") == outcome else run.outcome.value
        wanted = {
            **(tags_of(facts) if "manifest" in facts else {}),
            "edgetrain.run": run.run_id,
            "edgetrain.outcome": outcome,
            "edgetrain.target": run.data["target"]["name"],
        }
        for name, value in sorted(wanted.items()):
            yield _seen("run-tag", f"{name} of {run.run_id} is as recorded", value, found.tags.get(name), ENTRY)

    def _image(self, version: ModelVersion, release: ReleaseRecord) -> Iterator[Check]:
        """Every byte of manifest, config and layers, and where the tags point."""
        recorded = self._state.recorded
        image = release.data["image"]
        registry = self._site.registry(image["registry"])
        for part in registry.read(image["repository"], image["digest"]):
            name = f"image-{part.name.split(' ')[0]}"
            what = f"the {part.name} of its image is in the registry, byte for byte"
            if part.fault:
                said = f"it does not hold that {what}: {part.fault}"
                fix = "delete the broken image there; edgetrain apply makes it again from the artifacts"
                yield Check(name, CheckStatus.FAIL, said, "Mismatch", fix)
            else:
                yield Check(name, CheckStatus.PASS, what)
        tags = registry.tags(image["repository"])
        channels = [name for name, n in recorded.channels(version.model).items() if n == version.number]
        for tag in (*image["tags"], *sorted(channels)):
            yield _seen("image-tag", f"the tag {tag} points to its image", image["digest"], tags.get(tag))

    def _artifacts(self, version: ModelVersion) -> Iterator[Check]:
        """Every stored file read again, for a size can stay as a byte changes."""
        for name, output in sorted(version.spec["artifacts"].items()):
            for entry in output["files"]:
                what = f"a file of output {name} is stored as recorded"
                yield _seen("artifact", what, entry["digest"], self._actual(entry["digest"]), ARTIFACT)

    def _kept(self, digest: str) -> Iterator[Check]:
        """A stored file that gc may have taken."""
        actual = self._actual(digest)
        if actual is not None:
            yield _seen("artifact", "an output of a run is stored as recorded", digest, actual, ARTIFACT)

    def _actual(self, digest: str) -> str | None:
        return self._reading(digest).result()

    def _reading(self, digest: str) -> Future[str | None]:
        """The digest of what is stored under this one, now or soon; None for nothing. Each is read once."""
        if digest not in self._stored:
            self._stored[digest] = self._pool.submit(lambda: _read(self._site.artifacts, digest))
        return self._stored[digest]

    def _inputs(self, version: ModelVersion) -> Iterator[Check]:
        """Whether the data is still there: that it is gone, or other by now, makes no record wrong."""
        for name, entry in sorted(version.spec["inputs"].items()):
            if "datastore" not in entry:
                continue
            seen = self._measured(version, name, entry)
            if seen == entry["digest"]:
                yield Check("data", CheckStatus.PASS, f"input {name} is at the site as it was trained on")
            elif isinstance(seen, str):
                what = f"input {name} is other data by now: what was trained on can't be read again at its place"
                yield Check("data", CheckStatus.WARN, what, "DataChanged", "a backup may have it, by its digest")
            elif isinstance(seen, NotFound):
                what = f"input {name} is not at the site any more: {seen.message}"
                yield Check("data", CheckStatus.WARN, what, "DataGone", "a backup may have it, by its digest")
            else:
                yield from _asked(f"the datastore of input {name}", lambda e=seen: _raise(e))  # type: ignore[misc]

    def _measured(self, version: ModelVersion, name: str, entry: dict[str, str]) -> str | ProviderError:
        key = (entry["datastore"], entry["path"], entry.get("type", "uri_folder"))
        if key not in self._data:
            store, path, type_ = key
            source = DataInput(name, type_, store, path, entry["digest"])
            target = self._state.desired.targets.get(str(version.spec["target"].get("name")))
            try:
                if store not in self._site.settings.datastores:
                    raise NotFound(
                        f"the site has no datastore {store} any more",
                        reason="DatastoreNotDeclared",
                        fix="declare it again in edgetrain.yaml",
                    )
                found, _ = measure_input(self._site, target, source)
                self._data[key] = found.digest
            except ProviderError as error:
                self._data[key] = error
        return self._data[key]


def _raise(error: ProviderError) -> Iterable[Check]:
    raise error


def _files(run: RunRecord) -> list[str]:
    return sorted({entry["digest"] for output in run.data["outputs"].values() for entry in output["files"]})


def _of_version(version: ModelVersion) -> Iterator[str]:
    return (entry["digest"] for output in version.spec["artifacts"].values() for entry in output["files"])


def _read(store: ArtifactStore, digest: str) -> str | None:
    if store.size(digest) is None:
        return None
    hasher = hashlib.sha256()
    try:
        with store.open(digest) as stream:
            while block := stream.read(BLOCK):
                hasher.update(block)
    except Rejected as error:
        if error.reason != ARTIFACT_SPOILT:
            raise
        return "of other bytes"
    return "sha256:" + hasher.hexdigest()
