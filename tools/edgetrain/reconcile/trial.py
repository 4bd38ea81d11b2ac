"""Tries an experiment as it lies in the work tree, under the training contract; nothing leaves the checkout."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgetrain.core.codes.references import UNKNOWN_MODEL
from edgetrain.core.decide import decide
from edgetrain.core.desired import Desired
from edgetrain.core.errors import EdgetrainError, InvalidFiles, Unavailable, UsageError
from edgetrain.core.identity import fields, identity
from edgetrain.core.kinds import ComputeTarget, Experiment, Model
from edgetrain.core.kinds.experiment import LATEST, DataInput
from edgetrain.core.ports import Compute, DataDigest, Harvest, RunPhase, TargetStatus
from edgetrain.core.problem import did_you_mean, shown
from edgetrain.core.record import Outcome
from edgetrain.core.search import trials
from edgetrain.reconcile.aside import AsideSite, begin, claim, not_ready, promises, watch
from edgetrain.reconcile.finish import check, final_metrics, seconds_between, undecided, verdict_of
from edgetrain.reconcile.logs import LOG_LIMIT
from edgetrain.reconcile.report import Event, Report
from edgetrain.reconcile.site import Site, choose_site
from edgetrain.reconcile.state import State, read_work_tree, stopping
from edgetrain.reconcile.validate import problems_of
from edgetrain.render.gates import gates_of
from edgetrain.render.trial import File, Input, Trial, trial_json
from edgetrain.repo.git import Git
from edgetrain.repo.scalar import MAX_INTEGER

UNJUDGED = "unjudged"
GOOD = frozenset({Outcome.CANDIDATE.value, Outcome.NOT_BETTER.value, UNJUDGED})
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Asked:
    """What is to be tried. `data` maps inputs to a folder or file, `parameters` names to text as typed;
    `timeout` in seconds, None for the experiment's own."""

    experiment: str
    data: Mapping[str, Path] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    timeout: int | None = None


def try_out(
    root: Path,
    asked: Asked,
    report: Report,
    stop: threading.Event,
    show: Callable[[str], None] | None = None,
) -> Trial:
    """Run it once, here. `show` gets the script's output, line by line; `stop` cancels the run.

    Raises InvalidFiles if the experiment has problems, UsageError for a wrong name or value, ProviderError if
    the data or the sandbox is not there.
    """
    git = Git.find(root)
    state = read_work_tree(git)
    chosen = parametrised(_experiment(state, asked.experiment), asked.parameters)
    experiment, given = with_data(chosen, asked.data)
    if asked.timeout is not None:
        experiment = replace(experiment, timeout=asked.timeout)
    site = AsideSite(state.desired.configuration, _site_name(state.desired, chosen), git.root, given)
    target = _target(state.desired, chosen, site.name)
    compute = site.compute(target) if target is not None else site.this_machine()
    status = compute.observe()
    if not status.ready:
        raise Unavailable(status.message, reason=status.reason, fix=not_ready(site))
    experiment, seen = _measured(experiment, site, report)
    identity_ = _identity(state, experiment, status)
    folder = claim(git.root, compute, experiment.name, identity_)
    name = folder.name
    try:
        begin(state.tree, experiment, site, compute, name, experiment.environment.python or status.python, report)
    except BaseException:
        folder.rmdir()
        raise
    ended = watch(compute, name, report, stop, show)
    harvest = Harvest((), {})
    verdict = verdict_of(ended)
    if ended.phase is RunPhase.ENDED and ended.ended_by == "exit":
        harvest = compute.harvest(name, {key: output.path for key, output in experiment.outputs.items()})
    if verdict.outcome is None:
        verdict = check(promises(experiment), harvest)
    model = state.desired.models.get(experiment.model)
    if verdict.outcome is None and model is not None:
        metrics = {key: final_metrics(harvest)[key] for key in experiment.metrics}
        digests = {key: found.digest for key, found in seen.items()}
        decision = decide(state.desired, state.recorded, told_by_script(model), None, identity_, metrics, digests)
    else:
        decision = undecided(verdict, model)
    trial = Trial(
        id=name,
        experiment=experiment.name,
        model=experiment.model,
        outcome=decision.outcome.value if verdict.outcome or model else UNJUDGED,
        reason=decision.reason or "ModelMissing",
        message=decision.message,
        parameters=experiment.parameters,
        inputs=tuple(Input(k, d.digest, d.files, d.bytes, k in asked.data) for k, d in sorted(seen.items())),
        target=target.metadata.name if target else "this machine",
        level=ended.level.value,
        isolation=ended.isolation,
        metrics=final_metrics(harvest),
        gates=tuple(gates_of(decision.gates["results"])),
        files=tuple(File(file.path, file.size, file.digest) for file in harvest.files),
        started=ended.started,
        ended=ended.ended,
        seconds=seconds_between(ended.started, ended.ended),
        folder=str(folder),
        notes=tuple(_notes(chosen, asked, model)),
    )
    _keep(compute, trial, harvest, folder)
    return trial


def _experiment(state: State, name: str) -> Experiment:
    """The experiment. Raises InvalidFiles if it, or what it needs, has problems."""
    wrong = stopping(problems_of(state.loaded))
    mine = [p for p in wrong if p.path == "edgetrain.yaml" or p.path.startswith(f"experiments/{name}/")]
    # Without its model a trial still trains; it says that nobody judged it.
    mine = [p for p in mine if p.code != UNKNOWN_MODEL.id]
    if mine:
        raise InvalidFiles(mine)
    known = state.desired.experiments
    if name not in known:
        raise UsageError(
            f"no experiment {shown(name)!r}{did_you_mean(name, known)}",
            fix=f"make it: edgetrain new experiment {shown(name)}" if not known else f"one of: {', '.join(known)}",
        )
    return known[name]


def parametrised(experiment: Experiment, given: Mapping[str, str]) -> Experiment:
    """One run of the experiment: of a sweep the first trial, then the values given. Raises UsageError."""
    first = next(iter(trials(experiment.sweep)), {}) if experiment.sweep else {}
    known = {**experiment.parameters, **first}
    for name, text in given.items():
        if name not in known:
            hint = did_you_mean(name, known)
            listed = ", ".join(sorted(known)) or "it has none"
            raise UsageError(
                f"{experiment.name} has no parameter {shown(name)!r}{hint}", fix=f"its parameters: {listed}"
            )
        known[name] = value_like(name, text, known[name])
    return replace(experiment, parameters=known, sweep=None)


def value_like(name: str, text: str, like: Any) -> Any:
    """The value that `text` stands for, of the same type as in the manifest. Raises UsageError."""
    if isinstance(like, bool):
        if text in ("true", "false"):
            return text == "true"
        raise _wrong(name, text, "true or false")
    if isinstance(like, int | float):
        if _INTEGER.fullmatch(text) and abs(int(text)) <= MAX_INTEGER:
            return int(text)
        try:
            found = float(text)
        except ValueError:
            raise _wrong(name, text, "a number") from None
        if not math.isfinite(found) or not text.isascii() or "_" in text:
            raise _wrong(name, text, "a finite number")
        return found
    return text


def _wrong(name: str, text: str, wanted: str) -> UsageError:
    return UsageError(
        f"parameter {shown(name)} is {wanted} in the manifest, and {shown(text)!r} is not",
        fix=f"give {wanted}: --set {shown(name)}=...",
    )


def with_data(experiment: Experiment, given: Mapping[str, Path]) -> tuple[Experiment, dict[str, Path]]:
    """The experiment on the data given, and the datastores that hold it. Raises UsageError."""
    data, stores = dict(experiment.data), {}
    for name, place in given.items():
        if name not in data:
            hint = did_you_mean(name, data)
            listed = ", ".join(sorted(data)) or "it has none"
            raise UsageError(f"{experiment.name} has no data input {shown(name)!r}{hint}", fix=f"inputs: {listed}")
        path = place.expanduser().resolve()
        single = data[name].type == "uri_file"
        if not (path.is_file() if single else path.is_dir()):
            kind = "file" if single else "folder"
            raise UsageError(
                f"--data {name}: {shown(place)} is no {kind}", fix=f"input {name} is a {data[name].type}"
            )
        # A dot can't be in the name of a declared datastore.
        store = f"given.{name}"
        stores[store] = path.parent if single else path
        data[name] = DataInput(name, data[name].type, store, path.name if single else ".", LATEST)
    return replace(experiment, data=data), stores


def _site_name(desired: Desired, experiment: Experiment) -> str:
    """The site of the experiment's targets, else the only one."""
    sites = [target.site for target in desired.targets_for(experiment)]
    return sites[0] if sites else choose_site(desired.configuration, None)


def _target(desired: Desired, experiment: Experiment, site: str) -> ComputeTarget | None:
    """A local target: one of the experiment's own, else one of the same site; None if there is none."""
    own = desired.targets_for(experiment)
    others = [target for _, target in sorted(desired.targets.items()) if target.site == site]
    return next((target for target in [*own, *others] if target.type == "local"), None)


def _measured(experiment: Experiment, site: Site, report: Report) -> tuple[Experiment, dict[str, DataDigest]]:
    """Digest the data. Raises UsageError if it is not what the manifest says."""
    data, seen = dict(experiment.data), {}
    for name, source in experiment.data.items():
        report(Event("Digesting", f"input {name}"))
        if source.datastore not in site.settings.datastores:
            raise UsageError(
                f"site {site.name} has no datastore {source.datastore!r}",
                fix=f"try it on your own data: --data {name}=FOLDER",
            )
        try:
            found = site.datastore(source.datastore).digest(source.path)
        except EdgetrainError as error:
            error.fix = f"{error.fix}; or try it on other data: --data {name}=FOLDER".removeprefix("; or ")
            raise
        if source.digest not in (LATEST, found.digest):
            raise UsageError(
                f"input {name} is {found.digest[:19]} here and {source.digest[:19]} in the manifest",
                reason="DataDiffers",
                fix=f"write digest: {found.digest} into the manifest, or give other data: --data {name}=FOLDER",
            )
        seen[name] = found
        data[name] = replace(source, digest=found.digest)
    return replace(experiment, data=data), seen


def _identity(state: State, experiment: Experiment, status: TargetStatus) -> str:
    of = fields(
        experiment,
        {},
        code=state.desired.code[experiment.name],
        requirements=state.desired.locks[experiment.name],
        inputs={name: source.digest for name, source in experiment.data.items()},
        python=experiment.environment.python or status.python,
        platform=experiment.environment.platform or status.platform,
    )
    return identity(of)


def told_by_script(model: Model) -> Model:
    """The model with the gates that a script's own metrics can tell of: slices are the evaluation's alone."""
    if model.evaluation is None:
        return model
    return replace(model, gates=tuple(gate for gate in model.gates if gate.slice is None))


def _notes(experiment: Experiment, asked: Asked, model: Model | None) -> list[str]:
    notes = []
    if model is None:
        notes.append(f"model {experiment.model} is not declared, so no gate could judge")
    elif model.evaluation is not None:
        notes.append(
            "the gates saw the script's own metrics; after a merge, those of the model's evaluation decide, and "
            "those of its slices too"
        )
    if asked.data:
        notes.append("data was given by --data, so a comparison with a channel may be not_comparable")
    return notes


def _keep(compute: Compute, trial: Trial, harvest: Harvest, folder: Path) -> None:
    """Keep outputs, log and result in the checkout, and clear the run away."""
    # What is refused stays where it is cleared away: a copy could be the very link that was refused.
    for file in harvest.files if not harvest.faults else ():
        into = folder / "outputs" / file.path
        into.parent.mkdir(parents=True, exist_ok=True)
        compute.fetch(trial.id, file.path, into)
    size = 0
    with (folder / "log").open("w", encoding="utf-8", errors="replace") as log:
        for line in compute.logs(trial.id):
            size += len(line)
            if size > LOG_LIMIT:
                break
            log.write(line.rstrip("\n") + "\n")
    (folder / "result.json").write_text(trial_json(trial), encoding="utf-8")
    compute.forget(trial.id)
