"""Reports of pull requests with one of everything, for the golden comments and for the tests that spoil them."""

from __future__ import annotations

from typing import Any

HEAD, BASE, COMMIT = "1f" * 20, "2e" * 20, "3d" * 20
DATA, OTHER = "sha256:" + "ab12" * 16, "sha256:" + "cd34" * 16


def difference(path: str, actual: str, desired: str) -> dict[str, str]:
    """One value that differs."""
    return {"path": path, "actual": actual, "desired": desired}


def change(operation: str, id_: str, reason: str, **more: Any) -> dict[str, Any]:
    """One change of a plan."""
    made = {"operation": operation, "id": id_, "effect": "create", "reason": reason, "differences": [], "trial": ""}
    return {**made, "sends": "", "condition": "", "due": False, **more}


def experiment(name: str, **more: Any) -> dict[str, Any]:
    """An experiment with one run to start, that ran before."""
    return {
        "name": name,
        "model": "cxr-triage",
        "runs": 1,
        "timeout": 14_400,
        "code": {"files": 3, "bytes": 41_000, "digest": OTHER, "changes": [["M", f"experiments/{name}/train.py"]]},
        "last": {"run": f"{name}-ab12ab12ab12-1", "outcome": "candidate"},
        "differences": [
            difference("code", "sha256:ab12ab12ab12", "sha256:cd34cd34cd34"),
            difference("inputs.images", "sha256:ab12ab12ab12", "sha256:cd34cd34cd34"),
            difference("parameters.lr", "0.0003", "0.0001"),
            difference("requirements", "sha256:ab12ab12ab12", "sha256:cd34cd34cd34"),
        ],
        "packages": [difference("onnx", "1.19.0", "1.20.1"), difference("pillow", "none", "12.0.0")],
        "inputs": [
            {
                "name": "images",
                "type": "uri_folder",
                "datastore": "hub-imaging",
                "path": "cxr/2026q3/",
                "digest": OTHER,
                "files": 112_120,
                "bytes": 45_600_000_000,
                "run": f"{name}-ab12ab12ab12-1",
                "same": False,
            },
            {
                "name": "labels",
                "type": "uri_file",
                "datastore": "hub-imaging",
                "path": "cxr/labels.csv",
                "digest": None,
                "files": None,
                "bytes": None,
                "run": None,
                "same": False,
            },
        ],
        "outputs": [
            {
                "name": "model",
                "type": "custom_model",
                "path": "model.onnx",
                "maxSize": 419_430_400,
                "lastSize": 31_300_000,
            }
        ],
        "metrics": ["auroc", "sensitivity"],
        "logs": "forge",
        "targets": [
            {
                "name": "radiology-gpu-1",
                "type": "ssh",
                "site": "st-anna",
                "schedulable": True,
                "level": "enforced",
                "run": f"{name}-ab12ab12ab12-1",
                "enforcedOnly": True,
            },
            {
                "name": "hub-vm",
                "type": "azureml-vm",
                "site": "st-anna",
                "schedulable": True,
                "level": "advisory",
                "run": "digits-cd34cd34cd34-2",
                "enforcedOnly": False,
            },
        ],
        "seconds": {"median": 9_240.0, "runs": 7},
        **more,
    }


def report(**more: Any) -> dict[str, Any]:
    """A report of a pull request that changes nothing."""
    return {
        "apiVersion": "edgetrain/v1",
        "kind": "PullRequestReport",
        "edgetrain": "0.1.0",
        "number": 12,
        "head": HEAD,
        "base": BASE,
        "commit": COMMIT,
        "merge": "merged",
        "changed": {"added": 0, "modified": 1, "deleted": 0},
        "plan": {"digest": DATA, "summary": "no changes", "due": ""},
        "conflicts": [],
        "problems": [],
        "attention": [],
        "changes": [],
        "waiting": [],
        "experiments": [],
        "azure": [],
        "images": [],
        "waivers": [],
        "codeowners": [],
        "owners": [],
        "environment": None,
        "notes": [],
        "leftOut": {},
        **more,
    }


NEW = experiment(
    "ward-beds",
    last=None,
    differences=[],
    packages=[],
    code={"files": 2, "bytes": 1_200, "digest": DATA, "changes": None},
    logs="site",
    runs=24,
    targets=[
        {
            "name": "runner",
            "type": "local",
            "site": "st-anna",
            "schedulable": True,
            "level": None,
            "run": None,
            "enforcedOnly": False,
        }
    ],
    seconds=None,
)
WAIVERS = [
    {
        "experiment": "cxr-densenet",
        "code": "E613",
        "path": "",
        "reason": "runs the vendor's decoder",
        "owner": "@hosp/ds",
        "expires": "2026-12-31",
        "new": False,
    },
    {
        "experiment": "cxr-densenet",
        "code": "E701",
        "path": "model.onnx",
        "reason": "nearest neighbours keep 32 of the training images, by design",
        "owner": "@hosp/platform",
        "expires": "2027-06-30",
        "new": True,
    },
]
GOOD = report(
    changed={"added": 27, "modified": 4, "deleted": 1},
    plan={
        "digest": DATA,
        "summary": "25 to train, 1 to release, 1 channel to move; 1 update, 0 deletions",
        "due": "1 to train, 0 to release, 0 channels to move; 0 updates, 0 deletions",
    },
    attention=[
        {
            "reason": "ToolsChanged",
            "paths": ["requirements.lock", "tools/edgetrain/core/gate.py"],
            "count": 2,
            "differences": [],
        },
        {
            "reason": "ConfigurationChanged",
            "paths": ["edgetrain.yaml"],
            "count": 1,
            "differences": [
                difference("spec.limits.deletions.absolute", "3", "30"),
                difference("spec.secrets.site-key.source.file", "none", "/etc/edgetrain/site-key"),
            ],
        },
        {
            "reason": "LogsLeave",
            "paths": ["experiments/cxr-densenet/experiment.yaml"],
            "count": 1,
            "differences": [difference("spec.egress.logs", "site", "forge")],
        },
    ],
    changes=[
        change("register", "workspace/cxr-triage@3", "VersionMerged"),
        change("push", "image/cxr-triage@3", "VersionMerged"),
        change("tag", "tags/cxr-triage@3", "VersionMerged"),
        change("release", "release/cxr-triage@3", "VersionMerged"),
        change(
            "move",
            "channel/cxr-triage/production",
            "ChannelMoved",
            effect="update",
            differences=[difference("channels.production", "2", "3")],
        ),
        change(
            "train",
            "run/cxr-densenet",
            "ExperimentChanged",
            differences=[
                difference("code", "sha256:ab12ab12ab12", "sha256:cd34cd34cd34"),
                difference("parameters.lr", "0.0003", "0.0001"),
            ],
        ),
        *(
            change("train", f"run/ward-beds/{number:08x}", "NewExperiment", trial=f"depth={number}")
            for number in range(1, 25)
        ),
        change(
            "attach",
            "attachment/hub-vm",
            "IfNotAttached",
            sends="sends the private key of secret azure-key to the workspace's cloud",
            condition="if the workspace does not have it so yet: attach hub-vm",
        ),
        change("propose", "proposal/cxr-triage@4", "IfGatesPass", condition="if gates pass: propose cxr-triage@4"),
        change("train", "run/digits", "RunLost", due=True, differences=[difference("attempt", "1", "2")]),
    ],
    waiting=[{"object": "run/slow", "reason": "TargetDrained"}],
    experiments=[experiment("cxr-densenet"), NEW],
    azure=[
        {
            "experiment": "cxr-densenet",
            "lines": [
                "to Azure with the run (on hub-vm): the code's files, the run's order, the packages' lock",
                "to Azure when hub-vm is attached: the private key of secret azure-key",
            ],
        }
    ],
    images=[
        {
            "version": "cxr-triage@3",
            "bytes": 31_300_000,
            "registry": "acr",
            "host": "acr.example",
            "repository": "cxr-triage",
            "workspace": "azureml",
        },
        {
            "version": "mean@1",
            "bytes": 1_200,
            "registry": "local",
            "host": "",
            "repository": "mean",
            "workspace": "mlflow",
        },
    ],
    waivers=WAIVERS,
    codeowners=[
        {"owners": ["@hosp/platform"], "paths": ["edgetrain.yaml", "requirements.lock"], "count": 2},
        {"owners": ["@hosp/ds", "@grace"], "paths": ["experiments/cxr-densenet/experiment.yaml"], "count": 29},
        {"owners": [], "paths": ["README.md"], "count": 1},
    ],
    owners=[{"path": "experiments/cxr-densenet/experiment.yaml", "owners": ["@hosp/ds"]}],
    environment="edgetrain-release",
)
PROBLEMS = [
    {
        "path": "models/mean/model.yaml",
        "line": 9,
        "column": 14,
        "code": "M209",
        "what": "spec.gates[0].min: 7 must be at most 1",
        "fix": "Use a number within the bounds.",
        "severity": "problem",
        "touched": True,
    },
    {
        "path": "experiments/big/experiment.yaml",
        "line": 7,
        "column": 12,
        "code": "P506",
        "what": "no target has the resources that it asks for",
        "fix": "Ask for less.",
        "severity": "problem",
        "touched": False,
    },
    {
        "path": ".",
        "line": 1,
        "column": 1,
        "code": "H406",
        "what": "the clone is shallow: commits of this branch are cut off",
        "fix": "Fetch the whole history.",
        "severity": "warning",
        "touched": False,
    },
]
BAD = report(
    plan=None,
    problems=PROBLEMS,
    attention=[
        {
            "reason": "WorkflowsChanged",
            "paths": [".github/workflows/apply.yml", ".github/workflows/pull-request.yml"],
            "count": 2,
            "differences": [],
        },
        {
            "reason": "RecordsTouched",
            "paths": ["experiments/scan/runs/ab12ab12ab12-1.json"],
            "count": 1,
            "differences": [],
        },
    ],
    codeowners=[{"owners": ["@hosp/platform"], "paths": [".github/workflows/apply.yml"], "count": 2}],
    notes=["the clone is shallow: the order of older records, and who wrote them, can't be told"],
)
CONFLICT = report(
    merge="conflict",
    commit=HEAD,
    conflicts=["experiments/scan/experiment.yaml", "models/triage/model.yaml"],
    plan={"digest": DATA, "summary": "no changes", "due": ""},
)
NOTHING = report(changed={"added": 1, "modified": 0, "deleted": 0})
