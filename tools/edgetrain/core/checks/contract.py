"""Checks of an experiment against the training contract: its command, inputs, outputs and sweep."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from edgetrain.core.codes import references as codes
from edgetrain.core.document import Document, Pointer
from edgetrain.core.kinds import Experiment
from edgetrain.core.problem import Problem, did_you_mean, problem, shown
from edgetrain.core.template import references

# Files in the outputs folder that have a meaning of their own.
RESERVED = ("metrics.json", "metrics.jsonl", "mlflow.db")
# What matters for quotation: an expression, an escaped character, a comment's start, or a quotation mark.
_SHELL = re.compile(r"""\$\{\{.*?\}\}|\\[^$]|'|\"|(?:(?<=\s)|^)\#""", re.DOTALL)
_NEARLY = re.compile(r"\$?\{\{?\s*(?:inputs|outputs)\.[^}]*\}?\}?")


def check_contract(experiment: Experiment) -> Iterator[Problem]:
    """What the schema can't see, for it concerns several fields at once."""
    document = experiment.document
    swept = swept_parameters(experiment)
    inputs = {*experiment.data, *experiment.parameters, *swept}
    known = {"inputs": inputs, "outputs": set(experiment.outputs)}
    yield from check_command(document, ("spec", "command"), experiment.command, known)
    used = {reference.name for reference in references(experiment.command) if reference.side == "inputs"}
    for name in experiment.data:
        if name not in used and f"EDGETRAIN_INPUT_{name.upper()}" not in experiment.command:
            what = f'the command does not use the input "{shown(name)}"'
            yield problem(codes.UNUSED_INPUT, document.path, document.key_mark("spec", "inputs", name), what)
    yield from _collisions(experiment, swept)
    yield from _outputs(experiment)
    yield from _sweep(experiment, swept)


def swept_parameters(experiment: Experiment) -> set[str]:
    """The names of the parameters that the trials set."""
    sweep = experiment.sweep
    if sweep is None:
        return set()
    return {*sweep.space, *(name for trial in sweep.trials for name in trial)}


def check_command(
    document: Document, pointer: Pointer, command: str, known: dict[str, set[str]]
) -> Iterator[Problem]:
    """The expressions of a command; `known` are the names declared, by side (`inputs`, `outputs`)."""
    for reference in references(command):
        if reference.name is None:
            what = f"{shown(reference.text)} is neither an input nor an output"
            yield problem(codes.BAD_EXPRESSION, document.path, document.mark(*pointer), what)
        elif reference.name not in known[reference.side]:
            hint = did_you_mean(reference.name, known[reference.side])
            kind = reference.side.removesuffix("s")
            what = f'{shown(reference.text)}: no {kind} "{shown(reference.name)}" is declared{hint}'
            yield problem(codes.UNKNOWN_EXPRESSION_NAME, document.path, document.mark(*pointer), what)
    rest = command
    for reference in references(command):
        rest = rest.replace(reference.text, " ")
    for odd in sorted({found[0] for found in _NEARLY.finditer(rest)} | ({"${{"} if "${{" in rest else set())):
        what = f"{shown(odd)} is not replaced: the form is ${{{{inputs.NAME}}}} or ${{{{outputs.NAME}}}}"
        yield problem(codes.BAD_EXPRESSION, document.path, document.mark(*pointer), what)
    for text in quoted_expressions(command):
        what = f"{shown(text)} stands inside quotation marks"
        yield problem(codes.QUOTED_EXPRESSION, document.path, document.mark(*pointer), what)


def quoted_expressions(command: str) -> list[str]:
    """The expressions that stand inside the shell's quotation marks."""
    found, quote, at = [], "", 0
    while token := _SHELL.search(command, at):
        text, at = token[0], token.end()
        if text.startswith("${{"):
            found += [text] if quote else []
        elif quote:
            # In single quotation marks a backslash is nothing special.
            if text == quote or (quote == "'" and text == "\\'"):
                quote = ""
        elif text in ("'", '"'):
            quote = text
        elif text == "#":
            at = command.find("\n", at) if "\n" in command[at:] else len(command)
    return list(dict.fromkeys(found))


def _collisions(experiment: Experiment, swept: Collection[str]) -> Iterator[Problem]:
    document = experiment.document
    seen: dict[str, str] = {}
    names = [
        *document.data["spec"].get("inputs", {}),
        *sorted(set(swept) - {*experiment.data, *experiment.parameters}),
    ]
    for name in names:
        other = seen.setdefault(name.upper(), name)
        if other != name:
            what = f'"{shown(name)}" and "{shown(other)}" are both EDGETRAIN_INPUT_{shown(name.upper())}'
            where = document.key_mark("spec", "inputs", name)
            yield problem(codes.NAMES_COLLIDE, document.path, where, what)


def _outputs(experiment: Experiment) -> Iterator[Problem]:
    document = experiment.document
    placed: list[tuple[str, tuple[str, ...]]] = []
    for name, output in experiment.outputs.items():
        pointer = ("spec", "outputs", name, "path")
        parts = tuple(part for part in output.path.split("/") if part not in ("", "."))
        if not parts:
            what = f'the output "{shown(name)}" is the whole outputs folder, with the metrics in it'
            yield problem(codes.OUTPUT_RESERVED, document.path, document.mark(*pointer), what)
            continue
        # MLflow's database has companions: mlflow.db-journal, mlflow.db-wal.
        if parts[0].casefold() in RESERVED or parts[0].casefold().startswith("mlflow.db"):
            what = f'the output "{shown(name)}" is written to "{shown(parts[0])}"'
            yield problem(codes.OUTPUT_RESERVED, document.path, document.mark(*pointer), what)
        for other, place in placed:
            short = min(len(place), len(parts))
            if place[:short] == parts[:short]:
                what = f'the outputs "{shown(name)}" and "{shown(other)}" overlap'
                yield problem(codes.OUTPUTS_OVERLAP, document.path, document.mark(*pointer), what)
        placed.append((name, parts))


def _sweep(experiment: Experiment, swept: Collection[str]) -> Iterator[Problem]:
    sweep, document = experiment.sweep, experiment.document
    if sweep is None:
        return
    if sweep.metric not in experiment.metrics:
        hint = did_you_mean(sweep.metric, experiment.metrics)
        what = f'the objective "{shown(sweep.metric)}" is not in metrics{hint}'
        where = document.mark("spec", "objective", "primaryMetric")
        yield problem(codes.METRIC_NOT_DECLARED, document.path, where, what)
    for name in sorted({*experiment.data, *experiment.parameters} & set(swept)):
        what = f'"{shown(name)}" is in inputs, and the sweep sets it too'
        yield problem(codes.SWEPT_AND_FIXED, document.path, document.key_mark("spec", "inputs", name), what)
    for index, trial in enumerate(sweep.trials):
        first = sweep.trials[0]
        if set(trial) != set(first):
            odd = sorted(set(trial) ^ set(first))
            what = (
                f"trial {index + 1} and the first differ in which parameters they set: {shown(', '.join(odd), 200)}"
            )
            where = document.mark("spec", "samplingAlgorithm", "trials", index)
            yield problem(codes.TRIALS_UNLIKE, document.path, where, what)
