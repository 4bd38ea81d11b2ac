"""Runs of one target in Azure ML: submitted once under our own id, looked at in bulk, cancelled, read.

Azure ML keeps runs for ever; what is forgotten, or was never to start, is told by a tag.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from edgetrain.core.errors import Conflict, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import OutputFile
from edgetrain.providers.azureml import environment
from edgetrain.providers.azureml.errors import shown
from edgetrain.providers.azureml.models import unreadable
from edgetrain.providers.azureml.names import experiment_of, ours, theirs
from edgetrain.providers.azureml.rules import check_entries, check_name
from edgetrain.providers.azureml.snapshot import SCRIPT
from edgetrain.providers.durable import incoming

if TYPE_CHECKING:
    from edgetrain.providers.azureml.session import Session

TERMINAL = frozenset({"Completed", "Failed", "Canceled"})
TARGET_TAG = "edgetrain.target"
CANCELLED_TAG = "edgetrain.cancelled"
FORGOTTEN_TAG = "edgetrain.forgotten"
PROBE_TAG = "edgetrain.probe"
# The run's own time-out in seconds.
TIMEOUT_TAG = "edgetrain.timeout"
# How long one answer about all runs of an experiment is good for.
FRESH_SECONDS = 2.0
# Beyond the run's own time-out: what comes before the script and after it.
MARGIN_SECONDS = 6 * 3600
# Another apply may be sending large code under the same lock.
LOCK_SECONDS = 3600
PAGE = 500
LOG = "user_logs/std_log.txt"
MOST_LOG = 16 * 2**20
_OURS = re.compile(r".+-[0-9a-f]{12}-[1-9]\d*")


@dataclass(frozen=True)
class Record:
    """A run as Azure ML tells of it. `message` is its own word on a failure."""

    status: str
    tags: Mapping[str, str]
    container: str
    message: str = ""
    created: str | None = None
    started: str | None = None
    ended: str | None = None
    cancel: str = ""

    @classmethod
    def parse(cls, document: Any) -> Record:
        """From the service's document. Raises Rejected."""
        try:
            error = (document.get("error") or {}).get("error") or {}
            return cls(
                status=str(document["status"]),
                tags={str(key): str(value or "") for key, value in (document.get("tags") or {}).items()},
                container=str(document.get("dataContainerId") or f"dcid.{document['runId']}"),
                message=shown(error.get("message") or "", longest=300),
                created=_time(document.get("createdUtc")),
                started=_time(document.get("startTimeUtc")),
                ended=_time(document.get("endTimeUtc")),
                cancel=str(document.get("cancelUri") or ""),
            )
        except (KeyError, TypeError, AttributeError):
            raise Rejected(
                "the service's answer about a run is not sound",
                reason="AnswerNotUnderstood",
                fix="see whether the workspace's address is right, and the client as pinned",
            ) from None

    @property
    def over(self) -> bool:
        """Whether Azure ML does nothing more with it."""
        return self.status in TERMINAL


class Submissions:
    """The runs of the target `name`. `state` is the site's durable folder."""

    def __init__(self, session: Session, name: str, state: Path, fresh: float = FRESH_SECONDS) -> None:
        self.session, self.name, self._state, self._fresh = session, name, state, fresh
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, dict[str, Record]]] = {}
        self._environments: dict[environment.Wanted, Any] = {}

    # Looking

    def get(self, run_id: str) -> Record | None:
        """The run as it is now, by its id: lists lag behind."""
        with suppress(NotFound):
            return Record.parse(self.session.get("history", f"{self._scope}/runs/{theirs(run_id)}"))
        return None

    def look(self, run_id: str) -> Record | None:
        """The run as it was a moment ago at most; one request serves all runs of its experiment."""
        experiment = experiment_of(run_id)
        with self._lock:
            when, held = self._seen.get(experiment, (0.0, {}))
            if not when or time.monotonic() - when > self._fresh:
                held = {found: Record.parse(document) for found, document in self._query(experiment)}
                self._seen[experiment] = time.monotonic(), held
        found = held.get(run_id)
        return found if found is not None else self.get(run_id)

    def _query(self, experiment: str) -> Iterator[tuple[str, Any]]:
        body = {"filter": f"(Target eq {self.name})", "orderby": "StartTimeUtc desc", "top": PAGE}
        try:
            # The newest page is enough: whoever is not on it is asked for by id.
            page = self.session.post("history", f"{self._scope}/experiments/{experiment}/runs:query", json=body)
        except NotFound:
            return
        items = page.get("value") if isinstance(page, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise unreadable("a list of runs")
        for document in items:
            yield ours(str(document.get("runId"))), document

    def stale(self, run_id: str) -> None:
        """What was seen of the run's experiment is so no more."""
        with self._lock:
            self._seen.pop(experiment_of(run_id), None)

    def held(self) -> list[str]:
        """The ids of all runs of this target that have the form of ours and were not forgotten, in experiments that
        this site submitted to. Not by a tag: a crash may have come before it."""
        body = {"filter": f"(Target eq {self.name})", "top": PAGE}
        found = []
        for experiment in self._experiments():
            for document in self._listed(experiment, body):
                tags = document.get("tags") if isinstance(document, dict) else ""
                if tags is not None and not isinstance(tags, dict):
                    raise unreadable("a list of runs")
                tags, run_id = tags or {}, str(document.get("runId"))
                if _OURS.fullmatch(run_id) and FORGOTTEN_TAG not in tags and PROBE_TAG not in tags:
                    found.append(ours(run_id))
        return sorted(found)

    def _listed(self, experiment: str, body: Mapping[str, Any]) -> Iterator[Any]:
        path = f"{self._scope}/experiments/{experiment}/runs:query"
        with suppress(NotFound):
            yield from self.session.pages("history", path, json=body)

    @property
    def _notes(self) -> Path:
        """A file for each experiment that was ever submitted to: the workspace has other people's too."""
        return self._state / "azureml" / "experiments" / self.name

    def _experiments(self) -> list[str]:
        return sorted(path.name for path in self._notes.iterdir()) if self._notes.is_dir() else []

    def _note(self, run_id: str) -> None:
        check_name("run", theirs(run_id))
        check_name("experiment", experiment_of(run_id))
        self._notes.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._notes / experiment_of(run_id)).touch()

    # Changing

    def submit(
        self,
        run_id: str,
        folder: Path,
        wanted: environment.Wanted,
        seconds: int,
        tags: Mapping[str, str],
        **more: Any,
    ) -> None:
        """Let Azure ML run the snapshot in `folder`, unless a run of this id was ever submitted. `more` may hold
        `use_docker` and `instance_type`.

        Made again after a crash anywhere it comes to the same: the id is ours, and one id is one run.
        """
        self._note(run_id)
        if self.get(run_id) is None:
            try:
                self._submit(run_id, folder, wanted, seconds, more)
            except (Conflict, Transient, Rejected) as error:
                # It may have come through although its answer did not.
                if self.get(run_id) is None:
                    raise error from None
        self.stale(run_id)
        self.tag(run_id, {**tags, TIMEOUT_TAG: str(seconds)})

    def _submit(
        self, run_id: str, folder: Path, wanted: environment.Wanted, seconds: int, more: Mapping[str, Any]
    ) -> None:
        with self._lock:
            registered = self._environments.get(wanted)
        if registered is None:
            registered = environment.ensure(self.session, wanted)
            with self._lock:
                self._environments[wanted] = registered

        def submit(workspace: Any) -> None:
            from azureml.core import Experiment, ScriptRunConfig
            from azureml.core.runconfig import DockerConfiguration, RunConfiguration

            config = RunConfiguration()
            config.target = self.name
            config.environment = registered
            config.max_run_duration_seconds = seconds + MARGIN_SECONDS
            config.docker = DockerConfiguration(use_docker=bool(more.get("use_docker")))
            config.history.directories_to_watch = []
            if more.get("instance_type"):
                config.kubernetescompute.instance_type = more["instance_type"]
            source = ScriptRunConfig(str(folder), script=SCRIPT, run_config=config)
            try:
                Experiment(workspace, experiment_of(run_id)).submit(source, run_id=theirs(run_id))
            except Exception as error:  # the SDK raises anything
                # Of a snapshot that is ours alone: stored, although its answer said no, and sent once more.
                if getattr(error, "error_code", None) == "BlobAlreadyExists":
                    raise Transient(
                        "a file of the snapshot came twice", reason="ServiceFault", fix="apply again"
                    ) from None
                raise

        # The client keeps what it sent last in one file of ours: two at once would mix it up.
        lock = self._state / "azureml" / "submit.lock"
        lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with FileLock(lock, timeout=LOCK_SECONDS):
                self.session.with_sdk(submit, f"submitting run {run_id}")
        except Timeout:
            raise Transient(
                f"another process of this site has been submitting a run for {LOCK_SECONDS} s",
                reason="SubmissionBusy",
                fix="see what it waits for, or end it; then apply again",
            ) from None

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Ensure these tags."""
        check_entries("tags", tags)
        held = self.get(run_id)
        missing = {key: value for key, value in tags.items() if held is None or held.tags.get(key) != value}
        if missing:
            self.session.patch("history", self._run(run_id), json={"runId": theirs(run_id), "tags": missing})
            self.stale(run_id)

    def cancel(self, run_id: str, reason: str, tag: str = CANCELLED_TAG) -> None:
        """Ask for the run's end, and note why in `tag`; one that has ended stays as it is."""
        found = self.get(run_id)
        if found is None or found.over:
            return
        self.tag(run_id, {tag: reason[:500]})
        of = f"/execution/v1.0{self.session.scope}/experiments/{experiment_of(run_id)}"
        try:
            self.session.post("history", f"{of}/runId/{theirs(run_id)}/cancel")
        except ProviderError:
            # It may have ended meanwhile.
            found = self.get(run_id)
            if found is not None and not found.over and found.status != "CancelRequested":
                raise
        self.stale(run_id)

    def bar(self, run_id: str, reason: str) -> None:
        """Make the record of a run that was cancelled before it started, so that it never starts."""
        self._note(run_id)
        self.session.post("history", f"{self._scope}/experiments/{experiment_of(run_id)}")
        body = {
            "runId": theirs(run_id),
            "target": self.name,
            "tags": {TARGET_TAG: self.name, CANCELLED_TAG: reason[:500]},
        }
        self.session.patch("history", self._run(run_id), json=body)
        event = {"name": "Microsoft.MachineLearning.Run.Canceled", "data": {"RunId": theirs(run_id)}}
        self.session.post("history", f"{self._run(run_id)}/events", json=event)
        self.stale(run_id)

    # Reading

    def lines(self, run_id: str, container: str, follow: bool) -> Iterator[str]:
        """The wrapper's progress, as far as Azure ML has it; with `follow` until the run is over."""
        told = 0
        while True:
            record = self.get(run_id)
            over = record is None or record.over
            data = b""
            with suppress(NotFound):
                data = self.read(run_id, container, LOG, MOST_LOG)
            # The last line may be half of one, until there is no more.
            end = len(data) if over or not follow else data.rfind(b"\n") + 1
            yield from data[told:end].decode("utf-8", "replace").splitlines()
            told = max(told, end)
            if over or not follow:
                return
            threading.Event().wait(self._fresh)

    def save(self, run_id: str, container: str, path: str, wanted: OutputFile, into: Path) -> None:
        """Copy a file of the run to the file `into`. Raises Rejected if it is not as wanted, to the byte."""
        hasher, size = hashlib.sha256(), 0
        with incoming(into.parent) as file:
            for chunk in self.stream(run_id, container, path):
                size += len(chunk)
                if size > wanted.size:
                    break
                hasher.update(chunk)
                file.write(chunk)
            if size != wanted.size or f"sha256:{hasher.hexdigest()}" != wanted.digest:
                raise Rejected(
                    "an output is another in Azure ML than the one that was checked",
                    reason="OutputChanged",
                    fix="find out who wrote to the run's artifacts",
                )
            file.replace(into)

    def read(self, run_id: str, container: str, path: str, most: int) -> bytes:
        """One small file of the run. Raises NotFound, Rejected if it is larger than `most`."""
        data = b""
        for chunk in self.stream(run_id, container, path):
            data += chunk
            if len(data) > most:
                raise Rejected(
                    f"{path} of run {run_id} is too large",
                    reason="TooLarge",
                    fix="see what the run wrote there, in Azure ML; then: edgetrain retry RUN --reason ...",
                )
        return data

    def stream(self, run_id: str, container: str, path: str) -> Iterator[bytes]:
        """One file of the run, in parts. Raises NotFound."""
        import requests

        scope = f"/artifact/v2.0{self.session.scope}/artifacts/contentinfo/ExperimentRun/{container}"
        found = self.session.get("history", f"{scope}/{path}")
        url = str(found.get("contentUri") or "") if isinstance(found, dict) else ""
        what = f"reading {path} of run {run_id}"
        with self.session.call(lambda: _opened(requests, url), what) as response:
            chunks = response.iter_content(2**20)
            while True:
                chunk = self.session.call(lambda: next(chunks, b""), what, again=False)
                if not chunk:
                    return
                yield chunk

    @property
    def _scope(self) -> str:
        return f"/history/v1.0{self.session.scope}"

    def _run(self, run_id: str) -> str:
        return f"{self._scope}/experiments/{experiment_of(run_id)}/runs/{theirs(run_id)}"


def _opened(requests: Any, url: str) -> Any:
    if not url.startswith("https://"):
        raise Rejected(
            "the service gave no address for a run's file",
            reason="AnswerNotUnderstood",
            fix="see whether the workspace's address is right, and the client as pinned",
        )
    response = requests.get(url, stream=True, timeout=(30, 120))
    response.raise_for_status()
    return response


def _time(value: Any) -> str | None:
    """A time of theirs as ours are: RFC 3339 in UTC, whole seconds."""
    from datetime import UTC, datetime

    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
