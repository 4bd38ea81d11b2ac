"""Which runs the manifests want: every trial of every experiment, with what is known of its identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.core.desired import Desired
from edgetrain.core.digest import digest_of, short
from edgetrain.core.identity import fields, identity, known, matches
from edgetrain.core.kinds import Experiment
from edgetrain.core.kinds.experiment import LATEST, DataInput
from edgetrain.core.observation import Observation
from edgetrain.core.planner.refusals import usable
from edgetrain.core.record import RunRecord
from edgetrain.core.recorded import Recorded
from edgetrain.core.search import trials


@dataclass(frozen=True)
class Wanted:
    """One wanted run. `of` are the identity's fields, None where not known yet; `runs` its recorded attempts."""

    experiment: Experiment
    trial: Mapping[str, Any]
    of: Mapping[str, Any]
    runs: tuple[RunRecord, ...]

    @property
    def key(self) -> str:
        """`run/<experiment>`, with the trial's digest in a sweep: the same from plan to plan."""
        base = f"run/{self.experiment.name}"
        return f"{base}/{short(digest_of(self.trial), 8)}" if self.experiment.sweep else base

    @property
    def identity(self) -> str | None:
        """The identity: that of the recorded runs, or of the fields if all are known."""
        if self.runs:
            return self.runs[-1].identity
        return identity(self.of) if known(self.of) else None

    @property
    def last(self) -> RunRecord | None:
        """The last recorded attempt."""
        return self.runs[-1] if self.runs else None


def wanted_runs(desired: Desired, recorded: Recorded, observed: Observation | None) -> list[Wanted]:
    """Every wanted run, sorted by experiment; a retired experiment or model wants none."""
    wanted: list[Wanted] = []
    for name, experiment in sorted(desired.experiments.items()):
        model = desired.models.get(experiment.model)
        if experiment.metadata.retired or model is None or model.metadata.retired:
            continue
        wanted += _of_experiment(desired, experiment, recorded.runs_of(name), observed)
    return wanted


def _of_experiment(
    desired: Desired, experiment: Experiment, runs: Sequence[RunRecord], observed: Observation | None
) -> list[Wanted]:
    inputs = {name: digest_meant(source, runs, observed) for name, source in experiment.data.items()}
    found = []
    for trial in trials(experiment.sweep) if experiment.sweep else [{}]:
        of = fields(
            experiment,
            trial,
            code=desired.code[experiment.name],
            requirements=desired.locks[experiment.name],
            inputs=inputs,
            python=experiment.environment.python,
            platform=experiment.environment.platform,
        )
        same = sorted((r for r in runs if matches(of, r.data["identityOf"])), key=lambda r: (r.ordinal, r.attempt))
        # Python and platform may be left open; the newest identity among the equal ones is the one meant.
        mine = tuple(r for r in same if r.identity == same[-1].identity)
        if not mine:
            of = _completed(desired, experiment, of, observed)
        found.append(Wanted(experiment, trial, of, mine))
    return found


def digest_meant(source: DataInput, runs: Sequence[RunRecord], observed: Observation | None = None) -> str | None:
    """The digest that the manifest stands for. `latest` is what the first of the experiment's runs observed; before
    any run, what is observed now."""
    if source.digest != LATEST:
        return source.digest
    for run in runs:
        entry = run.data["inputs"].get(source.name)
        if entry and (entry.get("datastore"), entry.get("path")) == (source.datastore, source.path):
            return str(entry["digest"])
    seen = observed.data.get((source.datastore, source.path)) if observed else None
    return seen.digest if seen else None


def _completed(
    desired: Desired, experiment: Experiment, of: dict[str, Any], observed: Observation | None
) -> dict[str, Any]:
    """Python and platform of the first target that can take the run, where the manifest leaves them open."""
    if observed is None:
        return of
    for target in desired.targets_for(experiment):
        if target.schedulable and not usable(desired, experiment, target, observed):
            status = observed.targets[target.metadata.name]
            return {
                **of,
                "python": of["python"] or status.python or None,
                "platform": of["platform"] or status.platform,
            }
    return of
