"""Workspace `azureml`: runs and models in an Azure Machine Learning workspace.

Our version number, Azure ML's own and the record are three things. The record in git is the truth; our number
stands in the property `edgetrain.version`, which never changes, and is what versions are found by; Azure ML's
number is whatever the service gave, and is only told.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Mapping, Sequence

from edgetrain.core.digest import SHA256
from edgetrain.core.errors import NotFound, Rejected, Transient
from edgetrain.core.ports import (
    Check,
    CheckStatus,
    Settings,
    TrackedEntry,
    TrackedRun,
    WorkspaceModel,
    WorkspaceVersion,
)
from edgetrain.providers.azureml.environment import ensure, for_rehearsal
from edgetrain.providers.azureml.models import (
    CHANNEL_KEY,
    DIGEST_KEY,
    VERSION_KEY,
    Models,
    Origin,
    Registered,
    check_channel,
    duplicate,
    unreadable,
)
from edgetrain.providers.azureml.rules import LONGEST_VALUE, check_entries, check_name
from edgetrain.providers.azureml.session import WORKSPACE_VERSION, Session, shared
from edgetrain.providers.azureml.tracking import Runs
from edgetrain.providers.diagnosis import REHEARSAL, rehearsed, tried

_PORTALS = {
    "AzureCloud": "https://ml.azure.com",
    "AzureUSGovernment": "https://ml.azure.us",
    "AzureChinaCloud": "https://studio.ml.azure.cn",
}
# Prose of manifests that may be longer than a tag.
_PROSE = frozenset({"edgetrain.withdrawn"})
_ATTEMPTS = 3


class AzuremlWorkspace:
    """Runs and models of one Azure ML workspace. Many threads may use it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._runs = Runs(session)
        self._models = Models(session)
        # Between threads; between runners, whoever made the lower number wins (see `register`).
        self._lock = threading.RLock()

    def where(self) -> str:
        """Name and resource group, with a link to the portal where the cloud has one that is known."""
        session = self._session
        portal = _PORTALS.get(str(session.settings.block.get("cloud", "AzureCloud")))
        link = f": {portal}/?wsid={session.scope}" if portal else ""
        return f"Azure ML workspace {session.name} in {session.group}{link}"

    def diagnose(self) -> Sequence[Check]:
        """Sign-in, the workspace, the right to write (asked by removing a model that never was), its registry."""
        return [
            tried("workspace-sign-in", "the site may sign in to the workspace's cloud", self._open),
            tried("workspace", f"{self.where()} answers", self._ask),
            tried("workspace-write", "what is tracked can be written", self._remove_nothing),
            self._registry(),
        ]

    def rehearse(self) -> Sequence[Check]:
        """Register an environment; track, register and alias under a name of its own, then remove the model and
        archive the experiment."""
        what = "an environment can be registered"
        known = tried("live-environment", what, lambda: ensure(self._session, for_rehearsal()))
        return [known, *rehearsed(self, self._undo)]

    def _undo(self, name: str, run_id: str) -> None:
        for version in self._models.of(name):
            self._models.delete(name, version.number)
        if run_id and name == REHEARSAL:
            self._runs.archive(name)

    def _open(self) -> None:
        self._session.workspace  # noqa: B018 - opening it is the point

    def _ask(self) -> None:
        self._session.get("models", f"/modelmanagement/v1.0{self._session.scope}/models", {"count": "1"})

    def _remove_nothing(self) -> None:
        self._models.delete(f"edgetrain-doctor-{uuid.uuid4().hex}", 1)

    def _registry(self) -> Check:
        found: list[str] = []

        def ask() -> None:
            document = self._session.get("arm", self._session.scope, {"api-version": WORKSPACE_VERSION})
            properties = document.get("properties") if isinstance(document, dict) else None
            if not isinstance(properties, dict):
                raise unreadable("the workspace")
            found.append(str(properties.get("containerRegistry") or ""))

        check = tried("workspace-registry", "the workspace has a container registry", ask)
        if check.status is CheckStatus.PASS and not found[0]:
            return Check(
                "workspace-registry",
                CheckStatus.WARN,
                "the workspace has no container registry yet",
                "RegistryMissing",
                "it gets one with its first image; or attach one: az ml workspace update --container-registry",
            )
        return check

    def observe(self, models: Sequence[str]) -> Mapping[str, WorkspaceModel]:
        """What the workspace holds of these models, by one list of all of them."""
        wanted = set(models)
        held: dict[str, list[Registered]] = {}
        if wanted:
            for version in self._models.every():
                if version.name in wanted:
                    held.setdefault(version.name, []).append(version)
        return {name: _observed(versions) for name, versions in sorted(held.items())}

    def track(self, run: TrackedRun) -> str:
        """Ensure the run's record; the record of a run that Azure ML made itself only gets our tags."""
        return self._runs.track(run)

    def tracked(self, run_id: str, metrics: Collection[str]) -> TrackedEntry | None:
        """The run's record; None if the workspace has none of this id."""
        return self._runs.tracked(run_id, metrics)

    def register(self, model: str, version: int, run_id: str, digest: str, tags: Mapping[str, str]) -> str:
        """Ensure the version. Raises Conflict if it is registered with another digest.

        Two runners may both find nothing and both register: who has the lower number of Azure ML's keeps it, the
        other removes what it made. If that one is killed before it does, the higher number is ignored for good.
        """
        check_name("model", model)
        if not SHA256.fullmatch(digest):
            raise Rejected(
                f"not a digest: {digest[:80]!r}", reason="InvalidDigest", fix="give sha256:<64 hex digits>"
            )
        wanted = {**tags, VERSION_KEY: str(version), DIGEST_KEY: digest}
        check_entries("tags", wanted)
        with self._lock:
            found = self._models.find(model, version)
            if found is None:
                found = self._create(model, version, self._runs.origin(run_id), wanted)
            if found.digest != digest:
                raise duplicate(found)
            return str(self._models.retag(model, found.number, wanted).number)

    def _create(self, model: str, version: int, origin: Origin, wanted: Mapping[str, str]) -> Registered:
        for attempt in range(_ATTEMPTS):
            try:
                made = self._models.create(model, origin, wanted, wanted)
                break
            except Transient:
                # It may be there all the same; if it is not, the service answers again.
                found = self._models.find(model, version)
                if found is not None:
                    return found
                if attempt + 1 == _ATTEMPTS:
                    raise
        first = self._models.find(model, version) or made
        if first.number != made.number:
            self._models.delete(model, made.number)
        return first

    def mark(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Ensure tags on a version. Raises NotFound."""
        shortened = {
            key: f"{value[: LONGEST_VALUE - 1]}…" if key in _PROSE and len(value) > LONGEST_VALUE else value
            for key, value in tags.items()
        }
        check_entries("tags", shortened)
        with self._lock:
            self._models.retag(model, self._version(model, version).number, shortened)

    def alias(self, model: str, channel: str, version: int | None) -> None:
        """Ensure that the channel's tag is on this version alone.

        It is put on the new one before it is taken from the old: whoever asks by the tag always finds one. A
        channel that is on two is observed as one that is not ours, and so moved again.
        """
        check_channel(channel)
        key = f"{CHANNEL_KEY}{channel}"
        with self._lock:
            target = None if version is None else self._version(model, version).number
            if target is not None:
                self._models.retag(model, target, {key: "true"})
            for other in self._models.of(model):
                if other.number != target and key in other.tags:
                    self._models.retag(model, other.number, {key: None})

    def _version(self, model: str, version: int) -> Registered:
        found = self._models.find(model, version)
        if found is None:
            raise NotFound(
                f"model {model} version {version} is not registered in Azure ML",
                reason="VersionNotRegistered",
                fix="apply again: registering it is part of the plan",
            )
        return found


def _observed(versions: Sequence[Registered]) -> WorkspaceModel:
    ours: dict[int, Registered] = {}
    for version in sorted(versions, key=lambda one: one.number):
        if version.ours is not None:
            ours.setdefault(version.ours, version)
    channels: dict[str, int] = {}
    for version in versions:
        kept = version.ours is not None and ours[version.ours].number == version.number
        for channel in version.channels:
            channels[channel] = version.ours if kept and channel not in channels and version.ours else -1
    return WorkspaceModel(
        versions={
            number: WorkspaceVersion(
                str(version.number),
                {key: value for key, value in sorted(version.tags.items()) if not key.startswith(CHANNEL_KEY)},
                version.properties,
            )
            for number, version in sorted(ours.items())
        },
        channels=dict(sorted(channels.items())),
        foreign=tuple(str(one.number) for one in sorted(versions, key=lambda one: one.number) if one.ours is None),
    )


def from_settings(settings: Settings) -> AzuremlWorkspace:
    """The declared workspace; it is opened when it is first used."""
    return AzuremlWorkspace(shared(settings))
