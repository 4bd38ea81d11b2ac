"""Trains a version again from what its record says, and compares; nothing is written, registered or fetched.

Where Azure ML alone reaches the target (`resubmit.py`), the run is submitted, and Azure ML keeps its entry.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_bytes, tree_digest
from edgetrain.core.egress import to_json
from edgetrain.core.errors import NotFound, Rejected, Stopped, Unavailable, UsageError
from edgetrain.core.kinds import ComputeTarget, Experiment
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.ports import Compute, Harvest, RunPhase, RunState, TargetStatus
from edgetrain.core.problem import did_you_mean, shown
from edgetrain.core.record import RunRecord
from edgetrain.reconcile.aside import AsideSite, begin, claimed, not_ready, promises, watch
from edgetrain.reconcile.data import measure_input
from edgetrain.reconcile.finish import (
    check,
    files_of,
    final_metrics,
    refusal,
    rules_of,
    seconds_between,
    verdict_of,
)
from edgetrain.reconcile.lookup import read_main, version_named
from edgetrain.reconcile.report import Event, Report
from edgetrain.reconcile.resubmit import (
    Notes,
    Submitted,
    answers,
    check_whose,
    entry,
    kept_for_later,
    let_go,
    not_made,
)
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State
from edgetrain.reconcile.verify_runs import read_experiment
from edgetrain.render.reproduction import Finding, Metric, Reproduction, Verdict, Where, reproduction_json
from edgetrain.render.words import plural, value
from edgetrain.repo.load import MAX_LOCK_BYTES
from edgetrain.repo.snapshot import code_digest
from edgetrain.repo.tree import CommitTree, Tree

# Attempts that no run of apply ever has.
FIRST_ATTEMPT = 1_000_001
GONE, NONE = "gone", "none"


@dataclass(frozen=True)
class _Source:
    """What the run is made of: from git, with the parameters and inputs of the record."""

    tree: Tree
    experiment: Experiment


def reproduce(
    root: Path, text: str, target: str | None, tolerance: float, report: Report, stop: threading.Event
) -> Reproduction:
    """Train `MODEL@N` again, on the recorded target or another; `stop` ends the run.

    Raises UsageError for a wrong name; RepositoryError if this clone lacks the commit; ProviderError if it could
    not be run: no sandbox, no such environment, a datastore that does not answer; Stopped.
    """
    state = read_main(root)
    version = version_named(state.desired, state.loaded.broken, text)
    run = state.recorded.run(version.record)
    if run is None:
        raise Rejected(
            f"the run record {version.run_path} that {version.id} cites is not on main",
            reason="RunRecordMissing",
            fix=f"edgetrain verify {version.id} says more",
        )
    source = _source(state, run)
    chosen = target_of(state.desired, run, target)
    submitted = Submitted(version.id, run, source.experiment, chosen) if chosen.only_submitted else None
    configuration, checkout = state.desired.configuration, state.git.root
    if chosen.type == "local":
        site: Site = AsideSite(configuration, chosen.site, checkout, {})
    else:
        site = Site(configuration, chosen.site, checkout)
    compute = site.aside(chosen)
    status = compute.observe()
    if not status.ready:
        raise Unavailable(status.message, reason=status.reason, fix=not_ready(site))
    held = [*_code(source, run), *_environment(source, run, status)]
    moved = _measured(source.experiment, run, site, chosen, report)
    before = Reproduction(
        version=version.id,
        recorded=run.run_id,
        commit=run.data["commit"],
        verdict=Verdict.DIFFERENT,
        findings=(*held, *moved),
        target=chosen.metadata.name,
        recorded_target=run.data["target"]["name"],
        tolerance=tolerance,
        recorded_seconds=run.data.get("seconds"),
    )
    # Another Python or platform may give the same model; other code, packages or data can't tell.
    if moved or any(one.where is Where.CODE or one.what in ("requirements", "image") for one in held):
        if submitted is not None:
            let_go(compute, submitted, Notes(site), report)
        return before
    python = source.experiment.environment.python or status.python or str(run.data["environment"]["python"])
    job = _Job(source, run, site, compute, chosen, python, report, stop)
    return _run(before, job, checkout) if submitted is None else _submit(before, job, submitted, checkout)


def target_of(desired: Desired, run: RunRecord, asked: str | None) -> ComputeTarget:
    """The target asked for, else the recorded one. Raises UsageError if it is not there."""
    known = desired.targets
    name = asked or str(run.data["target"]["name"])
    fix = f"say where: --target {' | --target '.join(sorted(known))}" if known else "declare a target of type local"
    if name not in known:
        hint = did_you_mean(name, known) if asked else ", and it is the one of the record"
        raise UsageError(f"no compute target {shown(name)!r}{hint}", fix=fix)
    return known[name]


def _source(state: State, run: RunRecord) -> _Source:
    """Raises RepositoryError for a commit that is not here; Rejected for a manifest of another form."""
    tree = CommitTree(state.git, state.git.resolve(run.data["commit"]))
    path = f"experiments/{run.experiment}/experiment.yaml"
    found = read_experiment(tree.read(path), path)
    if found is None:
        raise Rejected(
            f"{path} at {run.data['commit'][:12]} is of a form that this version does not read",
            reason="FormUnknown",
            fix=f"reproduce with the version of then: {run.data.get('edgetrain', 'see its record')}",
        )
    inputs = {
        name: DataInput(name, entry["type"], entry["datastore"], entry["path"], entry["digest"])
        for name, entry in run.data["inputs"].items()
    }
    return _Source(tree, replace(found, parameters=dict(run.data["parameters"]), sweep=None, data=inputs))


def _code(source: _Source, run: RunRecord) -> Iterator[Finding]:
    """Whether git still holds what the record says that was run."""
    of, experiment = run.data["identityOf"], source.experiment
    pairs: dict[str, tuple[Any, Any]] = {
        "code": (of["code"], code_digest(source.tree, experiment.code_folder)),
        "command": (of["command"], experiment.command),
        "seed": (of["seed"], experiment.seed),
    }
    for name, (recorded, now) in pairs.items():
        if recorded != now:
            yield Finding(Where.CODE, name, value(recorded), value(now))


def _environment(source: _Source, run: RunRecord, status: TargetStatus) -> Iterator[Finding]:
    recorded, environment = run.data["environment"], source.experiment.environment
    path = source.experiment.lock_path
    pairs: dict[str, Any] = {
        "requirements": digest_bytes(source.tree.read(path, MAX_LOCK_BYTES)) if path else None,
        "image": environment.image,
        "python": environment.python or status.python or recorded["python"],
        "platform": environment.platform or status.platform or recorded["platform"],
    }
    for name, now in pairs.items():
        if recorded[name] != now:
            yield Finding(Where.ENVIRONMENT, name, value(recorded[name]), value(now))


def _measured(
    experiment: Experiment, run: RunRecord, site: Site, target: ComputeTarget, report: Report
) -> list[Finding]:
    """The inputs that are other at the site now. Raises ProviderError if a datastore does not answer."""
    found = []
    for name, source in experiment.data.items():
        report(Event("Digesting", f"input {name}"))
        recorded = run.input_digests[name]
        if source.datastore not in site.settings.datastores:
            what = f"input {name} ({site.name} has no datastore {source.datastore})"
            found.append(Finding(Where.DATA, what, value(recorded), GONE))
            continue
        try:
            seen, _ = measure_input(site, target, source)
        except NotFound:
            found.append(Finding(Where.DATA, f"input {name}", value(recorded), GONE))
            continue
        if seen.digest != recorded:
            found.append(Finding(Where.DATA, f"input {name}", value(recorded), value(seen.digest)))
    return found


@dataclass(frozen=True)
class _Job:
    """What is run again, and where."""

    source: _Source
    run: RunRecord
    site: Site
    compute: Compute
    target: ComputeTarget
    python: str
    report: Report
    stop: threading.Event


def _run(before: Reproduction, job: _Job, checkout: Path) -> Reproduction:
    experiment, compute = job.source.experiment, job.compute
    with claimed(checkout, compute, experiment.name, job.run.identity, FIRST_ATTEMPT) as (folder, state):
        name = folder.name
        if state.phase is not RunPhase.ABSENT:
            job.report(Event("Adopted", name, "an ended call left it"))
        else:
            try:
                begin(job.source.tree, experiment, job.site, compute, name, job.python, job.report)
            except BaseException:
                folder.rmdir()
                raise
        try:
            ended = watch(compute, name, job.report, job.stop)
            _check_made(ended, name, job.stop)
            found = _found(before, ended, *compared(experiment, job.run, compute, name, ended, before.tolerance))
        finally:
            compute.forget(name)
        return _kept(replace(found, run=name), folder)


def _submit(before: Reproduction, job: _Job, submitted: Submitted, checkout: Path) -> Reproduction:
    """As `_run`, by a run that Azure ML starts; or by the one that an ended call has left."""
    experiment, compute, report = job.source.experiment, job.compute, job.report
    notes = Notes(job.site)
    name, state = submitted.left(compute, notes)
    if state.phase is not RunPhase.ABSENT:
        report(Event("Adopted", name, "an ended call left it"))
    elif job.stop.is_set():
        raise Stopped(f"{name} was not submitted", reason="Interrupted")
    else:
        stays = submitted.stays(job.source.tree, job.site)
        report(Event("Submitting", name, f"Azure ML keeps it for good, as run {entry(name)}: {stays}"))
        more = submitted.more(job.site)
        notes.write(name, submitted)
        begin(job.source.tree, experiment, job.site, compute, name, job.python, report, more)
    with kept_for_later(compute, notes, name):
        ended = watch(compute, name, report, job.stop)
        check_whose(ended)
        _check_made(ended, name, job.stop)
        moved = _measured(experiment, job.run, job.site, job.target, report)
        of = compared(experiment, job.run, compute, name, ended, before.tolerance, submitted.facts)
    found = _found(before, ended, (*moved, *of[0]), of[1])
    found = replace(found, run=name, entry=entry(name))
    return _kept(found, answers(checkout, name))


def _found(
    before: Reproduction, ended: RunState, findings: tuple[Finding, ...], metrics: tuple[Metric, ...]
) -> Reproduction:
    return replace(
        before,
        verdict=verdict(findings, metrics),
        findings=(*before.findings, *findings),
        level=ended.level.value,
        metrics=metrics,
        seconds=seconds_between(ended.started, ended.ended),
    )


def _kept(found: Reproduction, folder: Path) -> Reproduction:
    (folder / "result.json").write_text(reproduction_json(found), encoding="utf-8")
    return found


def _check_made(ended: RunState, name: str, stop: threading.Event) -> None:
    """Raises Stopped, or Unavailable, for a run whose end says nothing of the model."""
    if ended.ended_by == "cancel" and stop.is_set():
        raise Stopped(f"{name} was stopped", reason="Interrupted")
    if ended.ended_by == "cancel":
        raise Unavailable(
            f"{name} was ended from elsewhere: {ended.message or 'cancelled'}",
            reason="Cancelled",
            fix="call again to train once more",
        )
    if not_made(ended):
        why = verdict_of(ended)
        raise Unavailable(
            f"it could not be run: {why.message or why.reason}",
            reason=why.reason,
            fix="see what the target lacks: edgetrain doctor; or choose another: --target NAME",
        )


def compared(
    experiment: Experiment,
    run: RunRecord,
    compute: Compute,
    name: str,
    ended: RunState,
    tolerance: float,
    left: Mapping[str, Any] | None = None,
) -> tuple[tuple[Finding, ...], tuple[Metric, ...]]:
    """How an ended run differs from the recorded one. No file is brought here; no name that the record lacks is
    told. `left` is what has left the target already, in the form of a ticket."""
    reported: Mapping[str, float] = run.data.get("selfReported", run.metrics)
    failure, harvest = verdict_of(ended), Harvest((), {})
    if failure.outcome is None:
        harvest = compute.harvest(name, {key: output.path for key, output in experiment.outputs.items()})
        failure = check(promises(experiment), harvest)
    finals = final_metrics(harvest)
    if failure.outcome is None:
        # Of all that it made only these numbers are told, and they are looked at as those of any run.
        told: dict[str, Any] = {"outputs": {}, "metrics": sorted(reported.keys() & finals.keys()), "logs": "site"}
        told["waivers"] = [to_json(waiver) for waiver in experiment.waivers]
        seen = harvest if left else replace(harvest, history=(), metrics=finals)
        failure = refusal(left or told, compute.examine(name, rules_of(left or told, seen)))
    if failure.outcome is not None:
        now = f"{failure.outcome.value}: {failure.message}".removesuffix(": ")
        return (Finding(Where.OUTCOME, failure.reason, run.outcome.value, now),), ()
    recorded: Mapping[str, Any] = run.data["outputs"]
    findings = [found for output in sorted(recorded) for found in _bytes(output, recorded[output], harvest)]
    metrics = tuple(_metric(key, before, finals.get(key), tolerance) for key, before in sorted(reported.items()))
    for one in metrics:
        if one.now != one.recorded:
            now = NONE if one.now is None else repr(one.now)
            findings.append(Finding(Where.METRICS, one.name, repr(one.recorded), now))
    return tuple(findings), metrics


def _metric(name: str, recorded: float, now: float | None, tolerance: float) -> Metric:
    return Metric(name, recorded, now, now is not None and abs(now - recorded) <= tolerance)


def _bytes(name: str, recorded: Mapping[str, Any], harvest: Harvest) -> Iterator[Finding]:
    """An output's files that differ, are gone, or are new."""
    files = files_of(recorded["path"], harvest)
    alone = len(files) == 1 and files[0].path == recorded["path"]
    now = files[0].digest if alone else tree_digest((file.path, file.digest) for file in files)
    if now == recorded["digest"]:
        return
    there = {file.path: file.digest for file in files}
    known = {entry["path"]: entry["digest"] for entry in recorded["files"]}
    for path, digest in sorted(known.items()):
        if there.get(path) != digest:
            yield Finding(Where.BYTES, path, value(digest), value(there[path]) if path in there else GONE)
    if new := len(there.keys() - known.keys()):
        yield Finding(Where.BYTES, f"{plural(new, 'more file')} in output {name}", NONE, "there")
    if there == known:  # another way to sum up the same files
        yield Finding(Where.BYTES, f"output {name}", value(recorded["digest"]), value(now))


def verdict(findings: tuple[Finding, ...], metrics: tuple[Metric, ...]) -> Verdict:
    """What the comparison of a run that was made amounts to."""
    if any(one.where in (Where.OUTCOME, Where.DATA) for one in findings) or not all(one.within for one in metrics):
        return Verdict.DIFFERENT
    return Verdict.EQUAL if findings else Verdict.IDENTICAL
