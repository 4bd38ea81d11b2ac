"""Core objects for tests: a small valid repository as text, desired state from it, and records that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from edgetrain.core.decide import version_manifest
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes, digest_of
from edgetrain.core.gate import gates_digest
from edgetrain.core.identity import fields, identity
from edgetrain.core.kinds import (
    ComputeTarget,
    Configuration,
    Experiment,
    Manifest,
    Model,
    ModelVersion,
    kind_at,
    parse,
)
from edgetrain.core.record import Record, RunRecord, parse_record, run_id, run_path, serialise
from edgetrain.core.recorded import Recorded
from edgetrain.repo import schema
from edgetrain.repo.reader import read

DATA = "sha256:" + "da" * 32
OTHER_DATA = "sha256:" + "db" * 32
COMMIT = "c0" * 20
PROVENANCE = {"mergeCommit": COMMIT, "proposer": "Dana <dana@example.org>", "approvers": [], "pullRequest": None}
SERVED = {
    "compute": ["local", "ssh"],
    "datastore": ["azure-blob", "folder"],
    "workspace": ["mlflow"],
    "registry": ["oci-layout", "oci"],
    "artifacts": ["folder"],
}
# An Azure ML workspace, as a part of the `spec` of edgetrain.yaml.
WORKSPACE = """\
  workspace:
    type: azureml
    subscription: 0b1f6471-1bf0-4dda-aec3-cb9272f09590
    resourceGroup: rg-ml
    name: ws
    cloud: AzureCloud
    auth: {type: oidc, tenant: 0b1f6471-1bf0-4dda-aec3-cb9272f09590, clientId: 0b1f6471-1bf0-4dda-aec3-cb9272f09590}
"""
LOCK = "one==1.0 \\\n    --hash=sha256:" + "1" * 64 + "\n"

FILES: dict[str, str] = {
    "edgetrain.yaml": """\
apiVersion: edgetrain/v1
kind: Configuration
metadata: {name: edgetrain}
spec:
  sites:
    here:
      networks: [10.0.0.0/8]
      state: /srv/edgetrain
      datastores:
        store: {type: folder, path: /srv/data}
    there:
      state: /srv/edgetrain
      datastores:
        imaging: {type: folder, path: /srv/imaging}
  registries:
    local: {type: oci-layout}
    acr: {type: oci, host: acr.example, credential: {username: edge, password: {secret: acr}}}
  secrets:
    acr: {source: {environment: ACR_PASSWORD}}
    site-key: {source: {file: /etc/edgetrain/key}, targets: [gpu]}
  allowedBases: ["acr.example/train@sha256:1111111111111111111111111111111111111111111111111111111111111111"]
  machine: {name: edgetrain, email: machine@example.org}
""",
    "compute/runner.yaml": """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {name: runner}
spec:
  type: local
  site: here
""",
    "compute/gpu.yaml": """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {name: gpu, labels: {gpu: a100}}
spec:
  type: ssh
  site: here
  ssh:
    host: 10.20.4.11
    username: edgetrain
    hostKeys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"]
    privateKey: {secret: site-key}
  engine: docker
""",
    "experiments/mean/experiment.yaml": """\
apiVersion: edgetrain/v1
kind: Experiment
metadata: {name: mean, owners: ["@example/ds"]}
spec:
  model: mean
  compute: runner
  command: python train.py --data ${{inputs.table}} --shift ${{inputs.shift}} --out ${{outputs.model}}
  inputs:
    table: {type: uri_folder, datastore: store, path: table/, digest: latest}
    shift: 0.5
  outputs:
    model: {type: custom_model, path: model.json, maxSize: 1Mi}
  metrics: [score]
  environment: {requirements: requirements.lock}
  limits: {timeout: 2m, retries: 1}
  seed: 1
""",
    "experiments/mean/train.py": "print('training')\n",
    "experiments/mean/requirements.lock": LOCK,
    "experiments/search/experiment.yaml": """\
apiVersion: edgetrain/v1
kind: Experiment
metadata: {name: search}
spec:
  model: searched
  compute: {selector: {gpu: a100}}
  code: src
  command: python train.py --lr ${{inputs.lr}} --depth ${{inputs.depth}}
  inputs: {depth: 3}
  outputs:
    model: {type: custom_model, path: model.json}
  metrics: [loss]
  environment:
    image: acr.example/train@sha256:1111111111111111111111111111111111111111111111111111111111111111
    python: "3.11"
  objective: {goal: minimize, primaryMetric: loss}
  samplingAlgorithm: {type: grid}
  searchSpace:
    lr: {type: choice, values: [0.1, 0.2]}
""",
    "experiments/search/src/train.py": "print('searching')\n",
    "models/mean/model.yaml": """\
apiVersion: edgetrain/v1
kind: Model
metadata: {name: mean, owners: ["@example/ds"]}
spec:
  gates:
    - {metric: score, goal: maximize, min: 0.1, notWorseThan: production}
  channels: {production: 2}
  withdrawn: {1: "wrong labels"}
""",
    "models/searched/model.yaml": """\
apiVersion: edgetrain/v1
kind: Model
metadata: {name: searched}
spec:
  gates:
    - {metric: loss, goal: minimize, max: 1.5}
  release: automatic
""",
}


def manifest(path: str, text: str) -> Manifest:
    """A manifest from text that must be sound."""
    document, problems = read(text.encode(), path)
    kind = kind_at(path)
    assert document is not None
    assert kind is not None
    assert problems + schema.check(document, kind.name) == []
    return parse(document, kind)


def desired(files: Mapping[str, str] = FILES, *, code: Mapping[str, str] | None = None) -> Desired:
    """Desired state of the manifests in `files`. Code digests are made up unless given by experiment."""
    found = [manifest(path, text) for path, text in files.items() if kind_at(path)]
    experiments = {item.name: item for item in found if isinstance(item, Experiment)}
    return Desired(
        configuration=next(item for item in found if isinstance(item, Configuration)),
        targets={item.metadata.name: item for item in found if isinstance(item, ComputeTarget)},
        experiments=experiments,
        models={item.name: item for item in found if isinstance(item, Model)},
        versions={(item.model, item.number): item for item in found if isinstance(item, ModelVersion)},
        code={name: (code or {}).get(name, digest_of(name)) for name in experiments},
        locks={
            name: None if item.lock_path is None else digest_bytes(files[item.lock_path].encode())
            for name, item in experiments.items()
        },
    )


def edited(path: str, old: str, new: str, files: Mapping[str, str] = FILES) -> dict[str, str]:
    """The files with one text, which must be there once, replaced in one of them."""
    assert files[path].count(old) == 1, (path, old)
    return {**files, path: files[path].replace(old, new)}


def with_workspace(files: Mapping[str, str] = FILES) -> dict[str, str]:
    """The files with a workspace of type azureml."""
    return edited("edgetrain.yaml", "  sites:\n", WORKSPACE + "  sites:\n", files)


def run_data(
    state: Desired,
    name: str = "mean",
    trial: Mapping[str, Any] | None = None,
    *,
    outcome: str = "candidate",
    attempt: int = 1,
    metrics: Mapping[str, float] | None = None,
    data: str = DATA,
    python: str = "3.11",
) -> dict[str, Any]:
    """The data of a run record of what `state` wants, as the runner would write it."""
    experiment = state.experiments[name]
    of = fields(
        experiment,
        trial or {},
        code=state.code[name],
        requirements=state.locks[name],
        inputs=dict.fromkeys(experiment.data, data),
        python=python,
        platform="linux/amd64",
    )
    model = state.models.get(experiment.model)
    return {
        "apiVersion": "edgetrain/v1",
        "kind": "RunRecord",
        "experiment": name,
        "model": experiment.model,
        "identity": identity(of),
        "identityOf": of,
        "attempt": attempt,
        "trial": dict(trial or {}),
        "outcome": outcome,
        "reason": "Test",
        "message": "",
        "commit": COMMIT,
        "provenance": PROVENANCE,
        "target": {"name": "runner", "type": "local", "site": "here", "egress": "enforced", "isolation": {}},
        "inputs": {
            input_: {
                "type": source.type,
                "datastore": source.datastore,
                "path": source.path,
                "digest": data,
                "files": 1,
                "bytes": 6,
            }
            for input_, source in experiment.data.items()
        },
        "parameters": of["parameters"],
        "environment": {key: of[key] for key in ("requirements", "image", "python", "platform")},
        "outputs": {
            output: {
                "type": declared.type,
                "path": declared.path,
                "digest": digest_of(output),
                "size": 2,
                "files": [{"path": declared.path, "size": 2, "digest": digest_of(output)}],
            }
            for output, declared in experiment.outputs.items()
        },
        "metrics": dict({experiment.metrics[0]: 0.5} if metrics is None else metrics),
        "metricsSource": "self-reported",
        "gates": {"digest": gates_digest(model.gates if model else ()), "results": []},
        "egress": {"level": "enforced", "logs": "site", "files": 1, "bytes": 2, "waivers": []},
    }


def record_of(path: str, data: Mapping[str, Any], ordinal: int = 0) -> Any:
    """A record as parsed from its bytes."""
    return parse_record(path, serialise(data), ordinal)


def run(state: Desired, name: str = "mean", ordinal: int = 0, **options: Any) -> RunRecord:
    """A run record; options as in `run_data`."""
    data = run_data(state, name, **options)
    found: RunRecord = record_of(run_path(name, data["identity"], data["attempt"]), data, ordinal)
    return found


def evaluation(
    of: RunRecord, outcome: str, gates: str = "sha256:none", number: int = 1, ordinal: int = 0
) -> Record:
    """The run judged again."""
    data = {
        "apiVersion": "edgetrain/v1",
        "kind": "EvaluationRecord",
        "run": of.digest,
        "number": number,
        "outcome": outcome,
        "reason": "Test",
        "message": "",
        "gates": {"digest": gates, "results": []},
    }
    found: Record = record_of(of.path.replace(".json", f".evaluation-{number}.json"), data, ordinal)
    return found


def proposal(of: RunRecord, version: int, ordinal: int = 0) -> Record:
    """The record that the run was proposed under this number."""
    short = of.identity.removeprefix("sha256:")[:12]
    data = {
        "apiVersion": "edgetrain/v1",
        "kind": "ProposalRecord",
        "model": of.model,
        "version": version,
        "run": of.digest,
        "branch": f"edgetrain/proposal/{of.model}-{version}",
    }
    found: Record = record_of(f"models/{of.model}/proposals/{version}-{short}-{of.attempt}.json", data, ordinal)
    return found


def released(of: RunRecord, version: int, number: int = 1, ordinal: int = 0) -> Record:
    """The record that the run's version was released."""
    image = {"registry": "local", "repository": of.model, "digest": digest_of(version), "tags": [str(version)]}
    return _release(of.model, version, number, ordinal, event="released", run=of.digest, image=image)


def moved(
    model: str, channel: str, old: int | None, new: int | None, number: int, follows: Record | None = None
) -> Record:
    """The record that a channel was moved."""
    return _release(
        model,
        new if new is not None else old or 0,
        number,
        event="channel",
        channel=channel,
        **{"from": old},
        to=new,
        follows=follows.digest if follows else None,
    )


def withdrawal(model: str, version: int, number: int) -> Record:
    """The record that a version was withdrawn."""
    return _release(model, version, number, event="withdrawn", why="wrong")


def _release(model: str, version: int, number: int, ordinal: int = 0, **facts: Any) -> Record:
    data = {
        "apiVersion": "edgetrain/v1",
        "kind": "ReleaseRecord",
        "model": model,
        "version": version,
        "number": number,
        "manifest": digest_of("manifest"),
        "run": digest_of("run"),
        **facts,
    }
    found: Record = record_of(f"models/{model}/versions/{version}.release-{number}.json", data, ordinal)
    return found


def version_text(of: RunRecord, number: int, recorded: Recorded | None = None) -> str:
    """The manifest of the version that cites the run."""
    manifest_ = version_manifest(of, number, recorded or Recorded.of([of]), ["@example/ds"])
    return yaml.safe_dump(manifest_, sort_keys=False, width=200)


def with_versions(files: Mapping[str, str], *runs: RunRecord) -> dict[str, str]:
    """The files with versions 1, 2, ... of the runs' models."""
    found = dict(files)
    for number, of in enumerate(runs, 1):
        found[f"models/{of.model}/versions/{number}.yaml"] = version_text(of, number)
    return found


def ticket(of: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the facts of a started, unrecorded run, from the data of its record."""
    name = run_id(of["experiment"], of["identity"], of["attempt"])
    return name, {
        "experiment": of["experiment"],
        "identity": of["identity"],
        "identityOf": of["identityOf"],
        "attempt": of["attempt"],
        "site": "here",
    }
