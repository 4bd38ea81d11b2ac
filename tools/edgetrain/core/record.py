"""Records: what the runner writes to git, one file a fact, in RFC 8785 form, never edited."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from edgetrain.core.digest import canonical, digest_bytes, parse_canonical
from edgetrain.core.record_parts import check_parts

API_VERSION = "edgetrain/v1"
MAX_RECORD_BYTES = 4 * 2**20


class Outcome(StrEnum):
    """How a run ended."""

    CANDIDATE = "candidate"
    NOT_BETTER = "not_better"
    FAILED = "failed"
    REJECTED = "rejected"
    LOST = "lost"
    CANCELLED = "cancelled"


# What of a run another judgement may replace.
JUDGED = ("metrics", "metricsSource", "selfReported", "evaluation")
SETTLED = frozenset(set(Outcome) - {Outcome.LOST})


@dataclass(frozen=True)
class Record:
    """A record as it lies in git. `ordinal` is its place in main's history (the order of facts)."""

    path: str
    data: Mapping[str, Any] = field(repr=False)
    digest: str
    ordinal: int = 0

    @property
    def kind(self) -> str:
        """RunRecord, EvaluationRecord, ProposalRecord or ReleaseRecord."""
        return str(self.data["kind"])


class RunRecord(Record):
    """`experiments/<name>/runs/<identity12>-<attempt>.json`"""

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return str(self.data["experiment"])

    @property
    def model(self) -> str:
        """The name of the model that the run was for."""
        return str(self.data["model"])

    @property
    def identity(self) -> str:
        """The run's identity."""
        return str(self.data["identity"])

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return int(self.data["attempt"])

    @property
    def outcome(self) -> Outcome:
        """The outcome as recorded when the run ended (later evaluations have records of their own)."""
        return Outcome(self.data["outcome"])

    @property
    def run_id(self) -> str:
        """`<experiment>-<identity12>-<attempt>`"""
        return run_id(self.experiment, self.identity, self.attempt)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The final metrics: evaluated ones where the model has an evaluation."""
        return dict(self.data["metrics"])

    @property
    def reported(self) -> Mapping[str, float]:
        """The metrics that the training script measured itself."""
        return dict(self.data.get("selfReported", self.data["metrics"]))

    @property
    def tracked(self) -> Mapping[str, float]:
        """The metrics by their names in the workspace, where evaluated ones are beside the script's own."""
        told = self.data["metrics"] if "evaluation" in self.data else {}
        return {**self.reported, **{f"evaluated/{name}": value for name, value in told.items()}}

    @property
    def input_digests(self) -> dict[str, str]:
        """Each data input's name and content digest."""
        return {name: value["digest"] for name, value in self.data["inputs"].items()}


class EvaluationRecord(Record):
    """`experiments/<name>/runs/<identity12>-<attempt>.evaluation-<k>.json`: stored results, judged again."""

    @property
    def run(self) -> str:
        """Digest of the run record."""
        return str(self.data["run"])

    @property
    def outcome(self) -> Outcome:
        """The outcome by the gates of then."""
        return Outcome(self.data["outcome"])

    @property
    def closes(self) -> str | None:
        """The branch of the run's open proposal that this verdict closes."""
        found = self.data.get("closes")
        return found if isinstance(found, str) else None


class ProposalRecord(Record):
    """`models/<name>/proposals/<n>-<identity12>-<attempt>.json`: this run was proposed as version n; and with
    `.again-<k>` before the end, that another pull request does so since."""

    @property
    def pull_request(self) -> int | None:
        """The number on the forge, if there is one."""
        found = self.data.get("pullRequest")
        return found if isinstance(found, int) else None

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.data["model"])

    @property
    def version(self) -> int:
        """The number under which it was proposed."""
        return int(self.data["version"])

    @property
    def run(self) -> str:
        """Digest of the run record."""
        return str(self.data["run"])


class ReleaseRecord(Record):
    """`models/<name>/versions/<n>.release-<k>.json`: released, moved into a channel, withdrawn, or registered anew
    because the repository moved to another workspace."""

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.data["model"])

    @property
    def version(self) -> int:
        """The version's number."""
        return int(self.data["version"])

    @property
    def run(self) -> str:
        """Digest of the run record."""
        return str(self.data["run"])

    @property
    def event(self) -> str:
        """`released`, `channel`, `withdrawn`, or `registered` (in another workspace than before)."""
        return str(self.data["event"])

    @property
    def workspace(self) -> str | None:
        """The workspace that a `released` or `registered` version was registered in, if that is told."""
        registered = self.data.get("registered")
        if not isinstance(registered, dict) or not isinstance(registered.get("type"), str):
            return None
        return workspace_name(registered["type"], str(registered.get("workspace", "")))

    @property
    def registered_as(self) -> str:
        """The workspace's own number of the version, where that is told."""
        registered = self.data.get("registered")
        return str(registered.get("version", "")) if isinstance(registered, dict) else ""


@dataclass(frozen=True)
class _Form:
    holds: type[Record]
    where: str
    required: Mapping[str, type]

    @cached_property
    def place(self) -> re.Pattern[str]:
        """What matches the paths where it may lie."""
        return re.compile(self.where)


_RUN = {
    "experiment": str, "model": str, "identity": str, "identityOf": dict, "attempt": int, "outcome": str,
    "reason": str, "commit": str, "provenance": dict, "target": dict, "inputs": dict, "parameters": dict,
    "environment": dict, "outputs": dict, "metrics": dict, "metricsSource": str, "gates": dict, "egress": dict,
}  # fmt: skip
FORMS: dict[str, _Form] = {
    "RunRecord": _Form(
        RunRecord,
        r"experiments/(?P<experiment>[^/]+)/runs/(?P<identity>[0-9a-f]{12})-(?P<attempt>\d+)\.json",
        _RUN,
    ),
    "EvaluationRecord": _Form(
        EvaluationRecord,
        r"experiments/[^/]+/runs/[0-9a-f]{12}-\d+\.evaluation-(?P<number>\d+)\.json",
        {"run": str, "outcome": str, "gates": dict, "number": int},
    ),
    "ProposalRecord": _Form(
        ProposalRecord,
        r"models/(?P<model>[^/]+)/proposals/(?P<version>\d+)-[0-9a-f]{12}-\d+(?:\.again-\d+)?\.json",
        {"model": str, "version": int, "run": str, "branch": str},
    ),
    "ReleaseRecord": _Form(
        ReleaseRecord,
        r"models/(?P<model>[^/]+)/versions/(?P<version>\d+)\.release-(?P<number>\d+)\.json",
        {"model": str, "version": int, "number": int, "event": str, "manifest": str, "run": str},
    ),
}


def workspace_name(type_: str, name: str) -> str:
    """A workspace in one line: `mlflow` (a site has one), or `azureml <resource group>/<name>`."""
    return f"{type_} {name}" if type_ == "azureml" else type_


_PLACES = re.compile("|".join(re.sub(r"\?P<\w+>", "?:", form.where) for form in FORMS.values()))


def is_record_path(path: str) -> bool:
    """Whether only the runner may write this path."""
    # Asked of every file there is.
    return path.endswith(".json") and _PLACES.fullmatch(path) is not None


def parse_record(path: str, data: bytes, ordinal: int = 0) -> Record:
    """Read a record. ValueError, in words for people, if it is not one or does not belong at `path`."""
    return record_of(path, *read_record(path, data), ordinal)


def record_of(path: str, value: Mapping[str, Any], digest: str, ordinal: int = 0) -> Record:
    """The record of what `read_record` has read."""
    return FORMS[value["kind"]].holds(path, value, digest, ordinal)


def read_record(path: str, data: bytes) -> tuple[dict[str, Any], str]:
    """What a record holds, and its digest. ValueError as `parse_record`."""
    if len(data) > MAX_RECORD_BYTES:
        raise ValueError(f"larger than {MAX_RECORD_BYTES} bytes")
    value = parse_canonical(data)
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in FORMS or value.get("apiVersion") != API_VERSION:
        raise ValueError(f"not a record of {API_VERSION}")
    form = FORMS[kind]
    found = form.place.fullmatch(path)
    if not found:
        raise ValueError(f"a {value['kind']} does not belong at this path")
    for key, type_ in form.required.items():
        if type(value.get(key)) is not type_:  # as JSON gives it: true is no int
            raise ValueError(f"{key} is missing or of another type")
    for key, text in found.groupdict().items():
        if str(value[key]).removeprefix("sha256:")[: len(text) if key == "identity" else None] != text:
            raise ValueError(f"{key} is not that of the file's name")
    if "outcome" in form.required and value["outcome"] not in set(Outcome):
        raise ValueError("outcome is not a known one")
    check_parts(value)
    return value, digest_bytes(data.removesuffix(b"\n"))


def serialise(data: Mapping[str, Any]) -> bytes:
    """A record's bytes: RFC 8785 and a newline. The record's digest is over the form without the newline."""
    return canonical(data) + b"\n"


def run_id(experiment: str, identity: str, attempt: int) -> str:
    """`<experiment>-<identity12>-<attempt>`: names a run everywhere outside git."""
    return f"{experiment}-{identity.removeprefix('sha256:')[:12]}-{attempt}"


def run_path(experiment: str, identity: str, attempt: int) -> str:
    """Where the run's record lies."""
    return f"experiments/{experiment}/runs/{identity.removeprefix('sha256:')[:12]}-{attempt}.json"
