"""What of a site drifts besides workspace, registries and attachments: stored files, data, and targets."""

from __future__ import annotations

from collections.abc import Iterator

from edgetrain.core.digest import short
from edgetrain.core.errors import NotFound, ProviderError
from edgetrain.core.kinds import Experiment
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.planner.wanted import digest_meant
from edgetrain.core.ports import DataDigest
from edgetrain.reconcile.data import measure_input
from edgetrain.reconcile.site import Site
from edgetrain.reconcile.state import State
from edgetrain.render.words import plural

Note = tuple[str, str]


def lost_files(state: State, site: Site) -> Iterator[Note]:
    """Merged versions that were trained here, whose files are not all in the artifact store, of their sizes."""
    for (model, number), version in sorted(state.desired.versions.items()):
        run = state.recorded.run(version.record)
        if (
            run is None
            or run.data["target"]["site"] != site.name
            or number in state.desired.models[model].withdrawn
        ):
            continue
        files = [entry for output in version.spec["artifacts"].values() for entry in output["files"]]
        gone = sum(site.artifacts.size(entry["digest"]) != entry["size"] for entry in files)
        if gone:
            what = f"{plural(gone, 'file')} of {len(files)} not in the artifact store as recorded"
            yield f"artifact/{version.id}", f"{what}: restore it from its backup, or retry the run"


def moved_data(state: State, site: Site) -> Iterator[Note]:
    """Inputs that are other data by now than the manifests mean; `edgetrain propose --data` proposes them."""
    seen: dict[tuple[str, str, str], DataDigest | ProviderError] = {}
    for name, experiment in sorted(state.desired.experiments.items()):
        targets = [target for target in state.desired.targets_for(experiment) if target.site == site.name]
        if experiment.metadata.retired or not targets:
            continue
        for source in experiment.data.values():
            meant = digest_meant(source, state.recorded.runs_of(name))
            if meant is None or source.datastore not in site.settings.datastores:
                continue
            key = (source.datastore, source.path, source.type)
            if key not in seen:
                seen[key] = _measured(state, site, experiment, source)
            found, where = seen[key], f"data/{source.datastore}:{source.path}"
            if isinstance(found, NotFound):
                yield where, f"input {source.name} of {name} is not there any more"
            elif isinstance(found, ProviderError):
                yield where, f"input {source.name} of {name} could not be looked at: {found.message}"
            elif found.digest != meant:
                yield (
                    where,
                    f"input {source.name} of {name} is {short(found.digest)} by now, meant is {short(meant)}",
                )


def _measured(state: State, site: Site, experiment: Experiment, source: DataInput) -> DataDigest | ProviderError:
    """By a target that reads it itself, if one answers."""
    fault: ProviderError | None = None
    for target in state.desired.targets_for(experiment):
        if target.site == site.name and not target.metadata.retired:
            try:
                return measure_input(site, target, source)[0]
            except ProviderError as error:
                fault = fault or error
    if fault is not None:
        return fault
    try:
        return measure_input(site, None, source)[0]
    except ProviderError as error:
        return error


def idle_targets(state: State, site: Site) -> Iterator[Note]:
    """Targets that are declared to take runs, and can't."""
    for name, target in sorted(state.desired.targets.items()):
        if target.site != site.name or target.metadata.retired or not target.schedulable:
            continue
        try:
            status = site.compute(target).observe()
            reason, message = ("", "") if status.ready else (status.reason, status.message)
        except ProviderError as error:
            reason, message = error.reason, error.message
        if reason:
            yield f"target/{name}", f"takes no runs now: {reason}: {message}".rstrip(": ")
