"""What of a change needs a reviewer's eye, whatever else it does: who may do what, and what guards the site."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgetrain.core.checks.history import touches_record
from edgetrain.core.codeowners import PLACES
from edgetrain.core.kinds import ComputeTarget, Configuration, Experiment, Model, ModelVersion, kind_at
from edgetrain.core.plan import Difference

SIGNERS = ".github/allowed_signers"
WORKFLOWS = (".github/workflows/", ".github/actions/")
# What installs or steers the tools that the workflows run.
TOOLS = ("tools/", "pyproject.toml", "requirements.lock", "Makefile")

# What may be a model's evaluation: code and locks beside its manifest; versions and records are machine-written.
_EVALUATION = re.compile(r"models/[^/]+/(?:(?!versions/|proposals/)[^/]+/.+|[^/]+\.lock)")
_ABSENT: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Attention:
    """One thing to look at: a stable CamelCase reason, the files, and what differs in them."""

    reason: str
    paths: tuple[str, ...]
    differences: tuple[Difference, ...] = ()


def of_paths(changed: Iterable[tuple[str, str]]) -> list[Attention]:
    """By the changed files' names alone: `(status, path)`, where the status is A, M or D."""
    found: dict[str, list[str]] = {}
    for status, path in changed:
        for reason in _reasons(status, path):
            found.setdefault(reason, []).append(path)
    return [Attention(reason, tuple(sorted(found[reason]))) for reason in ORDER if reason in found]


def of_manifest(path: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Attention]:
    """By what a manifest said before and says now; None where it is not there or can't be read."""
    kind = kind_at(path)
    if kind is None or after is None or kind.type is ModelVersion:
        return []
    found: dict[str, list[Difference]] = {}
    for difference in _differences("", before or _ABSENT, after):
        reason = _REASON_OF[kind.type](difference, before is None)
        if reason:
            found.setdefault(reason, []).append(difference)
    return [Attention(reason, (path,), _spread(found[reason])) for reason in ORDER if reason in found]


def together(found: Iterable[Attention]) -> list[Attention]:
    """One of each reason, with all its files and differences."""
    by_reason: dict[str, list[Attention]] = {}
    for one in found:
        by_reason.setdefault(one.reason, []).append(one)
    return [
        Attention(
            reason,
            tuple(sorted({path for one in by_reason[reason] for path in one.paths})),
            tuple(difference for one in by_reason[reason] for difference in one.differences),
        )
        for reason in ORDER
        if reason in by_reason
    ]


def _spread(found: Iterable[Difference]) -> tuple[Difference, ...]:
    """The first of each section (`spec.limits`) before the second of any, and `spec` before what describes it: only
    some can be shown, and many labels must not hide one limit."""
    ranked: list[tuple[int, bool, Difference]] = []
    seen: dict[str, int] = {}
    for difference in found:
        section = ".".join(difference.path.split(".")[:2])
        seen[section] = seen.get(section, -1) + 1
        ranked.append((seen[section], not section.startswith("spec"), difference))
    return tuple(difference for *_, difference in sorted(ranked, key=lambda one: one[:2]))


def _reasons(status: str, path: str) -> Iterator[str]:
    kind = kind_at(path)
    if path.startswith(WORKFLOWS):
        yield "WorkflowsChanged"
    elif path in PLACES:
        yield "CodeownersChanged"
    elif path == SIGNERS:
        yield "SignersChanged"
    elif path.startswith(".github/"):
        yield "GithubChanged"
    elif path.startswith(TOOLS[0]) or path in TOOLS:
        yield "ToolsChanged"
    elif path.rpartition("/")[2] in (".gitattributes", ".gitmodules"):
        yield "AttributesChanged"
    elif touches_record(path):
        yield "RecordsTouched"
    elif kind is not None and kind.type is Configuration:
        yield "ConfigurationChanged"
    elif kind is not None and status == "D":
        yield "ManifestRemoved"
    elif _EVALUATION.fullmatch(path):
        yield "GatesChanged"


def _configuration(difference: Difference, _: bool) -> str:
    return "ConfigurationChanged"


def _target(difference: Difference, new: bool) -> str:
    if difference.path.startswith(("spec.capacity", "spec.schedulable")):
        return ""
    return _owners(difference, new) or ("TargetChanged" if difference.path.startswith("spec") else "")


def _experiment(difference: Difference, new: bool) -> str:
    if difference.path == "spec.egress.logs" and difference.desired not in ("site", None):
        return "LogsLeave"
    if difference.path.startswith("spec.inputs.") and difference.path.endswith(".onChange"):
        return "TrainsUnasked" if difference.desired == "train" else ""
    return _owners(difference, new)


def _model(difference: Difference, new: bool) -> str:
    path = difference.path
    if path == "spec.release" and difference.desired == "automatic":
        return "ReleaseAutomatic"
    if path.startswith("spec.withdrawn.") and difference.desired is None:
        return "WithdrawalTakenBack"
    if not new and path.startswith(("spec.gates", "spec.evaluation", "spec.card.riskClass")):
        return "GatesChanged"
    return _owners(difference, new)


def _owners(difference: Difference, new: bool) -> str:
    return "OwnersChanged" if difference.path == "metadata.owners" and not new else ""


_REASON_OF = {Configuration: _configuration, ComputeTarget: _target, Experiment: _experiment, Model: _model}

# The order in which they are told: what touches the whole repository first.
ORDER = (
    "WorkflowsChanged",
    "CodeownersChanged",
    "SignersChanged",
    "GithubChanged",
    "ToolsChanged",
    "AttributesChanged",
    "RecordsTouched",
    "ConfigurationChanged",
    "TargetChanged",
    "ReleaseAutomatic",
    "GatesChanged",
    "WithdrawalTakenBack",
    "LogsLeave",
    "TrainsUnasked",
    "OwnersChanged",
    "ManifestRemoved",
)


def _differences(pointer: str, before: Any, after: Any) -> Iterator[Difference]:
    """The innermost values that differ; lists are told whole. What takes a mapping's place counts as none of it."""
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        old, new = (side if isinstance(side, Mapping) else _ABSENT for side in (before, after))
        for key in sorted({*old, *new}, key=str):
            below = f"{pointer}.{key}" if pointer else str(key)
            yield from _differences(below, old.get(key), new.get(key))
    elif before != after or isinstance(before, bool) is not isinstance(after, bool):
        yield Difference(pointer, before, after)
