"""The words in which plans and results are told: safe values, reasons as sentences, counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgetrain.core.digest import SHA256, short
from edgetrain.core.plan import Change, Effect, Operation, Plan
from edgetrain.core.problem import shown
from edgetrain.core.quantity import human_bytes

VALUE_LIMIT = 60

REASONS = {
    "AttachmentDrifted": "somebody changed the attachment; its manifest did not change",
    "AttachmentFailed": "the workspace failed to attach it",
    "CandidateFound": "a run passed every gate",
    "ChannelDrifted": "alias or tag no longer is where the record says",
    "ChannelMoved": "the model's manifest points it elsewhere",
    "CodeChanged": "the code differs from the nearest recorded run",
    "CommandChanged": "the command differs from the nearest recorded run",
    "DataChanged": "the data differs from the nearest recorded run",
    "DatastoreChanged": "its declaration changed since it was registered",
    "DatastoreRemoved": "edgetrain.yaml does not want it registered any more",
    "EnvironmentChanged": "the environment differs from the nearest recorded run",
    "ExperimentChanged": "it differs from the nearest recorded run",
    "EvaluationChanged": "the evaluation changed since it was judged; nothing is trained again",
    "GatesChanged": "the gates changed since it was judged; nothing is trained again",
    "IdentityChanged": "it differs from the nearest recorded run",
    "IfGatesPass": "what follows if the gates pass",
    "IfNotAttached": "git does not know what is attached",
    "Missing": "it is recorded, and gone",
    "NoCandidate": "its run is no candidate any more, by the gates and the evaluation of now",
    "NewExperiment": "no run of it is recorded yet",
    "NewTrial": "no run with these parameters is recorded yet",
    "NewerCandidate": "a newer run takes the open proposal's place",
    "NoFreeSlot": "its targets are full",
    "NotAttached": "the workspace does not have it attached yet",
    "OutputsChanged": "the declared outputs differ from the nearest recorded run",
    "ParametersChanged": "the parameters differ from the nearest recorded run",
    "RetryRequested": "another attempt was asked for",
    "RunLost": "the last attempt was lost",
    "RunUnderWay": "it was started before and is taken up again",
    "SeedChanged": "the seed differs from the nearest recorded run",
    "Superseded": "nobody wants this run any more",
    "TagMoved": "the tag points to another image than the record says",
    "NotProbed": "no run has looked yet at what holds a script back there",
    "TargetAttaching": "the workspace is still attaching the target",
    "TargetChanged": "the target's manifest, or its key, changed since it was attached",
    "TargetDetaching": "the workspace is still detaching the target",
    "TargetDrained": "its targets take no new runs (schedulable: false)",
    "TargetInUse": "a run is under way there; the next apply after it goes on",
    "TargetProbing": "a run looks at what holds a script back there; the next apply goes on",
    "TargetRemoved": "no manifest wants it attached any more",
    "TargetRetired": "its manifest says retired",
    "VersionMerged": "the version was merged",
    "Withdrawn": "the model's manifest withdraws the version",
    "WorkspaceChanged": "edgetrain.yaml names another workspace; the version is registered there anew",
    "WorkspaceDrifted": "somebody changed the version's tags in the workspace",
}

# What the summary counts: operation, words for one, words for many. The first three are always told.
_COUNTED: tuple[tuple[Operation, str, str], ...] = (
    (Operation.TRAIN, "to train", "to train"),
    (Operation.RELEASE, "to release", "to release"),
    (Operation.MOVE, "channel to move", "channels to move"),
    (Operation.ADOPT, "to take up again", "to take up again"),
    (Operation.CANCEL, "to cancel", "to cancel"),
    (Operation.EVALUATE, "to judge again", "to judge again"),
    (Operation.SCORE, "to evaluate again", "to evaluate again"),
    (Operation.PROPOSE, "to propose", "to propose"),
    (Operation.CLOSE, "proposal to close", "proposals to close"),
    (Operation.WITHDRAW, "to withdraw", "to withdraw"),
    (Operation.ATTACH, "to attach", "to attach"),
    (Operation.DETACH, "to detach", "to detach"),
)
_ALWAYS = (Operation.TRAIN, Operation.RELEASE, Operation.MOVE)
_STEPS = (Operation.REGISTER, Operation.PUSH, Operation.TAG)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 problem`, `2 problems`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def value(found: Any) -> str:
    """A JSON value in one short line: digests cut, text in quotes only where it could be misread."""
    if found is None:
        return "none"
    if isinstance(found, str):
        if SHA256.fullmatch(found):
            return f"sha256:{short(found)}"
        plain = found and found.isprintable() and found == found.strip() and '"' not in found
        return shown(found if plain else json.dumps(found), VALUE_LIMIT)
    return shown(json.dumps(found, ensure_ascii=False, sort_keys=True), VALUE_LIMIT)


def differences(change: Change) -> list[tuple[str, str, str]]:
    """Field, actual and desired of each difference, fit to print."""
    return [
        (shown(found.path), value(found.actual), value(found.desired)) for found in change.differences
    ] + _circumstances(change)


def _circumstances(change: Change) -> list[tuple[str, str, str]]:
    """What a reader must know of a run besides what differs: which trial it is, and which attempt."""
    told = []
    attempt = change.subject.get("attempt")
    if isinstance(attempt, int) and attempt > 1:
        told.append(("attempt", value(attempt - 1), value(attempt)))
    return told


def trial(change: Change) -> str:
    """`C=0.1, depth=3` for a trial of a sweep, or nothing."""
    parameters = change.subject.get("trial")
    if not isinstance(parameters, dict):
        return ""
    return ", ".join(f"{shown(name, 40)}={value(parameters[name])}" for name in sorted(parameters))


def why(reason: str) -> str:
    """`NewExperiment: no run of it is recorded yet`."""
    said = REASONS.get(reason)
    return f"{shown(reason)}: {said}" if said else shown(reason)


def condition(change: Change) -> str:
    """`if gates pass: propose breast-cancer@2`, or `if Azure ML does not have it so yet: attach hub-vm`."""
    if change.operation is Operation.ATTACH:
        sent = f"; {sends(change)}" if sends(change) else ""
        return f"if the workspace does not have it so yet: attach {shown(change.id.partition('/')[2])}{sent}"
    return f"if gates pass: {change.operation.value} {shown(change.id.partition('/')[2])}"


def sends(change: Change) -> str:
    """What of the site a change tells or gives away, or nothing."""
    if tells := change.subject.get("tells"):
        told = ", ".join(f"{shown(name)} {shown(tells[name])}" for name in sorted(tells))
        return f"tells the workspace's cloud {told}, and no credential"
    secret = change.subject.get("sends", {}).get("privateKey")
    return f"sends the private key of secret {shown(secret)} to the workspace's cloud" if secret else ""


def moves(plan: Plan) -> list[str]:
    """What a move to another workspace means, where the plan has one."""
    changed = [change for change in plan.changes if change.reason == "WorkspaceChanged"]
    if not changed:
        return []
    where = {(str(d.actual), str(d.desired)) for c in changed for d in c.differences if d.path == "workspace"}
    told = [f"The workspace moves from {shown(old)} to {shown(new)}." for old, new in sorted(where)]
    return [
        *told,
        f"{plural(len(changed), 'version')} {'is' if len(changed) == 1 else 'are'} registered there anew with the "
        "same digests, and the channels' aliases are set. Nothing is trained again and nothing is deleted: the "
        "history of runs stays where it was, and the records in git still name it.",
    ]


def azure_lines(azure: Mapping[str, Any]) -> list[str]:
    """What of an experiment's runs would travel to Azure, in lines."""
    listed = {
        key: ", ".join(shown(name) for name in azure[key]) or "none" for key in ("parameters", "metrics", "tags")
    }
    lines = []
    if azure["submitted"]:
        on = ", ".join(shown(name) for name in azure["submitted"])
        lines.append(
            f"to Azure with the run (on {on}): the code's files above, edgetrain's own programs, the run's order "
            f"(command, parameters, limits, names of inputs and outputs), {environment_line(azure)}"
        )
    for target in sorted({place["target"] for place in azure.get("inputs", ())}):
        places = ", ".join(
            f"{shown(place['name'])} at {shown(place['path'], 500)}"
            for place in azure.get("inputs", ())
            if place["target"] == target
        )
        lines.append(f"to Azure with the run (on {shown(target)}), as paths and without contents: inputs {places}")
    if scored := azure.get("evaluation"):
        on = ", ".join(shown(name) for name in scored["targets"])
        slices = ", ".join(shown(name) for name in scored["slices"]) or "those that it tells"
        lines.append(
            f"to Azure with the run of the model's evaluation (on {on}): its code ({code_line(scored['code'])}, "
            f"{value(scored['code']['digest'])}), its command, the packages' lock "
            f"({value(scored['requirements'])}); and its metrics, by slice too ({slices}), once the content check "
            "has passed"
        )
    lines.append(
        f"to Azure as the run's record: parameters {listed['parameters']}; metrics {listed['metrics']}, once the "
        f"content check has passed; tags {listed['tags']}"
    )
    if azure["submitted"]:
        lines.append("to Azure once the content check has passed: the declared outputs and the check's summary")
    lines += [
        f"to Azure when {shown(key['target'])} is attached: the private key of secret {shown(key['secret'])}"
        + (f" ({shown(key['fingerprint'])})" if key.get("fingerprint") else "")
        for key in azure["keys"]
    ]
    return lines


def environment_line(azure: Mapping[str, Any]) -> str:
    """The environment that goes with a submitted run."""
    environment = azure["environment"]
    image = shown(environment["image"] or "none", 200)
    lock = environment["requirements"]
    return f"the packages' lock ({value(lock)}), the image's name ({image})"


def waiver_line(waiver: Mapping[str, Any]) -> str:
    """`E613 in train.py until 2026-12-31, @hosp/ds: why`, of a waiver as plans and records tell it."""
    place = f" in {shown(waiver['path'], 200)}" if waiver.get("path") else ""
    told = {key: shown(waiver.get(key, "?"), 1000) for key in ("code", "expires", "owner", "reason")}
    return f"{told['code']}{place} until {told['expires']}, {told['owner']}: {told['reason']}"


def code_line(code: Mapping[str, Any]) -> str:
    """`3 files, 4.1 kB`."""
    return f"{plural(int(code['files']), 'file')}, {human_bytes(int(code['bytes']))}"


def logs_line(logs: str) -> str:
    """Where the script's output goes."""
    return "stay at the site" if logs == "site" else "leave the site once the content check has passed"


def pending(plan: Plan) -> list[Change]:
    """The changes that apply makes whatever the runs give."""
    return [change for change in plan.changes if not change.conditional]


def summary(plan: Plan) -> str:
    """The one line that says it all: `2 to train, 1 to release, ...; 0 updates, 0 deletions`."""
    changes = pending(plan)
    if not changes:
        return "no changes"
    counts = {operation: sum(c.operation is operation for c in changes) for operation in Operation}
    told = [
        f"{counts[operation]} {one if counts[operation] == 1 else many}"
        for operation, one, many in _COUNTED
        if counts[operation] or operation in _ALWAYS
    ]
    released = {change.id.partition("/")[2] for change in changes if change.operation is Operation.RELEASE}
    anew = sum(c.reason == "WorkspaceChanged" for c in changes)
    repairs = sum(c.operation in _STEPS and c.id.partition("/")[2] not in released for c in changes) - anew
    if anew:
        told.append(f"{anew} to register anew")
    if repairs:
        told.append(f"{repairs} to repair")
    updates, deletions = plan.count(Effect.UPDATE), plan.count(Effect.DELETE)
    return f"{', '.join(told)}; {plural(updates, 'update')}, {plural(deletions, 'deletion')}"


def refreshed(plan: Plan) -> str:
    """How much of the world the plan knows."""
    if plan.refreshed:
        return "Refreshed: providers were asked what is there."
    return "Offline: made from git alone; no provider was asked."
