"""Plans, problems and results with one of everything, for the golden renderings."""

from __future__ import annotations

from edgetrain.core.plan import Change, Difference, Effect, Operation, Plan
from edgetrain.core.problem import Problem, Severity
from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import ApplyResult, Result, Status

DIGEST = "sha256:" + "ab12" * 16
OTHER = "sha256:" + "cd34" * 16

PROBLEMS = (
    Problem("models/mean/model.yaml", 9, 14, "M209", "spec.gates[0].min: 7 must be at most 1", "Use a number."),
    Problem(
        "experiments/mean/experiment.yaml", 3, 5, "M204", 'spec: unknown key; did you mean "code"?', "Mend it."
    ),
    Problem("experiments/mean/experiment.yaml", 12, 1, "H406", "the clone is shallow", "Fetch.", Severity.WARNING),
)
REFUSAL = Problem(
    "experiments/big/experiment.yaml",
    7,
    12,
    "P506",
    "no target has the resources that it asks for",
    "Ask for less.",
)


def version(number: int) -> tuple[Change, ...]:
    """The four steps of a release."""
    steps = (
        ("workspace", Operation.REGISTER),
        ("image", Operation.PUSH),
        ("tags", Operation.TAG),
        ("release", Operation.RELEASE),
    )
    subject = {"model": "mean", "version": number}
    return tuple(
        Change(f"{kind}/mean@{number}", operation, Effect.CREATE, "VersionMerged", subject=subject)
        for kind, operation in steps
    )


PLAN = Plan(
    desired=DIGEST,
    changes=(
        *version(3),
        Change(
            "channel/mean/production",
            Operation.MOVE,
            Effect.UPDATE,
            "ChannelMoved",
            (Difference("channels.production", 2, 3),),
        ),
        Change(
            "channel/mean/canary",
            Operation.MOVE,
            Effect.DELETE,
            "ChannelMoved",
            (Difference("channels.canary", 2, None),),
        ),
        Change(
            "workspace/mean@1",
            Operation.REGISTER,
            Effect.CREATE,
            "WorkspaceChanged",
            (Difference("workspace", "mlflow", "azureml rg-ml/ws"), Difference("alias.production", None, 1)),
        ),
        Change(
            "attachment/hub-vm",
            Operation.ATTACH,
            Effect.UPDATE,
            "AttachmentDrifted",
            (Difference("address", "40.9.9.9", "40.1.2.3"),),
            {"target": "hub-vm", "name": "hub-vm", "sends": {"privateKey": "azure-key"}},
        ),
        Change(
            "attachment/new-vm",
            Operation.ATTACH,
            Effect.CREATE,
            "IfNotAttached",
            subject={"target": "new-vm", "sends": {"privateKey": "azure-key"}},
            conditional=True,
        ),
        Change(
            "attachment/old-vm",
            Operation.DETACH,
            Effect.DELETE,
            "TargetRetired",
            (Difference("attached", "azureml-vm", None),),
        ),
        Change("evaluation/mean-ab12ab12ab12-1", Operation.EVALUATE, Effect.CREATE, "GatesChanged"),
        Change(
            "run/digits/1a2b3c4d",
            Operation.TRAIN,
            Effect.CREATE,
            "NewTrial",
            (Difference("parameters.C", 0.1, 1.0), Difference("code", DIGEST, OTHER)),
            {"trial": {"C": 1.0, "kind": "a b"}, "attempt": 1},
        ),
        Change("run/mean", Operation.TRAIN, Effect.CREATE, "RunLost", (), {"trial": {}, "attempt": 2}),
        Change(
            "proposal/mean@4",
            Operation.PROPOSE,
            Effect.CREATE,
            "IfGatesPass",
            after=("run/digits/1a2b3c4d", "run/mean"),
            conditional=True,
        ),
    ),
    problems=(REFUSAL,),
    refreshed=True,
    waiting=(("run/slow", "TargetDrained"),),
    notes=(("foreign/mean", "registered by others, left alone: 7"),),
    managed=6,
    commit="0123456789abcdef0123456789abcdef01234567",
    egress=(
        {
            "experiment": "digits",
            "code": {"files": 2, "bytes": 4_096, "digest": DIGEST, "list": [["train.py", 4_000, OTHER]]},
            "logs": "forge",
            "azure": {
                "submitted": ["arc", "hub-vm"],
                "environment": {"image": f"acr.example/train@{DIGEST}", "requirements": OTHER, "python": "3.11"},
                "inputs": [
                    {"target": "arc", "name": "images", "path": "/data/imaging/train/"},
                    {"target": "arc", "name": "labels", "path": "/data/imaging/labels.csv"},
                ],
                "parameters": ["C", "depth"],
                "metrics": ["score"],
                "tags": ["edgetrain.identity", "edgetrain.run"],
                "keys": [{"target": "hub-vm", "secret": "azure-key", "fingerprint": "SHA256:abcd"}],
            },
            "waivers": [
                {
                    "code": "E613",
                    "path": "train.py",
                    "reason": "runs the vendor's | decoder",
                    "owner": "@example/ds",
                    "expires": "2026-12-31",
                },
                {"code": "E701", "reason": "nearest neighbours", "owner": "ada@x.example", "expires": "2027-01-01"},
            ],
        },
    ),
)
NOTHING = Plan(desired=DIGEST, changes=())

APPLIED = ApplyResult(
    plan=PLAN,
    results=(
        Result("release/mean@3", "release", Status.APPLIED, "VersionMerged", "mean@3 is released"),
        Result(
            "channel/mean/production",
            "move",
            Status.REFUSED,
            "Unreviewed",
            "alias.production is 1, not 3",
            "review `edgetrain plan --refresh --out FILE`; if that is right: `edgetrain apply --plan FILE`",
        ),
        Result(
            "run/mean",
            "train",
            Status.APPLIED,
            "ExitCode",
            "mean-ab12ab12ab12-2: the command ended with exit code 1",
            outcome=Outcome.FAILED,
        ),
        Result(
            "run/digits/1a2b3c4d",
            "train",
            Status.APPLIED,
            "GatesPassed",
            "digits-cd34cd34cd34-1: every gate passed",
            outcome=Outcome.CANDIDATE,
        ),
        Result("run/slow", "train", Status.UNDER_WAY, "LeftRunning", "slow-1 goes on"),
        Result("image/mean@3", "push", Status.FAILED, "Denied", "the registry says no", "give a right to push"),
    ),
    rounds=2,
    commit="0123456789abcdef0123456789abcdef01234567",
)
STEPS = ("git merge --no-ff origin/edgetrain/proposal/digits-1", "edgetrain logs mean-ab12ab12ab12-2")
