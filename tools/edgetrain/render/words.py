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
    "CandidateFound": "a run passed every gate",
    "ChannelDrifted": "alias or tag no longer is where the record says",
    "ChannelMoved": "the model's manifest points it elsewhere",
    "CodeChanged": "the code differs from the nearest recorded run",
    "CommandChanged": "the command differs from the nearest recorded run",
    "DataChanged": "the data differs from the nearest recorded run",
    "EnvironmentChanged": "the environment differs from the nearest recorded run",
    "ExperimentChanged": "it differs from the nearest recorded run",
    "GatesChanged": "the gates changed since it was judged; nothing is trained again",
    "IdentityChanged": "it differs from the nearest recorded run",
    "IfGatesPass": "what follows if the gates pass",
    "Missing": "it is recorded, and gone",
    "NewExperiment": "no run of it is recorded yet",
    "NewTrial": "no run with these parameters is recorded yet",
    "NewerCandidate": "a newer run takes the open proposal's place",
    "NoFreeSlot": "its targets are full",
    "OutputsChanged": "the declared outputs differ from the nearest recorded run",
    "ParametersChanged": "the parameters differ from the nearest recorded run",
    "RetryRequested": "another attempt was asked for",
    "RunLost": "the last attempt was lost",
    "RunUnderWay": "it was started before and is taken up again",
    "SeedChanged": "the seed differs from the nearest recorded run",
    "Superseded": "nobody wants this run any more",
    "TagMoved": "the tag points to another image than the record says",
    "TargetDrained": "its targets take no new runs (schedulable: false)",
    "VersionMerged": "the version was merged",
    "Withdrawn": "the model's manifest withdraws the version",
}

# What the summary counts: operation, words for one, words for many. The first three are always told.
_COUNTED: tuple[tuple[Operation, str, str], ...] = (
    (Operation.TRAIN, "to train", "to train"),
    (Operation.RELEASE, "to release", "to release"),
    (Operation.MOVE, "channel to move", "channels to move"),
    (Operation.ADOPT, "to take up again", "to take up again"),
    (Operation.CANCEL, "to cancel", "to cancel"),
    (Operation.EVALUATE, "to judge again", "to judge again"),
    (Operation.PROPOSE, "to propose", "to propose"),
    (Operation.WITHDRAW, "to withdraw", "to withdraw"),
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
    """`if gates pass: propose breast-cancer@2`."""
    return f"if gates pass: {change.operation.value} {shown(change.id.partition('/')[2])}"


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
    repairs = sum(c.operation in _STEPS and c.id.partition("/")[2] not in released for c in changes)
    if repairs:
        told.append(f"{repairs} to repair")
    updates, deletions = plan.count(Effect.UPDATE), plan.count(Effect.DELETE)
    return f"{', '.join(told)}; {plural(updates, 'update')}, {plural(deletions, 'deletion')}"


def refreshed(plan: Plan) -> str:
    """How much of the world the plan knows."""
    if plan.refreshed:
        return "Refreshed: providers were asked what is there."
    return "Offline: made from git alone; no provider was asked."
