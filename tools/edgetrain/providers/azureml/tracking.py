"""Run records in Azure ML of runs that the site made: found by id, written once and whole, mended if cut short."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from edgetrain.core.digest import canonical
from edgetrain.core.errors import NotFound, Rejected, Transient
from edgetrain.core.ports import MetricPoint, TrackedEntry, TrackedRun
from edgetrain.providers.azureml.models import Origin, unreadable
from edgetrain.providers.azureml.rules import (
    LONGEST_KEY,
    LONGEST_VALUE,
    METRICS_PER_BATCH,
    MOST_ENTRIES,
    check_entries,
    check_run,
)
from edgetrain.providers.points import points

if TYPE_CHECKING:
    from edgetrain.providers.azureml.session import Session

RUN_KEY = "edgetrain.run"
OUTCOME_KEY = "edgetrain.outcome"
COMPLETE_KEY = "edgetrain.complete"
PARAMETER_KEY = "edgetrain.parameter."
PARAMETERS_KEY = "edgetrain.parameters."
SUBMITTED = "azureml.scriptrun"
TERMINAL = frozenset({"Completed", "Failed", "Canceled"})
_EVENT = {"candidate": "Completed", "not_better": "Completed", "cancelled": "Canceled"}
_HISTORY = "history"
# Room that parameters leave for what else is told of a run.
_MOST_PARAMETERS = MOST_ENTRIES - 10
_MOST_PAGES = 1000
_ATTEMPTS = 3


class Runs:
    """The workspace's run records."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._base = f"/history/v1.0{session.scope}"
        self._metrics = f"/metric/v2.0{session.scope}/runs"

    def track(self, run: TrackedRun) -> str:
        """Ensure the record, whole; its id is the run's own, so two who write the same write one.

        A run that Azure ML made itself has its end already: it gets tags, properties, and the metrics that its
        wrapper did not come to tell. An ended record keeps its status, for the service takes no second end; a new
        outcome shows in the tag.
        """
        check_run(run)
        tags = {**run.tags, RUN_KEY: run.id, OUTCOME_KEY: run.outcome}
        check_entries("tags", tags)
        found = self.get(run.id)
        properties = properties_of(run, found)
        if found is None:
            self._create(run, properties)
            found = self._sure(run.id)
            self._log(run, set(), run.started)
        elif submitted(found):
            self._patch(run, found, tags, properties)
            if next(points(run), None) is not None:
                self._log(run, self._told(run), utc(None))
            return run.id
        elif dict(found.get("properties") or {}).get(COMPLETE_KEY) != "true":
            # Somebody was cut short: what has arrived is left out, whether or not the service would see that it
            # is the same.
            self._patch(run, found, {}, properties)
            self._log(run, self._arrived(run), run.started)
        else:
            self._patch(run, found, tags, {})
            return run.id
        self._end(run, found)
        self._patch(run, found, tags, {COMPLETE_KEY: "true"})
        return run.id

    def get(self, run_id: str) -> Mapping[str, Any] | None:
        """The record, or None."""
        try:
            found = self._session.get(_HISTORY, f"{self._base}/runs/{run_id}")
        except NotFound:
            return None
        parts = [found.get(key) for key in ("tags", "properties")] if isinstance(found, dict) else [""]
        if not all(part is None or isinstance(part, dict) for part in parts):
            raise unreadable("a run")
        return cast("Mapping[str, Any]", found)

    def tracked(self, run_id: str, metrics: Collection[str]) -> TrackedEntry | None:
        """The record with its tags, those parameters that are properties of their own, and each metric's value at
        its highest step."""
        found = self.get(run_id) if run_id else None
        if found is None:
            return None
        values = {name: self._last(run_id, name) for name in sorted(metrics)}
        return TrackedEntry(
            metrics={name: value for name, value in values.items() if value is not None},
            parameters={
                key.removeprefix(PARAMETER_KEY): str(value)
                for key, value in (found.get("properties") or {}).items()
                if key.startswith(PARAMETER_KEY)
            },
            tags={key: str(value) for key, value in (found.get("tags") or {}).items()},
        )

    def _last(self, run_id: str, name: str) -> float | None:
        shown: tuple[int, float] | None = None
        for row in self._rows(run_id, name):
            data, step = row.get("data"), row.get("step")
            value = data.get(name) if isinstance(data, dict) else None
            at = step if isinstance(step, int) else 0
            if isinstance(value, int | float) and (shown is None or at >= shown[0]):
                shown = (at, float(value))
        return shown[1] if shown else None

    def origin(self, run_id: str) -> Origin:
        """Where a model comes from, as far as the workspace knows; a run that was deleted there links nothing."""
        run = self.get(run_id) if run_id else None
        if run is None:
            return Origin("", "", "")
        path = f"{self._base}/experimentids/{run.get('experimentId')}"
        try:
            experiment = self._session.get(_HISTORY, path)
        except NotFound:
            experiment = {}
        if not isinstance(experiment, dict):
            raise unreadable("an experiment")
        name = str(experiment.get("name") or "")
        container = str(run.get("dataContainerId") or "")
        if submitted(run) and container and self._has_outputs(container):
            return Origin(run_id, name, f"ExperimentRun/{container}/outputs")
        return Origin(run_id, name, "")

    def archive(self, experiment: str) -> None:
        """Ensure the experiment, with its runs, is out of sight; Azure ML deletes no runs."""

        def archive(workspace: Any) -> None:
            from azureml.core import Experiment

            for found in Experiment.list(workspace, experiment_name=experiment):
                found.archive()

        self._session.with_sdk(archive, f"archiving experiment {experiment}")

    def _path(self, run: TrackedRun) -> str:
        return f"{self._base}/experiments/{run.experiment}/runs/{run.id}"

    def _has_outputs(self, container: str) -> bool:
        path = (
            f"/artifact/v2.0{self._session.scope}/artifacts/prefix/contentinfo/ExperimentRun/{container}/outputs/"
        )
        try:
            page = self._session.get(_HISTORY, path)
        except NotFound:
            return False
        return isinstance(page, dict) and bool(page.get("value"))

    def _sure(self, run_id: str) -> Mapping[str, Any]:
        found = self.get(run_id)
        if found is None:
            raise unreadable("a run that was made a moment ago")
        return found

    def _create(self, run: TrackedRun, properties: Mapping[str, str]) -> None:
        """Make the record.

        Not by `start_logging`: that notes the git remote of whatever folder the process is in, credentials and
        all, and can't say when the run began. The request is the one that it makes.
        """

        def experiment(workspace: Any) -> None:
            from azureml.core import Experiment

            Experiment(workspace, run.experiment)

        self._session.with_sdk(experiment, f"making experiment {run.experiment}")
        self._session.patch(
            _HISTORY,
            self._path(run),
            json={
                "runId": run.id,
                "name": run.id,
                "displayName": run.id,
                "target": "local",
                "runTypeV2": {"orchestrator": "External", "traits": ["unspecified"]},
                "tags": {RUN_KEY: run.id},
                "properties": dict(properties),
                **({"startTimeUtc": utc(run.started)} if run.started else {}),
            },
        )
        self._event(run, "Start", "StartTime", run.started)

    def _patch(
        self, run: TrackedRun, found: Mapping[str, Any], tags: Mapping[str, str], properties: Mapping[str, str]
    ) -> None:
        """Ensure tags and properties; those that are as wanted are not sent."""
        changes: dict[str, Any] = {}
        for kind, wanted in (("tags", tags), ("properties", properties)):
            have = found.get(kind) or {}
            # What is a property already stays: it can't change.
            missing = {
                key: value
                for key, value in wanted.items()
                if have.get(key) != value and not (kind == "properties" and key in have)
            }
            if missing:
                check_entries(kind, missing, len({**have, **missing}))
                changes[kind] = missing
        if changes:
            self._session.patch(_HISTORY, self._path(run), json={"runId": run.id, **changes})

    def _event(self, run: TrackedRun, name: str, what: str, time: str | None) -> None:
        body = {
            "timestamp": utc(None),
            "name": f"Microsoft.MachineLearning.Run.{name}",
            "data": {"RunId": run.id, what: utc(time)},
        }
        self._session.post(_HISTORY, f"{self._path(run)}/events", json=body)

    def _end(self, run: TrackedRun, found: Mapping[str, Any]) -> None:
        status = found.get("status")
        if status in TERMINAL:
            return
        if run.ended:
            self._session.patch(_HISTORY, self._path(run), json={"runId": run.id, "endTimeUtc": utc(run.ended)})
        if status == "NotStarted":
            self._event(run, "Start", "StartTime", run.started)
        self._event(run, _EVENT.get(run.outcome, "Failed"), "EndTime", run.ended)

    def _log(self, run: TrackedRun, arrived: set[str], since: str | None) -> None:
        """Send all points that have not arrived, as told from `since` on. Where a batch fails, it may have arrived
        all the same."""
        wanted: dict[str, Mapping[str, Any]] = {}
        for point in points(run):
            # The service shows rows by their times, so each has one of its own.
            created = utc(since, len(wanted))
            row = {"createdUtc": created, "step": point.step, "data": {point.name: point.value}}
            wanted.setdefault(metric_id(run, point), row)
        for attempt in range(_ATTEMPTS):
            try:
                self._send(run, [(key, row) for key, row in wanted.items() if key not in arrived])
                return
            except Transient:
                if attempt + 1 == _ATTEMPTS:
                    raise
                arrived = arrived | self._arrived(run)

    def _send(self, run: TrackedRun, missing: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Send rows, in batches that the service takes, one after the other: in parallel they change places."""
        for start in range(0, len(missing), METRICS_PER_BATCH):
            rows: dict[str, list[dict[str, Any]]] = {}
            for key, row in missing[start : start + METRICS_PER_BATCH]:
                rows.setdefault(next(iter(row["data"])), []).append({"metricId": key, **row})
            values = [
                {
                    "name": name,
                    "columns": {name: "double"},
                    "properties": {"uxMetricType": "azureml.v1.scalar"},
                    "value": value,
                }
                for name, value in rows.items()
            ]
            answer = self._session.post(
                _HISTORY,
                f"{self._metrics}/{run.id}/batch",
                json={"values": values, "reportErrors": True},
                again=False,
            )
            if isinstance(answer, dict) and answer.get("errors"):
                raise Rejected(
                    f"Azure ML refused {len(answer['errors'])} metric(s) of run {run.id}",
                    reason="MetricsRefused",
                    fix="look at the names of the experiment's metrics",
                )

    def _arrived(self, run: TrackedRun) -> set[str]:
        """The ids of the points that the service has. It is let finish what it was sent before."""
        self._session.get(_HISTORY, f"{self._path(run)}/metricsingest/wait")
        return {
            str(row.get("metricId"))
            for name in sorted({point.name for point in points(run)})
            for row in self._rows(run.id, name)
        }

    def _told(self, run: TrackedRun) -> set[str]:
        """The ids of the points that the service has, whoever told them: the wrapper's have ids of their own."""
        self._session.get(_HISTORY, f"{self._path(run)}/metricsingest/wait")
        names = sorted({point.name for point in points(run)})
        held = Counter(
            (name, value)
            for name in names
            for row in self._rows(run.id, name)
            if isinstance(data := row.get("data"), dict) and isinstance(value := data.get(name), int | float)
        )
        told = set()
        for point in points(run):
            if held[point.name, point.value]:
                held[point.name, point.value] -= 1
                told.add(metric_id(run, point))
        return told

    def _rows(self, run_id: str, name: str) -> Iterator[Mapping[str, Any]]:
        token = None
        for _ in range(_MOST_PAGES):
            body = {"metricName": name, **({"continuationToken": token} if token else {})}
            try:
                page = self._session.post(_HISTORY, f"{self._metrics}/{run_id}/full", json=body)
            except NotFound:
                return
            rows = page.get("value") if isinstance(page, dict) else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise unreadable("a metric")
            yield from rows
            token = page.get("continuationToken")
            if not token:
                return


def submitted(run: Mapping[str, Any]) -> bool:
    """Whether Azure ML made this run itself."""
    return SUBMITTED in (run.get("runType"), dict(run.get("properties") or {}).get("azureml.runsource"))


def metric_id(run: TrackedRun, point: MetricPoint) -> str:
    """The same point has the same id whenever it is sent."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"edgetrain/{run.id}/{point.name}/{point.step}/{point.value!r}"))


def properties_of(run: TrackedRun, found: Mapping[str, Any] | None) -> dict[str, str]:
    """What never changes of a run: what it was made from, and its parameters. `found` is its record, whose own
    properties leave that much less room. Raises Rejected."""
    made_from = {key: value for key, value in run.tags.items() if key != OUTCOME_KEY}
    theirs = [key for key in (found or {}).get("properties") or {} if not key.startswith("edgetrain.")]
    room = max(1, min(_MOST_PARAMETERS, MOST_ENTRIES - len(theirs) - len(made_from) - 1))
    return {**made_from, **parameters(run, room)}


def parameters(run: TrackedRun, room: int = _MOST_PARAMETERS) -> dict[str, str]:
    """Parameters as at most `room` properties, for the service has none and properties never change: one each, or
    all in pieces of one text where they are too many or too long for that. Raises Rejected."""
    single = {f"{PARAMETER_KEY}{name}": value for name, value in sorted(run.parameters.items())}
    if len(single) <= room and all(
        len(key) <= LONGEST_KEY and len(value) <= LONGEST_VALUE for key, value in single.items()
    ):
        check_entries("properties", single)
        return single
    text = canonical(dict(run.parameters)).decode()
    pieces = [text[start : start + LONGEST_VALUE] for start in range(0, len(text), LONGEST_VALUE)]
    if len(pieces) > room:
        raise Rejected(
            f"the parameters of run {run.id} have {len(text)} characters",
            reason="ParametersTooLong",
            fix=f"Azure ML takes {room * LONGEST_VALUE}: put what is longer into a file of the code",
        )
    return {f"{PARAMETERS_KEY}{number}": piece for number, piece in enumerate(pieces)}


def utc(time: str | None, later: int = 0) -> str:
    """RFC 3339 as the service writes times; now, if there is none; `later` by milliseconds."""
    parsed = datetime.now(UTC) if time is None else datetime.fromisoformat(time)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return (parsed.astimezone(UTC) + timedelta(milliseconds=later)).isoformat().replace("+00:00", "Z")
