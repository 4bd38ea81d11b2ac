"""Builds desired states and records in memory, as git would hold them, for tests of what is told of them."""

from __future__ import annotations

import copy
from typing import Any

from edgetrain.core.decide import version_spec
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes, digest_of
from edgetrain.core.document import Document
from edgetrain.core.gate import gates_digest
from edgetrain.core.kinds import ComputeTarget, Configuration, Experiment, Model, ModelVersion
from edgetrain.core.record import API_VERSION, Record, ReleaseRecord, RunRecord, parse_record, run_path, serialise
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.audit import Facts
from edgetrain.render.hands import Hand
from edgetrain.repo.history import Addition

DANA, RAVI = "Dana Scientist <dana@example.org>", "Ravi Reviewer <ravi@example.org>"
CODE = digest_bytes(b"the code")
HAND = {"mergeCommit": "c" * 40, "proposer": DANA, "approvers": [RAVI], "pullRequest": "#7"}
APPROVAL = {**HAND, "mergeCommit": "d" * 40, "pullRequest": "#9"}
ISOLATION = {"hostHidden": True, "network": True, "noPrivileges": True, "pidNamespace": True, "readOnly": True}


def document(path: str, kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> Document:
    """A manifest as the reader gives it."""
    meta = {"name": name, "owners": ["@example/ds"], **metadata}
    return Document(path, {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec})


def configuration(state: str = "/state") -> Configuration:
    """One site, `ward`, with one datastore."""
    stores = {"scans": {"type": "folder", "path": "/data"}}
    spec = {"sites": {"ward": {"state": state, "datastores": stores}}}
    return Configuration.from_document(document("edgetrain.yaml", "Configuration", "edgetrain", spec))


def target(name: str = "runner", type_: str = "local", site: str = "ward") -> ComputeTarget:
    """A compute target."""
    return ComputeTarget.from_document(
        document(f"compute/{name}.yaml", "ComputeTarget", name, {"type": type_, "site": site})
    )


def experiment(name: str = "scan", **changes: Any) -> Experiment:
    """An experiment with one data input and two parameters; `changes` replace keys of its spec."""
    spec = {
        "model": "triage",
        "compute": "runner",
        "command": "python train.py --lr ${{inputs.lr}}",
        "inputs": {
            "images": {"type": "uri_folder", "datastore": "scans", "path": "cxr/", "digest": "latest"},
            "lr": 0.1,
            "kind": "small",
        },
        "outputs": {"model": {"type": "custom_model", "path": "model.onnx"}},
        "metrics": ["auroc"],
        "seed": 42,
        **changes,
    }
    return Experiment.from_document(document(f"experiments/{name}/experiment.yaml", "Experiment", name, spec))


def model(name: str = "triage", **changes: Any) -> Model:
    """A model with a gate; `changes` replace keys of its spec."""
    spec = {
        "card": {"intendedPurpose": "Orders the reading list."},
        "gates": [{"metric": "auroc", "min": 0.8, "notWorseThan": "production"}],
        "channels": {},
        **changes,
    }
    return Model.from_document(document(f"models/{name}/model.yaml", "Model", name, spec, description="Triage."))


def identity_of(lr: float = 0.1, data: bytes = b"data") -> dict[str, Any]:
    """The fields of a run's identity."""
    return {
        "version": 1,
        "experiment": "scan",
        "command": "python train.py --lr ${{inputs.lr}}",
        "parameters": {"lr": lr, "kind": "small"},
        "seed": 42,
        "code": CODE,
        "requirements": None,
        "python": "3.11",
        "platform": "linux/amd64",
        "image": None,
        "outputs": {"model": {"path": "model.onnx", "type": "custom_model"}},
        "inputs": {"images": digest_bytes(data)},
    }


def run(
    lr: float = 0.1,
    *,
    attempt: int = 1,
    ordinal: int = 1,
    data: bytes = b"data",
    auroc: float = 0.9,
    outcome: str = "candidate",
    **changes: Any,
) -> RunRecord:
    """A run record, as apply writes it."""
    of = identity_of(lr, data)
    identity = digest_of(of)
    artifact = digest_bytes(f"model {lr} {attempt}".encode())
    value = {
        "apiVersion": API_VERSION,
        "kind": "RunRecord",
        "experiment": "scan",
        "model": "triage",
        "identity": identity,
        "identityOf": of,
        "attempt": attempt,
        "trial": {},
        "outcome": outcome,
        "reason": "GatesPassed",
        "message": "2 gates passed",
        "commit": "a" * 40,
        "manifest": digest_bytes(b"manifest"),
        "provenance": HAND,
        "target": {
            "name": "runner",
            "type": "local",
            "site": "ward",
            "egress": "enforced",
            "isolation": ISOLATION,
        },
        "started": "2026-03-01T10:00:00Z",
        "ended": "2026-03-01T10:04:05Z",
        "seconds": 245,
        "usage": {"cpuSeconds": 200.5},
        "inputs": {
            "images": {
                "type": "uri_folder",
                "datastore": "scans",
                "path": "cxr/",
                "digest": digest_bytes(data),
                "files": 1200,
                "bytes": 3_400_000_000,
            }
        },
        "parameters": of["parameters"],
        "environment": {key: of[key] for key in ("requirements", "image", "python", "platform")},
        "outputs": {
            "model": {
                "type": "custom_model",
                "path": "model.onnx",
                "digest": artifact,
                "size": 2_000_000,
                "files": [{"path": "model.onnx", "size": 2_000_000, "digest": artifact}],
            }
        },
        "metrics": {"auroc": auroc},
        "metricsSource": "self-reported",
        "gates": {
            "digest": gates_digest(model().gates),
            "results": [
                {
                    "metric": "auroc",
                    "rule": "min",
                    "status": "passed",
                    "value": auroc,
                    "bound": 0.8,
                    "reference": None,
                },
                {
                    "metric": "auroc",
                    "rule": "notWorseThan production",
                    "status": "passed",
                    "value": auroc,
                    "bound": 0.85,
                    "reference": "triage@1",
                },
            ],
        },
        "egress": {"level": "enforced", "logs": "site", "files": 1, "bytes": 2_000_000, "waivers": []},
        "workspace": {"type": "mlflow", "run": "12"},
        "ticket": digest_bytes(b"ticket"),
        "edgetrain": "0.1.0",
        **changes,
    }
    found = parse_record(run_path("scan", identity, attempt), serialise(value), ordinal)
    assert isinstance(found, RunRecord)
    return found


def version(of: RunRecord, number: int, **changes: Any) -> ModelVersion:
    """The version that cites the run; `changes` replace keys of its spec."""
    spec = copy.deepcopy(version_spec(of, number, of.data["gates"])) | changes
    path = f"models/{of.model}/versions/{number}.yaml"
    return ModelVersion.from_document(document(path, "ModelVersion", f"{of.model}-{number}", spec))


def released(of: ModelVersion, *, ordinal: int = 3) -> ReleaseRecord:
    """The record that the version was released."""
    image = {
        "registry": "local",
        "repository": of.model,
        "digest": digest_bytes(f"image {of.number}".encode()),
        "base": "scratch",
        "tags": [str(of.number), "git-cccccccccccc"],
    }
    extra = {"registered": {"type": "mlflow", "version": "5"}, "image": image, "provenance": APPROVAL}
    return _release(of, "released", 1, ordinal, extra)


def moved(
    of: ModelVersion,
    before: int | None,
    after: int | None,
    *,
    follows: ReleaseRecord | None,
    number: int,
    ordinal: int,
) -> ReleaseRecord:
    """The record of a move of the channel production."""
    extra = {
        "channel": "production",
        "from": before,
        "to": after,
        "follows": follows.digest if follows else None,
        "provenance": HAND,
    }
    return _release(of, "channel", number, ordinal, extra)


def withdrawn(of: ModelVersion, why: str, *, number: int, ordinal: int) -> ReleaseRecord:
    """The record that the version was withdrawn."""
    return _release(of, "withdrawn", number, ordinal, {"why": why, "provenance": HAND})


def _release(of: ModelVersion, event: str, number: int, ordinal: int, extra: dict[str, Any]) -> ReleaseRecord:
    value = {
        "apiVersion": API_VERSION,
        "kind": "ReleaseRecord",
        "event": event,
        "model": of.model,
        "version": of.number,
        "number": number,
        "manifest": digest_bytes(b"version"),
        "run": of.record,
        "release": None,
        **extra,
    }
    path = f"models/{of.model}/versions/{of.number}.release-{number}.json"
    found = parse_record(path, serialise(value), ordinal)
    assert isinstance(found, ReleaseRecord)
    return found


def desired(
    *versions: ModelVersion,
    of: Model | None = None,
    settings: Configuration | None = None,
    **experiments: Experiment,
) -> Desired:
    """A desired state of one model."""
    known = experiments or {"scan": experiment()}
    return Desired(
        configuration=settings or configuration(),
        targets={"runner": target()},
        experiments=known,
        models={"triage": of or model()},
        versions={(found.model, found.number): found for found in versions},
        code=dict.fromkeys(known, CODE),
        locks=dict.fromkeys(known, None),
    )


def facts(*records: Record, **changes: Any) -> Facts:
    """History in which each record was brought by a signed commit."""
    added = {
        r.path: Addition(r.path, f"{r.ordinal:040x}", r.ordinal, f"2026-03-0{r.ordinal}T12:00:00Z") for r in records
    }
    hand = Hand(DANA, (RAVI,), "d" * 40, "#9", "2026-03-02T09:00:00Z")
    given = {
        "commit": "e" * 40,
        "added": added,
        "signatures": {r.path: ("good", "edgetrain@example.org") for r in records},
        "signers": True,
        "shallow": False,
        "version": hand,
        "model": hand,
        "manifest": digest_bytes(b"version"),
    }
    return Facts(**{**given, **changes})


def recorded(*records: Record) -> Recorded:
    """The records, in the order of facts."""
    return Recorded.of(records)
