"""What the runs that a merge would start read, send and resemble: from manifests and records alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes
from edgetrain.core.egress import code_json
from edgetrain.core.errors import RepositoryError
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.lock import pins
from edgetrain.core.plan import Change, Difference, Operation
from edgetrain.core.planner.refusals import requires_enforced
from edgetrain.core.planner.runs import differences_of
from edgetrain.core.problem import shown
from edgetrain.core.record import Outcome, RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.state import State
from edgetrain.render.words import value
from edgetrain.repo.export import NOT_CODE
from edgetrain.repo.git import Git
from edgetrain.repo.history import changed_since
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.merge import present
from edgetrain.repo.tree import CommitTree

# Outcomes of runs that came to their own end: what they took is what such a run takes.
ENDED = frozenset({Outcome.CANDIDATE, Outcome.NOT_BETTER, Outcome.REJECTED})


def experiments_told(state: State, changes: Iterable[Change]) -> Iterator[dict[str, Any]]:
    """Of each experiment with runs to start: all that a reviewer asks, by the experiment's name."""
    starting: dict[str, list[Change]] = {}
    for change in changes:
        if change.operation is Operation.TRAIN:
            starting.setdefault(str(change.subject["experiment"]), []).append(change)
    for name, runs in sorted(starting.items()):
        yield _told(state, state.desired.experiments[name], runs)


def _told(state: State, experiment: Experiment, changes: Sequence[Change]) -> dict[str, Any]:
    desired, recorded = state.desired, state.recorded
    runs = recorded.runs_of(experiment.name)
    last = newest(runs)
    wanted = [change.subject["identityOf"] for change in changes]
    return {
        "name": experiment.name,
        "model": experiment.model,
        "runs": len(changes),
        "timeout": experiment.timeout,
        "code": {
            **code_json(desired.snapshots[experiment.name]),
            "changes": _code_changes(state, experiment, last) if last else None,
        },
        "last": {"run": last.run_id, "outcome": recorded.outcome(last).value} if last else None,
        "differences": [difference_json(found) for found in differences(wanted, last)] if last else [],
        "packages": [difference_json(found) for found in _packages(state, experiment, last)] if last else [],
        "inputs": [_input(recorded, source, wanted, last) for _, source in sorted(experiment.data.items())],
        "outputs": [
            {
                "name": name,
                "type": output.type,
                "path": output.path,
                "maxSize": output.max_size,
                "lastSize": _last_size(runs, name),
            }
            for name, output in sorted(experiment.outputs.items())
        ],
        "metrics": list(experiment.metrics),
        "logs": experiment.logs,
        "targets": [_target(desired, recorded, experiment, one) for one in desired.targets_for(experiment)],
        "seconds": usual_seconds(recorded, runs),
    }


def difference_json(found: Difference) -> dict[str, str]:
    """A difference as people read it."""
    return {"path": shown(found.path), "actual": value(found.actual), "desired": value(found.desired)}


def newest(runs: Iterable[RunRecord]) -> RunRecord | None:
    """The run that was recorded last."""
    return max(runs, key=lambda run: (run.ordinal, str(run.data.get("ended") or ""), run.path), default=None)


def differences(wanted: Sequence[Mapping[str, Any]], last: RunRecord) -> list[Difference]:
    """What differs from the last run in all of the wanted ones; what only some have is the trials' affair."""
    each = [differences_of(of, last) for of in wanted]
    return [found for found in each[0] if all(found in others for others in each[1:])]


def usual_seconds(recorded: Recorded, runs: Iterable[RunRecord]) -> dict[str, Any] | None:
    """The median of what runs of this experiment took that came to their own end, and of how many."""
    took = [run.data.get("seconds") for run in runs if recorded.outcome(run) in ENDED]
    known = [float(each) for each in took if isinstance(each, int | float) and not isinstance(each, bool)]
    return {"median": statistics.median(known), "runs": len(known)} if known else None


def _input(
    recorded: Recorded, source: DataInput, wanted: Sequence[Mapping[str, Any]], last: RunRecord | None
) -> dict[str, Any]:
    """The counts are of the same content, or else (`same` false) of what the last run read there."""
    digest = wanted[0]["inputs"].get(source.name)
    entries = [
        (run, entry)
        for run in recorded.runs
        for entry in run.data["inputs"].values()
        if digest is not None and entry.get("digest") == digest
    ]
    before = last.data["inputs"].get(source.name) if last else None
    run, entry = entries[-1] if entries else (last, before)
    return {
        "name": source.name,
        "type": source.type,
        "datastore": source.datastore,
        "path": source.path,
        "digest": digest,
        "files": entry.get("files") if entry else None,
        "bytes": entry.get("bytes") if entry else None,
        "run": run.run_id if run and entry else None,
        "same": bool(entries),
    }


def _last_size(runs: Iterable[RunRecord], name: str) -> int | None:
    of = [run for run in runs if name in run.data["outputs"]]
    run = newest(of)
    size = run.data["outputs"][name].get("size") if run else None
    return size if isinstance(size, int) else None


def _target(desired: Desired, recorded: Recorded, experiment: Experiment, target: ComputeTarget) -> dict[str, Any]:
    """The level is as the last run there saw it: it is observed, never assumed."""
    name = target.metadata.name
    seen = newest(run for run in recorded.runs if run.data["target"]["name"] == name)
    return {
        "name": name,
        "type": target.type,
        "site": target.site,
        "schedulable": target.schedulable,
        "level": seen.data["target"]["egress"] if seen else None,
        "run": seen.run_id if seen else None,
        "enforcedOnly": requires_enforced(desired, experiment, target),
    }


def _code_changes(state: State, experiment: Experiment, last: RunRecord) -> list[list[str]] | None:
    """`[status, path]` of the code's files that are not as the last run had them; None if that can't be told."""
    if last.data["identityOf"]["code"] == state.desired.code[experiment.name]:
        return []
    found = _since(state.git, last, state.commit)
    if found is None:
        return None
    folder = experiment.code_folder + "/"
    own = tuple(f"{experiment.folder}/{name}" for name in NOT_CODE)
    return [[how, path] for how, path in found if path.startswith(folder) and not path.startswith(own)]


def _since(git: Git, last: RunRecord, commit: str) -> list[tuple[str, str]] | None:
    before = str(last.data["commit"])
    if not present(git, before):
        return None
    with CommitTree(git, commit) as tree:
        return changed_since(git, before, tree)


def _packages(state: State, experiment: Experiment, last: RunRecord) -> Iterator[Difference]:
    """Locked packages that differ from the last run's, where its lock is in this clone."""
    path, before = experiment.lock_path, last.data["identityOf"]["requirements"]
    if path is None or before is None or before == state.desired.locks[experiment.name]:
        return
    commit = str(last.data["commit"])
    try:
        old = state.git.show(commit, path, MAX_LOCK_BYTES) if present(state.git, commit) else None
        new = state.tree.read(path, MAX_LOCK_BYTES)
    except RepositoryError:
        return
    if old is None or digest_bytes(old) != before:
        return
    ran, wanted = last.data["environment"], experiment.environment
    had = _locked(old, ran["python"], ran["platform"])
    has = _locked(new, wanted.python or ran["python"], wanted.platform or ran["platform"])
    for name in sorted({*had, *has}):
        if had.get(name) != has.get(name):
            yield Difference(name, had.get(name), has.get(name))


def _locked(data: bytes, python: str | None, platform: str | None) -> dict[str, str]:
    return dict(pins(data.decode("utf-8", "replace"), python, platform))
