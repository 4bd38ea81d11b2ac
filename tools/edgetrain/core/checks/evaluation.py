"""Checks of a model's evaluation: its command and data, and that no training reads what is held out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from edgetrain.core.checks.contract import check_command
from edgetrain.core.codes import evaluation as own
from edgetrain.core.codes import references as codes
from edgetrain.core.desired import Desired
from edgetrain.core.evaluation import no_model
from edgetrain.core.kinds import Model
from edgetrain.core.kinds.experiment import DataInput
from edgetrain.core.kinds.model import EVERY_SLICE, MODEL_INPUT
from edgetrain.core.problem import Problem, did_you_mean, problem, shown

_AT = ("spec", "evaluation")


def check_evaluations(desired: Desired) -> Iterator[Problem]:
    """Every model's evaluation, and every training beside every held-out input."""
    for _, model in sorted(desired.models.items()):
        yield from _command(desired, model)
        yield from _slices(model)
    for experiment in desired.experiments.values():
        judge = desired.models.get(experiment.model)
        if judge is not None and judge.evaluation and not experiment.metadata.retired and no_model(experiment):
            document, names = experiment.document, ", ".join(experiment.outputs) or "none"
            what = f'model "{judge.name}" is evaluated, and none of the outputs ({shown(names)}) is called "model"'
            yield problem(own.NO_MODEL, document.path, document.mark("spec", "outputs"), what)
    yield from _held_out(desired)


def _command(desired: Desired, model: Model) -> Iterator[Problem]:
    evaluation, document = model.evaluation, model.document
    if evaluation is None:
        return
    if not model.scored:
        what = f'neither the evaluation of model "{model.name}" nor a gate names a metric'
        yield problem(own.NOTHING_MEASURED, document.path, document.key_mark(*_AT), what)
    known = {"inputs": {MODEL_INPUT, *evaluation.data}, "outputs": set[str]()}
    yield from check_command(document, (*_AT, "command"), evaluation.command, known)
    stores = {store for site in desired.configuration.sites.values() for store in site.datastores}
    seen = {MODEL_INPUT.upper(): MODEL_INPUT}
    for name, source in evaluation.data.items():
        if source.datastore not in stores:
            hint = did_you_mean(source.datastore, stores)
            where = document.mark(*_AT, "inputs", name, "datastore")
            what = f'unknown datastore "{shown(source.datastore)}"{hint}'
            yield problem(codes.UNKNOWN_DATASTORE, document.path, where, what)
        if name.upper() in seen:
            what = (
                f'"{shown(name)}" and "{shown(seen[name.upper()])}" are both EDGETRAIN_INPUT_{shown(name.upper())}'
            )
            where = document.key_mark(*_AT, "inputs", name)
            yield problem(codes.NAMES_COLLIDE, document.path, where, what)
        seen.setdefault(name.upper(), name)


def _slices(model: Model) -> Iterator[Problem]:
    """A slice that is not reported fails its gate."""
    declared: Collection[str] = model.evaluation.slices if model.evaluation else ()
    for index, gate in enumerate(model.gates):
        if declared and gate.slice not in (None, EVERY_SLICE, *declared):
            hint = did_you_mean(str(gate.slice), declared)
            what = f'the evaluation does not declare the slice "{shown(gate.slice)}"{hint}'
            where = model.document.mark("spec", "gates", index, "slice")
            yield problem(own.SLICE_UNKNOWN, model.document.path, where, what)


class _Held:
    """All held-out data: by digest, by place, and by each place that has it in it. There may be thousands of
    experiments, so each is asked about in a few look-ups."""

    def __init__(self, desired: Desired) -> None:
        self._sites = [site.datastores for site in desired.configuration.sites.values()]
        self.digests: dict[str, tuple[Model, DataInput]] = {}
        self.places: dict[tuple[str, ...], tuple[Model, DataInput]] = {}
        self.around: dict[tuple[str, ...], tuple[Model, DataInput]] = {}
        for _, model in sorted(desired.models.items()):
            for source in model.evaluation.data.values() if model.evaluation else ():
                self.digests.setdefault(source.digest, (model, source))
                for at in self._places(source):
                    self.places.setdefault(at, (model, source))
                    for length in range(len(at)):
                        self.around.setdefault(at[:length], (model, source))

    def _places(self, source: DataInput) -> Iterator[tuple[str, ...]]:
        for datastores in self._sites:
            if source.datastore in datastores:
                yield place(source, datastores[source.datastore])

    def met_by(self, source: DataInput) -> tuple[str, Model, DataInput] | None:
        """What a training's input is, or has in it, or lies in; None if nothing says so."""
        if source.digest in self.digests:
            return "has the digest of", *self.digests[source.digest]
        for at in self._places(source):
            inside = (self.places.get(at[:length]) for length in range(len(at) + 1))
            found = self.around.get(at) or next(filter(None, inside), None)
            if found:
                return "overlaps with the place of", *found
        return None


def _held_out(desired: Desired) -> Iterator[Problem]:
    held = _Held(desired)
    for experiment in desired.experiments.values() if held.digests else ():
        for source in experiment.data.values() if not experiment.metadata.retired else ():
            met = held.met_by(source)
            if met is not None:
                why, model, kept = met
                document, where = experiment.document, f'"{shown(kept.name)}", which model "{shown(model.name)}"'
                what = f"input {shown(source.name)} {why} {where} holds out"
                mark = document.key_mark("spec", "inputs", source.name)
                yield problem(own.HELD_OUT_IN_TRAINING, document.path, mark, what)


def place(source: DataInput, block: Mapping[str, Any]) -> tuple[str, ...]:
    """Where an input lies, from the outermost part: two datastores may be one folder or one container."""
    root = [str(block.get(key, "")) for key in ("endpoint", "container")] if block["type"] != "folder" else []
    below = f"{block.get('prefix', block.get('path', ''))}/{source.path}"
    return (block["type"], *root, *(part for part in below.split("/") if part not in ("", ".")))
