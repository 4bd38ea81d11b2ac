"""The report on a pull request as JSON: bounded, and of plain texts, for it is rendered where it is not trusted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgetrain import __version__
from edgetrain.core import codeowners
from edgetrain.core.attention import Attention
from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_of
from edgetrain.core.egress import to_json
from edgetrain.core.errors import RepositoryError
from edgetrain.core.kinds import Configuration, Experiment, kind_at
from edgetrain.core.plan import Change, Operation, Plan
from edgetrain.core.problem import Problem, Severity, shown
from edgetrain.core.record import API_VERSION
from edgetrain.reconcile.judge import CONFIGURATION, manifest_of
from edgetrain.reconcile.pull_request_merge import Merge
from edgetrain.reconcile.pull_request_runs import difference_json, experiments_told
from edgetrain.reconcile.state import State
from edgetrain.render.words import azure_lines, condition, sends, summary, trial
from edgetrain.render.words import differences as told_differences
from edgetrain.repo import reader
from edgetrain.repo.git import Git
from edgetrain.repo.tree import Tree

KIND = "PullRequestReport"
# What a reader can take in, and more; what is left out is counted.
MOST = {
    "problems": 300,
    "attention": 30,
    "changes": 300,
    "waiting": 100,
    "experiments": 40,
    "waivers": 100,
    "images": 50,
    "codeowners": 50,
    "owners": 100,
    "azure": 40,
    "conflicts": 50,
}
MOST_OF_ONE = 50
MOST_TEXT = 2000
MOST_ITEMS = 1000
FEW_ITEMS = 5
MOST_BYTES = 3 * 2**20

# What the environment on the forge guards.
GUARDED = frozenset({Operation.RELEASE, Operation.REGISTER, Operation.PUSH, Operation.MOVE, Operation.WITHDRAW})

_STATUSES = {"added": "A", "modified": "M", "deleted": "D"}


@dataclass(frozen=True)
class Facts:
    """All that is known of the pull request. `before` are the files of the merge's base, `changed` the
    `(status, path)` against it, `due` the keys of changes that the base branch asks for already."""

    number: int
    head: str
    merge: Merge
    before: Tree
    state: State
    problems: Sequence[Problem]
    plan: Plan | None
    changed: Sequence[tuple[str, str]]
    attention: Sequence[Attention]
    due: frozenset[str] = frozenset()


def effect_key(change: Change) -> str:
    """What tells two changes apart, whatever the commit that they were planned for."""
    return digest_of([change.id, change.operation.value, change.effect.value, dict(change.subject)])


def report_of(facts: Facts) -> dict[str, Any]:
    """The report, as `report.schema.json` has it."""
    merge, state, plan = facts.merge, facts.state, facts.plan
    touched = {path for _, path in facts.changed}
    desired = state.loaded.desired
    mine, due = _parted(plan, facts.due) if plan else ([], [])
    lists: dict[str, list[Any]] = {
        "conflicts": list(merge.conflicts or ()),
        "problems": [{**_problem(found), "touched": found.path in touched} for found in _worst(facts.problems)],
        "attention": [_attention(one) for one in facts.attention],
        "changes": [_change(one, False) for one in mine] + [_change(one, True) for one in due],
        "waiting": [{"object": name, "reason": why} for name, why in plan.waiting] if plan else [],
        "experiments": list(experiments_told(state, mine)),
        "azure": list(_azure(plan, mine)) if plan else [],
        "images": list(_images(state.desired, mine)) if plan else [],
        "waivers": list(_waivers(desired, facts, mine)) if desired else [],
        "codeowners": list(_codeowners(state.git, merge, touched)),
        "owners": list(_owners(facts.before, state.tree, touched)),
    }
    left = {name: len(found) - MOST[name] for name, found in lists.items()}
    kept = {name: found[: MOST[name]] for name, found in lists.items()}
    told: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "edgetrain": __version__,
        "number": facts.number,
        "head": facts.head,
        "base": merge.tip,
        "commit": merge.commit,
        "merge": merge.state,
        "changed": {name: sum(how == letter for how, _ in facts.changed) for name, letter in _STATUSES.items()},
        "plan": _sums(plan, mine, due) if plan else None,
        **kept,
        "environment": _environment(state.git, merge) if _releases(mine) else None,
        "notes": [note for note in (merge.note, _shallow(state.git)) if note],
        "leftOut": {name: count for name, count in sorted(left.items()) if count > 0},
    }
    bounded: dict[str, Any] = _bounded(told, MOST_ITEMS)
    if len(json.dumps(bounded)) > MOST_BYTES:
        told["notes"].append("there is more to tell than a report can hold: its lists are cut short")
        bounded = _bounded(told, FEW_ITEMS)
    return bounded


def _bounded(told: Any, most: int) -> Any:
    """Texts without control characters and not too long, lists not too long."""
    if isinstance(told, dict):
        return {shown(key, 200): _bounded(item, most) for key, item in told.items()}
    if isinstance(told, list):
        return [_bounded(item, most) for item in told[:most]]
    return shown(told, MOST_TEXT) if isinstance(told, str) else told


def _worst(problems: Iterable[Problem]) -> list[Problem]:
    """Those that stop first, so that many warnings hide none."""
    return sorted(problems, key=lambda found: (found.severity is Severity.WARNING, found))


def _problem(found: Problem) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Problem.__dataclass_fields__}


def _attention(one: Attention) -> dict[str, Any]:
    return {
        "reason": one.reason,
        "paths": list(one.paths[:MOST_OF_ONE]),
        "count": len(one.paths),
        "differences": [difference_json(found) for found in one.differences[:MOST_OF_ONE]],
    }


def _parted(plan: Plan, due: frozenset[str]) -> tuple[list[Change], list[Change]]:
    """What is new by the merge, and what would be made without it too, as would what it follows from."""
    new = {change.id for change in plan.changes if effect_key(change) not in due}
    mine = [change for change in plan.changes if new & {change.id, *change.after}]
    return mine, [change for change in plan.changes if change not in mine]


def _sums(plan: Plan, mine: Sequence[Change], due: Sequence[Change]) -> dict[str, str]:
    new, old = (summary(replace(plan, changes=tuple(changes))) for changes in (mine, due))
    return {"digest": plan.digest, "summary": new, "due": old if due else ""}


def _change(change: Change, due: bool) -> dict[str, Any]:
    """A change in the words of a plan."""
    found = told_differences(change)
    return {
        "operation": change.operation.value,
        "id": change.id,
        "effect": change.effect.value,
        "reason": change.reason,
        "differences": [
            {"path": path, "actual": actual, "desired": desired} for path, actual, desired in found[:MOST_OF_ONE]
        ],
        "trial": trial(change),
        "sends": sends(change),
        "condition": condition(change) if change.conditional else "",
        "due": due,
    }


def _azure(plan: Plan, mine: Iterable[Change]) -> Iterator[dict[str, Any]]:
    names = {change.subject.get("experiment") for change in mine}
    for each in plan.egress:
        if "azure" in each and each["experiment"] in names:
            yield {"experiment": each["experiment"], "lines": azure_lines(each["azure"])[:MOST_OF_ONE]}


def _images(desired: Desired, mine: Iterable[Change]) -> Iterator[dict[str, Any]]:
    """What a released version brings out of the site: its artifacts, in an image and in the workspace."""
    workspace = desired.configuration.workspace["type"]
    pushed = [change for change in mine if change.operation is Operation.PUSH]
    for change in pushed:
        model, number = change.subject["model"], change.subject["version"]
        image = desired.models[model].image
        registry = desired.configuration.registry(image.registry)
        block = desired.configuration.registries.get(registry, {})
        sizes = [entry.get("size", 0) for entry in desired.versions[model, number].spec["artifacts"].values()]
        yield {
            "version": f"{model}@{number}",
            "bytes": sum(sizes),
            "registry": registry,
            "host": str(block.get("host", "")),
            "repository": image.repository,
            "workspace": workspace,
        }


def _waivers(desired: Desired, facts: Facts, mine: Iterable[Change]) -> Iterator[dict[str, Any]]:
    """Of the experiments that are to train or whose manifest changed: every waiver, and whether it is new."""
    touched = {path for _, path in facts.changed}
    trained = {change.subject.get("experiment") for change in mine}
    for name, experiment in sorted(desired.experiments.items()):
        if experiment.waivers and (name in trained or experiment.document.path in touched):
            before = _waived(facts.before, experiment)
            for waiver in experiment.waivers:
                told = to_json(waiver)
                yield {"experiment": name, "path": "", **told, "new": told not in before}


def _waived(tree: Tree, experiment: Experiment) -> list[dict[str, Any]]:
    """The waivers that the experiment has there, as `to_json` tells them."""
    found = manifest_at(tree, experiment.document.path)
    spec = found.get("spec") if isinstance(found, dict) else None
    egress = spec.get("egress") if isinstance(spec, dict) else None
    waivers = egress.get("waivers") if isinstance(egress, dict) else None
    return [waiver for waiver in waivers if isinstance(waiver, dict)] if isinstance(waivers, list) else []


def manifest_at(tree: Tree, path: str) -> Mapping[str, Any] | None:
    """A manifest as it reads, be it sound or not; None if it is not there, or no mapping."""
    try:
        data = tree.read(path, reader.MAX_BYTES)
    except RepositoryError:
        return None  # not there, a link, or larger than any manifest
    document = reader.read(data, path)[0]
    return document.data if document else None


def _codeowners(git: Git, merge: Merge, touched: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Whose approval the base branch's CODEOWNERS asks for; the pull request's own has no say."""
    texts = (git.show(merge.tip, place, codeowners.MAX_BYTES) for place in codeowners.PLACES)
    text = next((found for found in texts if found is not None), None)
    if text is None:
        return
    rules = codeowners.parse(text.decode("utf-8", "replace"))
    for owners, paths in codeowners.by_owners(rules, sorted(touched)).items():
        yield {"owners": list(owners[:MOST_OF_ONE]), "paths": list(paths[:MOST_OF_ONE]), "count": len(paths)}


def _owners(before: Tree, after: Tree, touched: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The owners that manifests name for what is touched: as merged, or of what is new, as proposed."""
    for path in sorted({place for each in touched if (place := _manifest_of(each))}):
        found = manifest_at(before, path) or manifest_at(after, path)
        metadata = found.get("metadata") if isinstance(found, dict) else None
        owners = metadata.get("owners") if isinstance(metadata, dict) else None
        if isinstance(owners, list) and owners:
            yield {"path": path, "owners": [str(owner) for owner in owners[:MOST_OF_ONE]]}


def _manifest_of(path: str) -> str | None:
    """The manifest that answers for a path."""
    parts = path.split("/")
    if parts[0] == "experiments" and len(parts) > 2:
        return f"experiments/{parts[1]}/experiment.yaml"
    if parts[0] == "models" and len(parts) > 2:
        return f"models/{parts[1]}/model.yaml"
    return path if kind_at(path) else None


def _releases(mine: Iterable[Change]) -> bool:
    return any(change.operation in GUARDED for change in mine)


def _environment(git: Git, merge: Merge) -> str | None:
    """The environment that guards releases, by the base branch's configuration."""
    found = manifest_of(git.show(merge.tip, CONFIGURATION), CONFIGURATION)
    return found.forge.environment if isinstance(found, Configuration) and found.forge else None


def _shallow(git: Git) -> str:
    if not git.is_shallow():
        return ""
    return "the clone is shallow: the order of older records, and who wrote them, can't be told"
