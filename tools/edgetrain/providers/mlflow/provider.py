"""The workspace provider: runs and versions found again by tag, channels as aliases."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from edgetrain.core.digest import SHA256
from edgetrain.core.errors import Conflict, NotFound, Rejected
from edgetrain.core.ports import Check, Settings, TrackedEntry, TrackedRun, WorkspaceModel, WorkspaceVersion
from edgetrain.providers.diagnosis import rehearsed, tried
from edgetrain.providers.durable import disk, make_folder
from edgetrain.providers.mlflow.at_rest import Entry, held
from edgetrain.providers.mlflow.client import DATABASE, load, open_client
from edgetrain.providers.points import points

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

RUN_TAG = "edgetrain.run"
OUTCOME_TAG = "edgetrain.outcome"
COMPLETE_TAG = "edgetrain.complete"
VERSION_TAG = "edgetrain.version"
DIGEST_TAG = "edgetrain.digest"
DOCTOR_TAG = "edgetrain.doctor"

V = TypeVar("V", bound="ModelVersion | Entry")

_STATUS = {"candidate": "FINISHED", "not_better": "FINISHED", "cancelled": "KILLED"}
_SCHEMES = {"http", "https", "postgresql", "mysql", "mssql"}
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_LOCK_TIMEOUT = 60.0
# What MLflow takes in one batch.
_METRICS_PER_BATCH = 1000
_ENTRIES_PER_BATCH = 100


class MlflowWorkspace:
    """Runs and models in MLflow.

    `uri` is a server's address, with credentials or without; empty means a SQLite database in the folder
    `state`, which is made at first use. The lock that keeps processes of this machine from making the same
    thing twice lies in `state` too. Raises Rejected for an address that MLflow can't serve us by.
    """

    def __init__(self, *, uri: str, state: Path) -> None:
        self._uri = uri
        self._state = state.absolute()
        self._opening = threading.Lock()
        self._opened: MlflowClient | None = None
        parts = urlsplit(uri)
        self._secrets = tuple(
            secret for part in (parts.password, parts.username) if part for secret in (part, unquote(part))
        )
        if uri and (parts.scheme.partition("+")[0] not in _SCHEMES or not parts.hostname):
            raise Rejected(
                f"no workspace can be reached by an address of scheme {parts.scheme!r}",
                reason="InvalidUri",
                fix=f"use one of {', '.join(sorted(_SCHEMES))} with a host, or no uri for the embedded database",
            )

    def where(self) -> str:
        """The database file, or the server's address without credentials."""
        if not self._uri:
            return f"MLflow at {self._state / DATABASE}"
        parts = urlsplit(self._uri)
        return f"MLflow at {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def diagnose(self) -> Sequence[Check]:
        """Whether the folder of database and lock can be written, and MLflow answers and takes a note.

        The note is a tag of the newest experiment, always the same: a server tells only so that we may write.
        """
        return [
            tried("workspace-folder", "the site's state can be written", self._write_folder),
            tried("workspace", f"{self.where()} answers", self._ask),
            tried("workspace-write", "what is tracked can be written", self._note),
        ]

    def rehearse(self) -> Sequence[Check]:
        """Track, register and alias under a name of its own, and delete it again."""
        return rehearsed(self, self._undo)

    def _undo(self, name: str, run_id: str) -> None:
        with self._client() as client, self._lock():
            if run_id:
                client.delete_run(run_id)
            if self._registered(client, name) is not None:
                client.delete_registered_model(name)

    def _write_folder(self) -> None:
        with disk("writing the site's state"):
            make_folder(self._state)
            with TemporaryFile(dir=self._state) as file:
                file.write(b"doctor")

    def _ask(self) -> None:
        with self._client() as client:
            client.search_registered_models(max_results=1)

    def _note(self) -> None:
        with self._client() as client:
            for experiment in client.search_experiments(max_results=1):
                client.set_experiment_tag(experiment.experiment_id, DOCTOR_TAG, "seen")

    def observe(self, models: Sequence[str]) -> Mapping[str, WorkspaceModel]:
        """What MLflow holds of these models."""
        for model in models:
            _check_name("model", model)
        known = held(self._state / DATABASE, models) if not self._uri else None
        if known is not None:
            return {model: _workspace_model(found.aliases, found.versions) for model, found in known.items()}
        told = {}
        with self._client() as client:
            for model in models:
                aliases = self._registered(client, model)
                if aliases is not None:
                    told[model] = _workspace_model(aliases, list(self._every(client, model)))
        return told

    def track(self, run: TrackedRun) -> str:
        """Ensure the run with its whole history. A run once complete only takes a new outcome or new tags."""
        _check_name("run", run.id)
        status = _STATUS.get(run.outcome, "FAILED")
        tags = {**run.tags, RUN_TAG: run.id, OUTCOME_TAG: run.outcome}
        with self._client() as client:
            # Only finding or making the run must not happen twice at once: writing the same again is harmless.
            with self._lock():
                tracked = self._ensure_run(client, run)
            run_id: str = tracked.info.run_id
            complete = tracked.data.tags.get(COMPLETE_TAG) == "true"
            same = all(tracked.data.tags.get(name) == value for name, value in tags.items())
            if complete and same and tracked.info.status == status:
                return run_id
            if not complete:
                self._log(client, run, run_id, tracked.info.start_time)
            end = _milliseconds(run.ended) or tracked.info.end_time
            if tracked.info.status != status or not complete:
                client.set_terminated(run_id, status, end_time=end)
            self._tag(client, run_id, tags)
            client.set_tag(run_id, COMPLETE_TAG, "true")
        return run_id

    def tracked(self, run_id: str, metrics: Collection[str]) -> TrackedEntry | None:
        """The run by MLflow's id; a deleted one is not there."""
        from mlflow.exceptions import MlflowException

        with self._client() as client:
            try:
                found = client.get_run(run_id)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        if found.info.lifecycle_stage != "active":
            return None
        data = found.data
        shown = {name: value for name, value in data.metrics.items() if name in metrics}
        return TrackedEntry(shown, dict(data.params), _own_tags(data.tags))

    def register(self, model: str, version: int, run_id: str, digest: str, tags: Mapping[str, str]) -> str:
        """Ensure the version. Raises Conflict if it is registered with another digest."""
        _check_name("model", model)
        if not SHA256.fullmatch(digest):
            raise Rejected(
                f"not a digest: {digest[:80]!r}", reason="InvalidDigest", fix="give sha256:<64 hex digits>"
            )
        wanted = {**tags, VERSION_TAG: str(version), DIGEST_TAG: digest}
        with self._client() as client, self._lock():
            if self._registered(client, model) is None:
                client.create_registered_model(model)
            found = self._versions(client, model).get(version)
            if found is None:
                # Tags go with the creation, so that a version never stands there without them. The source only
                # names the artifact: the bytes stay in the site's store.
                made = client.create_model_version(
                    model,
                    f"edgetrain:/{digest.replace(':', '/')}",
                    run_id=run_id or None,
                    tags=wanted,
                    await_creation_for=0,
                )
                return str(made.version)
            if found.tags.get(DIGEST_TAG) != digest:
                raise Conflict(
                    f"model {model} version {version} is registered with another digest",
                    reason="DigestDiffers",
                    fix=f"look at version {found.version} of {model} in MLflow; a merged version never changes",
                )
            self._mark(client, model, found, wanted)
            return str(found.version)

    def mark(self, model: str, version: int, tags: Mapping[str, str]) -> None:
        """Ensure tags on a version. Raises NotFound."""
        with self._client() as client:
            self._mark(client, model, self._version(client, model, version), tags)

    def alias(self, model: str, channel: str, version: int | None) -> None:
        """Ensure the alias. Raises Rejected for names that MLflow keeps for itself, NotFound for the version."""
        if not _ALIAS.fullmatch(channel) or _RESERVED_ALIAS.fullmatch(channel):
            raise Rejected(
                f"MLflow takes no alias {channel[:80]!r}",
                reason="NameNotAllowed",
                fix="name the channel with letters, digits, '_' and '-', and neither 'latest' nor v1, v2, ...",
            )
        with self._client() as client, self._lock():
            if version is None:
                if channel in (self._registered(client, model) or {}):
                    client.delete_registered_model_alias(model, channel)
                return
            number = str(self._version(client, model, version).version)
            if str((self._registered(client, model) or {}).get(channel)) != number:
                client.set_registered_model_alias(model, channel, number)

    # --- MLflow ------------------------------------------------------------------------------------------

    @contextmanager
    def _client(self) -> Iterator[MlflowClient]:
        load()
        from edgetrain.providers.mlflow.errors import provider_errors

        with provider_errors(self._secrets):
            with self._opening:
                if self._opened is None:
                    with self._lock():
                        self._opened = open_client(self._uri, self._state)
            yield self._opened

    def _lock(self) -> FileLock:
        self._state.mkdir(parents=True, exist_ok=True)
        return FileLock(self._state / "mlflow.lock", timeout=_LOCK_TIMEOUT)

    def _ensure_run(self, client: MlflowClient, run: TrackedRun) -> Run:
        experiment = client.get_experiment_by_name(run.experiment)
        if experiment is None:
            location = None if self._uri else str(self._state / "mlflow-artifacts" / run.experiment)
            experiment_id = client.create_experiment(run.experiment, artifact_location=location)
        elif experiment.lifecycle_stage != "active":
            raise Conflict(
                f"experiment {run.experiment} was deleted in MLflow",
                reason="ExperimentDeleted",
                fix=f"restore it: mlflow experiments restore --experiment-id {experiment.experiment_id}",
            )
        else:
            experiment_id = experiment.experiment_id
        # The oldest, should two machines ever have made one each.
        found = client.search_runs(
            [experiment_id], f"tags.`{RUN_TAG}` = '{run.id}'", max_results=1, order_by=["attributes.start_time ASC"]
        )
        if found:
            return found[0]
        return client.create_run(
            experiment_id,
            start_time=_milliseconds(run.started),
            tags={RUN_TAG: run.id},
            run_name=run.id,
        )

    def _log(self, client: MlflowClient, run: TrackedRun, run_id: str, timestamp: int) -> None:
        """Write parameters and metrics; again is harmless, for a point equal in all its parts counts once."""
        from mlflow.entities import Metric, Param

        params = [Param(name, value) for name, value in sorted(run.parameters.items())]
        for start in range(0, len(params), _ENTRIES_PER_BATCH):
            client.log_batch(run_id, params=params[start : start + _ENTRIES_PER_BATCH])
        metrics = [Metric(point.name, point.value, timestamp, point.step) for point in points(run)]
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])

    def _tag(self, client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entries = [RunTag(name, value) for name, value in sorted(tags.items())]
        for start in range(0, len(entries), _ENTRIES_PER_BATCH):
            client.log_batch(run_id, tags=entries[start : start + _ENTRIES_PER_BATCH])

    def _registered(self, client: MlflowClient, model: str) -> Mapping[str, str] | None:
        """The model's aliases, or None if there is no such model."""
        from mlflow.exceptions import MlflowException

        _check_name("model", model)
        try:
            aliases: Mapping[str, str] = client.get_registered_model(model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return aliases

    def _versions(self, client: MlflowClient, model: str) -> dict[int, ModelVersion]:
        """The versions that carry our tag."""
        return _ours(self._every(client, model))

    def _every(self, client: MlflowClient, model: str) -> Iterator[ModelVersion]:
        token = None
        while True:
            page = client.search_model_versions(f"name = '{model}'", max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _version(self, client: MlflowClient, model: str, version: int) -> ModelVersion:
        _check_name("model", model)
        found = self._versions(client, model).get(version)
        if found is None:
            raise NotFound(
                f"model {model} version {version} is not registered in MLflow",
                reason="VersionNotRegistered",
                fix="apply again: registering it is part of the plan",
            )
        return found

    def _mark(self, client: MlflowClient, model: str, found: ModelVersion, tags: Mapping[str, str]) -> None:
        for name, value in sorted(tags.items()):
            if found.tags.get(name) != value:
                client.set_model_version_tag(model, str(found.version), name, value)


def _workspace_model(aliases: Mapping[str, str], every: Sequence[V]) -> WorkspaceModel:
    versions = _ours(every)
    ours = {str(version.version): number for number, version in versions.items()}
    return WorkspaceModel(
        versions={
            number: WorkspaceVersion(str(version.version), _own_tags(version.tags))
            for number, version in versions.items()
        },
        channels={alias: ours.get(str(number), -1) for alias, number in sorted(aliases.items())},
        foreign=tuple(str(v.version) for v in every if str(v.version) not in ours),
    )


def _ours(versions: Iterable[V]) -> dict[int, V]:
    """Those that carry our tag, by our number; the first made, should there be two."""
    ours: dict[int, V] = {}
    for version in versions:
        number = version.tags.get(VERSION_TAG, "")
        if re.fullmatch(r"[1-9]\d{0,8}", number):
            known = ours.get(int(number))
            if known is None or int(version.version) < int(known.version):
                ours[int(number)] = version
    return ours


def _own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(tags.items()) if not name.startswith("mlflow.")}


def _milliseconds(time: str | None) -> int | None:
    """RFC 3339 to what MLflow counts in."""
    if time is None:
        return None
    parsed = datetime.fromisoformat(time)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return int(parsed.timestamp() * 1000)


def _check_name(what: str, name: str) -> None:
    # Names go into MLflow's filter language, between quotes.
    if not _SAFE_NAME.fullmatch(name):
        raise Rejected(
            f"MLflow takes no {what} named {name[:80]!r}",
            reason="NameNotAllowed",
            fix="use letters, digits, '.', '_' and '-'",
        )


def from_settings(settings: Settings) -> MlflowWorkspace:
    """The declared server, or the embedded file at the site's state."""
    return MlflowWorkspace(uri=settings.block.get("uri", ""), state=settings.state)
