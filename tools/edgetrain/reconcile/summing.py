"""What a job's summary tells of the models that an apply was about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgetrain.core.decide import scores_of as measured
from edgetrain.core.record import Outcome, RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.reconcile.report import ApplyResult
from edgetrain.reconcile.state import State, read_commit
from edgetrain.render.summary import ModelScores, Scored
from edgetrain.repo.git import Git


def scores(root: Path, result: ApplyResult) -> tuple[ModelScores, ...]:
    """The models that the apply had to do with: versions, the runs recorded meanwhile, the newest candidate."""
    git = Git.find(root)
    before = read_commit(git, result.plan.commit).recorded
    after = read_commit(git, result.commit)
    known = {run.digest for run in before.runs}
    fresh = [run for run in after.recorded.runs if run.digest not in known]
    tried = {row.change for row in result.results}
    touched = {run.model for run in fresh}
    touched |= {str(c.subject["model"]) for c in result.plan.changes if c.id in tried and "model" in c.subject}
    return tuple(scores_of(after, name, fresh) for name in sorted(touched) if name in after.desired.models)


def scores_of(state: State, name: str, fresh: list[RunRecord]) -> ModelScores:
    """One model's scores; pure."""
    desired, recorded = state.desired, state.recorded
    model = desired.models[name]
    versions = []
    for number in desired.numbers(name):
        version = desired.versions[name, number]
        channels = [channel for channel, held in sorted(model.channels.items()) if held == number]
        withdrawn = number in model.withdrawn
        scores = measured(version.id, version.spec)
        versions.append(
            Scored(
                version.id,
                "withdrawn" if withdrawn else ", ".join(channels) or "version",
                scores.metrics,
                scores.data,
                not withdrawn,
            )
        )
    waiting = newest_waiting(recorded, name, {version.record for version in desired.versions.values()})
    told = [run for run in fresh if run.model == name and run.metrics]
    if waiting is not None and waiting not in told:
        told.append(waiting)
    told.sort(key=lambda run: run is waiting)
    return ModelScores(
        name,
        tuple(versions),
        tuple(_scored(recorded, run, run is waiting) for run in told),
        tuple(dict.fromkeys(gate.metric for gate in model.gates)),
    )


def newest_waiting(recorded: Recorded, model: str, cited: set[str]) -> RunRecord | None:
    """The newest candidate that no version cites."""
    found: Iterator[RunRecord] = (
        run
        for run in reversed(recorded.runs)
        if run.model == model and run.digest not in cited and recorded.outcome(run) is Outcome.CANDIDATE
    )
    return next(found, None)


def _scored(recorded: Recorded, run: RunRecord, charted: bool) -> Scored:
    state = recorded.outcome(run).value
    scores = measured(run.run_id, {**run.data, **recorded.judged(run)})
    return Scored(run.run_id, state, scores.metrics, scores.data, charted)
