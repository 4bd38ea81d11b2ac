"""Checks of models and their versions: gates, channels, numbers, and that a version equals its run record."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from edgetrain.core.codes import references as codes
from edgetrain.core.decide import version_spec
from edgetrain.core.desired import Desired
from edgetrain.core.document import Document, Pointer
from edgetrain.core.kinds import Experiment, Model, ModelVersion
from edgetrain.core.problem import Problem, did_you_mean, problem, shown
from edgetrain.core.record import Outcome, RunRecord
from edgetrain.core.recorded import Recorded

_ABSENT = object()


def check_models(desired: Desired, broken: Collection[str]) -> Iterator[Problem]:
    """Each model's gates, image, channels and withdrawn versions."""
    experiments: dict[str, list[Experiment]] = {}
    for experiment in desired.experiments.values():
        if not experiment.metadata.retired:
            experiments.setdefault(experiment.model, []).append(experiment)
    unsure = any(path.startswith("experiments/") and path.endswith("/experiment.yaml") for path in broken)
    numbers = numbers_by_model(desired, broken)
    repositories: dict[tuple[str, str], str] = {}
    for name, model in sorted(desired.models.items()):
        if not unsure and not model.metadata.retired:
            yield from _gate_metrics(model, experiments.get(name, []))
        yield from _image(desired, model, repositories)
        yield from _channels(model, numbers.get(name, set()))


def numbers_by_model(desired: Desired, broken: Collection[str]) -> dict[str, set[int]]:
    """The version numbers that are there, readable or not."""
    found: dict[str, set[int]] = {}
    for model, number in desired.versions:
        found.setdefault(model, set()).add(number)
    for path in broken:
        parts = path.split("/")
        if len(parts) == 4 and parts[0] == "models" and parts[2] == "versions":
            name = parts[3].removesuffix(".yaml")
            if name.isascii() and name.isdecimal():
                found.setdefault(parts[1], set()).add(int(name))
    return found


def _gate_metrics(model: Model, experiments: list[Experiment]) -> Iterator[Problem]:
    document = model.document
    declared = {metric for experiment in experiments for metric in experiment.metrics}
    who = "no experiment for this model declares"
    if model.evaluation is not None:
        declared, who = set(model.scored), "the evaluation does not declare"
    for index, gate in enumerate(model.gates):
        if experiments and gate.metric not in declared:
            what = f'{who} the metric "{shown(gate.metric)}"'
            where = document.mark("spec", "gates", index, "metric")
            hint = did_you_mean(gate.metric, declared)
            yield problem(codes.GATE_METRIC_UNKNOWN, document.path, where, what + hint)


def _image(desired: Desired, model: Model, repositories: dict[tuple[str, str], str]) -> Iterator[Problem]:
    document, configuration = model.document, desired.configuration
    if model.image.registry is not None and model.image.registry not in configuration.registries:
        hint = did_you_mean(model.image.registry, configuration.registries)
        what = f'unknown registry "{shown(model.image.registry)}"{hint}'
        where = document.mark("spec", "image", "registry")
        yield problem(codes.UNKNOWN_REGISTRY, document.path, where, what)
    place = (configuration.registry(model.image.registry), model.image.repository)
    other = repositories.setdefault(place, model.name)
    if other != model.name:
        what = f'the models "{model.name}" and "{other}" both use the repository "{shown(place[1])}"'
        where = document.mark("spec", "image", "repository")
        yield problem(codes.IMAGE_SHARED, document.path, where, what)


def _channels(model: Model, numbers: set[int]) -> Iterator[Problem]:
    document = model.document
    for channel, number in model.channels.items():
        pointer = ("spec", "channels", channel)
        if number not in numbers:
            what = f'the channel "{shown(channel)}" points to version {number}, which is not there'
            yield problem(codes.CHANNEL_TO_NOTHING, document.path, document.mark(*pointer), what)
        elif number in model.withdrawn:
            what = f'the channel "{shown(channel)}" points to version {number}, which is withdrawn'
            yield problem(codes.CHANNEL_TO_WITHDRAWN, document.path, document.mark(*pointer), what)
    for number in sorted(set(model.withdrawn) - numbers):
        where = document.key_mark("spec", "withdrawn", str(number))
        what = f"version {number} is withdrawn and is not there"
        yield problem(codes.WITHDRAWN_MISSING, document.path, where, what)
    for index, gate in enumerate(model.gates):
        # Before the first version there is nothing that a channel could point to.
        if gate.reference is not None and numbers and gate.reference not in model.channels:
            hint = did_you_mean(gate.reference, model.channels)
            where = document.mark("spec", "gates", index, "notWorseThan")
            what = f'the channel "{shown(gate.reference)}" is not declared{hint}'
            yield problem(codes.UNKNOWN_CHANNEL, document.path, where, what)


def check_versions(desired: Desired, recorded: Recorded, broken: Collection[str]) -> Iterator[Problem]:
    """Numbers without gaps, and each version equal to the run record that it cites."""
    numbers = numbers_by_model(desired, broken)
    runs = {run.path: run for run in recorded.runs}
    released = {(r.model, r.version) for r in recorded.releases if r.event == "released"}
    for (model, number), version in sorted(desired.versions.items()):
        document = version.document
        if number > 1 and number - 1 not in numbers[model]:
            below = max((n for n in numbers[model] if n < number), default=0)
            gap = f"version {number - 1} is" if below == number - 2 else f"versions {below + 1} to {number - 1} are"
            what = f"{gap} missing below version {number} of {shown(model)}"
            yield problem(codes.VERSION_GAP, document.path, document.mark("spec", "version"), what)
        if version.run_path in broken:
            continue
        run = runs.get(version.run_path)
        if run is None:
            what = f"there is no run record {shown(version.run_path)}"
            yield problem(codes.RUN_MISSING, document.path, document.mark("spec", "run"), what)
        else:
            yield from _cited(version, run, recorded, (model, number) in released)


def _cited(version: ModelVersion, run: RunRecord, recorded: Recorded, released: bool) -> Iterator[Problem]:
    document = version.document
    if run.model != version.model:
        what = f'the run was for the model "{shown(run.model)}"'
        yield problem(codes.RUN_OF_OTHER_MODEL, document.path, document.mark("spec", "run"), what)
        return
    # A released version was a candidate by the gates of its time, whatever later gates say of the run.
    if recorded.outcome(run) is not Outcome.CANDIDATE and not released:
        what = f"the outcome of the run is {recorded.outcome(run).value}"
        yield problem(codes.NOT_A_CANDIDATE, document.path, document.mark("spec", "run"), what)
    expected = version_spec(run, version.number, recorded.gates(run), recorded.judged(run))
    spec: dict[str, Any] = dict(version.spec)
    if released:
        spec["gates"] = expected["gates"]
        earlier = (
            version_spec(run, version.number, {"results": spec["gates"]}, one) for one in recorded.judgements(run)
        )
        expected = next((one for one in earlier if _same(one, spec)), expected)
    if not _same(expected, spec):
        yield from _unequal(document, ("spec",), expected, spec)


def _unequal(document: Document, pointer: Pointer, expected: Any, actual: Any) -> Iterator[Problem]:
    """The innermost fields that differ. What the record does not say, the version must not say either."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key in sorted({*expected, *actual}):
            yield from _unequal(document, (*pointer, key), expected.get(key, _ABSENT), actual.get(key, _ABSENT))
    elif not _same(expected, actual):
        name = ".".join(shown(part, 60) for part in pointer)
        if actual is _ABSENT:
            what = f"{name} is missing; the run record has {_told(expected)}"
        elif expected is _ABSENT:
            what = f"{name} is not in the run record"
        else:
            what = f"{name} is {_told(actual)}; the run record has {_told(expected)}"
        where = document.key_mark(*pointer) if expected is _ABSENT else document.mark(*pointer)
        yield problem(codes.VERSION_DIFFERS, document.path, where, what)


def _same(expected: Any, actual: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are one number, true is none."""
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(_same, expected, actual))
    if isinstance(expected, dict) and isinstance(actual, dict):
        if expected.keys() != actual.keys():
            return False
        for key, value in expected.items():
            # Most are strings: a call for each costs more than all the rest.
            if value != actual[key] if type(value) is str else not _same(value, actual[key]):
                return False
        return True
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    return bool(expected == actual)


def _told(value: Any) -> str:
    return shown(value if isinstance(value, str | int | float) or value is None else type(value).__name__)
