"""A workspace in memory: the smallest provider that keeps the port's contract."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from edgetrain.core.errors import Conflict, NotFound, Rejected
from edgetrain.core.ports import Check, CheckStatus, TrackedEntry, TrackedRun, WorkspaceModel, WorkspaceVersion
from edgetrain.providers.diagnosis import rehearsed

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass
class _Model:
    versions: dict[int, WorkspaceVersion] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)


class MemoryWorkspace:
    """Holds runs by id and models by name; numbers its versions from 101 on, so that none equals ours.

    `foreign` are versions that somebody else registered of every model.
    """

    def __init__(self) -> None:
        self.runs: dict[str, TrackedRun] = {}
        self._models: dict[str, _Model] = {}
        self.foreign: list[str] = []

    def diagnose(self) -> Sequence[Check]:
        return [Check("workspace", CheckStatus.PASS, "it answers")]

    def rehearse(self) -> Sequence[Check]:
        return rehearsed(self, self._undo)

    def _undo(self, name: str, run_id: str) -> None:
        self.runs.pop(run_id.removeprefix("memory-"), None)
        self._models.pop(name, None)

    def observe(self, models: Sequence[str]) -> Mapping[str, WorkspaceModel]:
        return {
            name: WorkspaceModel(
                dict(self._models[name].versions), dict(self._models[name].channels), tuple(self.foreign)
            )
            for name in models
            if name in self._models
        }

    def track(self, run: TrackedRun) -> str:
        self.runs[_checked(run.id)] = run
        return f"memory-{run.id}"

    def tracked(self, run_id: str, metrics: Collection[str]) -> TrackedEntry | None:
        run = self.runs.get(run_id.removeprefix("memory-"))
        if run is None:
            return None
        tags = {**run.tags, "edgetrain.run": run.id, "edgetrain.outcome": run.outcome}
        return TrackedEntry({k: v for k, v in run.metrics.items() if k in metrics}, run.parameters, tags)

    def register(self, model: str, version: int, run_id: str, digest: str, tags: Mapping[str, str]) -> str:
        held = self._models.setdefault(_checked(model), _Model())
        found = held.versions.get(version)
        if found is not None and found.tags["edgetrain.digest"] != digest:
            raise Conflict(f"{model} {version} has another digest", reason="DigestDiffers")
        number = found.number if found else str(101 + len(held.versions))
        wanted = {**tags, "edgetrain.version": str(version), "edgetrain.digest": digest}
        held.versions[version] = WorkspaceVersion(number, {**(found.tags if found else {}), **wanted})
        return number

    def mark(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        found = self._version(model, version)
        self._models[model].versions[version] = WorkspaceVersion(found.number, {**found.tags, **tags})

    def alias(self, model: str, channel: str, version: int | None) -> None:
        if version is not None:
            self._version(model, version)
            self._models[model].channels[channel] = version
        elif model in self._models:
            self._models[model].channels.pop(channel, None)

    def where(self) -> str:
        return "memory"

    def _version(self, model: str, version: int) -> WorkspaceVersion:
        found = self._models.get(model, _Model()).versions.get(version)
        if found is None:
            raise NotFound(f"{model} {version} is not registered")
        return found


def _checked(name: str) -> str:
    if not _SAFE_NAME.fullmatch(name):
        raise Rejected(f"not a safe name: {name!r}")
    return name
