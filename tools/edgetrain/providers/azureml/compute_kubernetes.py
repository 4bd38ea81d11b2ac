"""`AzuremlKubernetesCompute`: a cluster that Azure ML runs on; the runner never reaches it itself.

A wrapper (`onsite/azureml`) makes the run in its pod: environment, sandbox, content check. What the check lets go,
and how the run ended, it leaves among the run's artifacts, and there it is read; what is withheld stays in the
pod's work folder. Data is read in place: a datastore's folder is mounted in the pods at the same path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgetrain.core.errors import Conflict, NotFound, ProviderError, Rejected
from edgetrain.core.ports import (
    Check,
    CheckStatus,
    DataDigest,
    DataSource,
    EgressLevel,
    EgressRules,
    Examination,
    Harvest,
    RunPhase,
    RunSpec,
    RunState,
    StoredEnvironment,
    TargetSettings,
    TargetStatus,
)
from edgetrain.onsite.sandbox import ISOLATION
from edgetrain.providers.answers import examination_of, harvest_of, not_examined
from edgetrain.providers.azureml import environment
from edgetrain.providers.azureml.attached import attached, no_workspace
from edgetrain.providers.azureml.compute_vm import attached_check
from edgetrain.providers.azureml.deadlines import PATIENCE, RUNNING, Deadlines, Patience, why
from edgetrain.providers.azureml.pod_order import check, not_served, order
from edgetrain.providers.azureml.session import Session, shared
from edgetrain.providers.azureml.snapshot import snapshot
from edgetrain.providers.azureml.submission import (
    CANCELLED_TAG,
    FORGOTTEN_TAG,
    PROBE_TAG,
    TARGET_TAG,
    TIMEOUT_TAG,
    Record,
    Submissions,
)
from edgetrain.providers.contract import ID, check_words
from edgetrain.providers.states import state_of

PROGRAMS = ("azureml", "content", "supervisor", "vm")
WORK = "/tmp/edgetrain"  # noqa: S108 - in the pod, which one run has for itself
RESULT = "outputs/edgetrain/result.json"
MOST_RESULT = 64 * 2**20
GRACE_SECONDS = 10.0
PROBE_SECONDS = 3600
# How long what a completed run left may stay unseen.
VISIBLE_SECONDS = 900.0


class AzuremlKubernetesCompute:
    """Compute `azureml-kubernetes`: one attached cluster of the workspace of `session`."""

    def __init__(
        self,
        settings: TargetSettings,
        session: Session,
        grace: float = GRACE_SECONDS,
        patience: Patience = PATIENCE,
    ) -> None:
        self.settings, self.name = settings, settings.name
        self.submissions = Submissions(session, settings.name, settings.state)
        self._session, self._grace = session, grace
        self._deadlines = Deadlines(self.submissions, patience)
        self._results: dict[str, Mapping[str, Any]] = {}

    # The target

    @property
    def probe_id(self) -> str:
        """The id of the run that looked at the sandbox of the pods as they are now declared."""
        text = json.dumps(
            [1, dict(self.settings.block), environment.for_pod(b"", self._image).name], sort_keys=True
        )
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}-1"

    @property
    def _image(self) -> str:
        return str(self.settings.block.get("image", ""))

    def probe(self) -> None:
        """Ensure that a run looks at the sandbox of the pods; what it sees is what `observe` tells."""
        task = {"kind": "probe", "id": self.probe_id}
        with snapshot(task, None, b"", PROGRAMS) as folder:
            self._submit(self.probe_id, folder, b"", PROBE_SECONDS, {PROBE_TAG: self.name})

    def observe(self) -> TargetStatus:
        """What the probe run saw, if the target is attached. Submits nothing."""
        try:
            attached(self._session, self.name)
            record = self.submissions.get(self.probe_id)
            if record is None:
                return _not_ready("NotProbed", f"the pods of {self.name} were not looked at yet: apply attaches it")
            if not record.over:
                return _not_ready(
                    "Probing", f"a run looks at the pods of {self.name} ({record.status}): apply later"
                )
            found = self._result(self.probe_id, record)["probe"]
            return TargetStatus(
                ready=True,
                egress=EgressLevel(found["level"]),
                python=str(found["python"]),
                platform=str(found["platform"]),
                isolation={name: found["isolation"].get(name) is True for name in ISOLATION},
                message=str(found["message"])[:300],
            )
        except NotFound as error:
            return _not_ready(error.reason if error.reason == "NotAttached" else "ProbeFailed", error.message)
        except ProviderError as error:
            return _not_ready(error.reason, error.message)
        except (KeyError, TypeError, ValueError, AttributeError):
            return _not_ready("ProbeFailed", f"the look at the pods of {self.name} left nothing that makes sense")

    def measure(
        self, source: DataSource, single_file: bool = False, progress: Callable[[int], None] | None = None
    ) -> DataDigest | None:
        """None: data is read in place."""
        return None

    def diagnose(self, sources: Sequence[DataSource] = (), cheap: bool = False) -> Sequence[Check]:
        """Whether the cluster is attached, and what a run finds in its pods."""
        seen = self.observe()
        if not seen.ready:
            sandbox = Check("sandbox", CheckStatus.WARN, seen.message, seen.reason, "apply, then ask again")
        elif seen.egress is EgressLevel.ENFORCED:
            sandbox = Check("sandbox", CheckStatus.PASS, "bubblewrap works in the pods")
        else:
            fix = "give an image with bubblewrap, on nodes that allow user namespaces; see docs/compute.md"
            sandbox = Check("sandbox", CheckStatus.FAIL, seen.message, "SandboxMissing", fix)
        return [attached_check(self._session, self.name), sandbox]

    # Runs

    def start(self, spec: RunSpec) -> None:
        """Submit the run, unless one of this id was ever submitted."""
        check_words(spec)
        check(spec)
        if self.submissions.get(spec.id) is not None:
            self.submissions.tag(spec.id, {**self._tags(spec.tags), TIMEOUT_TAG: str(spec.limits.timeout)})
            return
        seen = self.observe()
        if seen.ready and spec.python != seen.python:
            raise not_served(f"Python {spec.python}", f"set environment.python to {seen.python}")
        if spec.require_enforced and seen.egress is not EgressLevel.ENFORCED:
            raise Rejected(
                f"runs in pods of {self.name} are not kept from the network and the pod",
                reason="SandboxMissing",
                fix="run edgetrain doctor on the target, and see docs/compute.md",
            )
        work = str(self.settings.block.get("workFolder", WORK))
        task = order(spec, work, self._grace, self.settings.capacity)
        with snapshot(task, spec.code, spec.requirements, PROGRAMS) as folder:
            self._submit(spec.id, folder, spec.requirements, spec.limits.timeout, self._tags(spec.tags))

    def _submit(
        self, run_id: str, folder: Path, requirements: bytes, seconds: int, tags: Mapping[str, str]
    ) -> None:
        wanted = environment.for_pod(requirements, self._image)
        instance = self.settings.block.get("defaultInstanceType")
        self.submissions.submit(run_id, folder, wanted, seconds, tags, use_docker=True, instance_type=instance)

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {**tags, TARGET_TAG: self.name}

    def inspect(self, run_id: str) -> RunState:
        """How the run is now, as Azure ML tells, and as its wrapper wrote when it ended."""
        record = self.submissions.look(_checked(run_id))
        if record is None:
            return RunState(RunPhase.ABSENT)
        if not record.over:
            if self._deadlines.given_up(run_id, record):
                return self._without_result(self.submissions.get(run_id) or record)
            running = record.status in RUNNING
            return RunState(RunPhase.RUNNING if running else RunPhase.PREPARING, started=record.started)
        if FORGOTTEN_TAG in record.tags:
            return RunState(RunPhase.LOST, message="the run was recorded and cleared away")
        try:
            state = state_of(self._result(run_id, record).get("state"))
        except NotFound:
            # A wrapper that ended well has left one: it is not seen yet.
            waits = record.status == "Completed" and _since(record.ended) < VISIBLE_SECONDS
            return RunState(RunPhase.RUNNING, started=record.started) if waits else self._without_result(record)
        if state.ended_by == "cancel" and CANCELLED_TAG in record.tags:
            return replace(state, message=record.tags[CANCELLED_TAG])
        if state.ended_by == "cancel" and (late := why(record)):
            return replace(state, ended_by="timeout", message=late)
        return state

    @staticmethod
    def _without_result(record: Record) -> RunState:
        """A run whose wrapper left nothing: it never came so far, or was ended from outside."""
        ended = RunState(RunPhase.ENDED, started=record.started, ended=record.ended)
        if (late := why(record)) and CANCELLED_TAG not in record.tags:
            phase = RunPhase.LOST if record.started else RunPhase.ENDED
            return replace(ended, phase=phase, ended_by="" if record.started else "timeout", message=late)
        if record.status == "Canceled" or CANCELLED_TAG in record.tags:
            message = record.tags.get(CANCELLED_TAG) or "cancelled in Azure ML"
            return replace(ended, ended_by="cancel", message=message)
        if record.started is None:
            message = f"Azure ML did not start the run: {record.message or 'see its logs there'}"
            return replace(ended, ended_by="environment", message=message)
        return replace(ended, phase=RunPhase.LOST, message=record.message or "its pod ended without a word")

    def cancel(self, run_id: str, reason: str) -> None:
        """End the run; one that was never submitted is barred from it."""
        record = self.submissions.get(_checked(run_id))
        if record is None:
            self.submissions.bar(run_id, reason)
        elif not record.over:
            self.submissions.cancel(run_id, reason)
        elif self.inspect(run_id).phase is RunPhase.LOST and FORGOTTEN_TAG not in record.tags:
            self.submissions.tag(run_id, {CANCELLED_TAG: reason[:500]})

    def logs(self, run_id: str, follow: bool = False) -> Iterator[str]:
        """The wrapper's progress; what the script said stays in the pod's work folder."""
        return self.submissions.lines(_checked(run_id), self._held(run_id).container, follow)

    def _held(self, run_id: str) -> Record:
        record = self.submissions.get(_checked(run_id))
        if record is None or FORGOTTEN_TAG in record.tags:
            raise NotFound(f"{run_id} is not held there", fix="see `edgetrain runs`")
        return record

    def _ended(self, run_id: str) -> Mapping[str, Any]:
        """The result of a run that left one. Raises NotFound, Conflict."""
        record = self._held(run_id)
        try:
            if record.over:
                return self._result(run_id, record)
        except NotFound:
            pass
        raise Conflict(f"{run_id} has no outputs to read ({record.status})", fix="wait for its end")

    def _result(self, run_id: str, record: Record) -> Mapping[str, Any]:
        """What the wrapper left. Raises NotFound if nothing, Rejected if it makes no sense."""
        if run_id not in self._results:
            data = self.submissions.read(run_id, record.container, RESULT, MOST_RESULT)
            try:
                found = json.loads(data)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict) or found.get("version") != 1:
                raise Rejected(
                    f"the result of {run_id} is not sound",
                    reason="UnsoundAnswer",
                    fix="see its log in Azure ML, then: edgetrain retry RUN --reason ...",
                )
            self._results[run_id] = found
        return self._results[run_id]

    def harvest(self, run_id: str, outputs: Mapping[str, str]) -> Harvest:
        """What was read in the pod of the run's outputs, as far as the content check let it go."""
        found = self._ended(run_id).get("harvest")
        if found is None:
            return Harvest((), {})
        return harvest_of(json.dumps(found).encode())

    def examine(self, run_id: str, rules: EgressRules) -> Examination:
        """The content check that was made in the pod: it holds if it looked at what is asked for now."""
        result = self._ended(run_id)
        found, level = result.get("examination"), str((result.get("state") or {}).get("level", "advisory"))
        if not isinstance(found, dict):
            return not_examined("nothing was looked at in the pod", level)
        examination = examination_of(json.dumps(found).encode(), level)
        if result.get("accepted") is True and not _covers(result.get("rules"), rules):
            return not_examined("the pod looked at other outputs, or by other rules", level)
        return examination

    def fetch(self, run_id: str, path: str, into: Path) -> None:
        """Copy one accepted output from the run's artifacts, if it is as the pod's check saw it."""
        files = {file.path: file for file in self.harvest(run_id, {}).files}
        if path not in files or self._ended(run_id).get("accepted") is not True:
            raise NotFound("there is no such output", fix="name a path of the harvest")
        self.submissions.save(run_id, self._held(run_id).container, f"outputs/{path}", files[path], into)

    def forget(self, run_id: str) -> None:
        """Note that the run is recorded: Azure ML keeps what it has. Raises Conflict while it runs."""
        record = self.submissions.get(_checked(run_id))
        if record is None:
            return
        if not record.over:
            raise Conflict(f"{run_id} still runs", reason="StillRunning", fix="cancel it first")
        self.submissions.tag(run_id, {FORGOTTEN_TAG: "true"})

    def runs(self) -> Sequence[str]:
        """The ids of all runs that were not forgotten."""
        return [found for found in self.submissions.held() if ID.fullmatch(found)]

    def environment(self, requirements: bytes, image: str | None = None, python: str = "") -> str:
        """The environment's name in Azure ML."""
        return environment.for_pod(requirements, self._image).name

    def environments(self) -> Sequence[StoredEnvironment]:
        """None: Azure ML keeps its own, and lets none be removed."""
        return []

    def drop_environment(self, environment: str) -> None:
        """Nothing: see `environments`."""


def _covers(made: Any, asked: EgressRules) -> bool:
    """Whether a check by the rules `made` looked at all that is asked for."""
    wanted = json.loads(json.dumps(asdict(asked)))
    if not isinstance(made, dict) or (wanted["log"] and not made.get("log")):
        return False
    return all(made.get(name) == wanted[name] for name in ("files", "metrics", "history", "waived", "texts"))


def _since(moment: str | None) -> float:
    """Seconds since a time in RFC 3339; none if it is not known."""
    return datetime.now(UTC).timestamp() - datetime.fromisoformat(moment).timestamp() if moment else 0.0


def _not_ready(reason: str, message: str) -> TargetStatus:
    return TargetStatus(
        ready=False,
        egress=EgressLevel.ADVISORY,
        python="",
        platform="",
        isolation=dict.fromkeys(ISOLATION, False),
        reason=reason,
        message=message,
    )


def _checked(run_id: str) -> str:
    if not ID.fullmatch(run_id):
        raise Rejected(
            "the run's id is not fit for a file name",
            reason="InvalidRunId",
            fix="report this: it is a fault of edgetrain",
        )
    return run_id


def from_settings(settings: TargetSettings) -> AzuremlKubernetesCompute:
    """The cluster that the manifest names, in the repository's workspace."""
    workspace = settings.workspace
    if workspace is None or workspace.block.get("type") != "azureml":
        raise no_workspace(settings.name)
    return AzuremlKubernetesCompute(settings, shared(workspace))
