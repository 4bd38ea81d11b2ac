"""The summary of an apply's job: results, metrics of the models concerned, and a chart of each gate's metric."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgetrain.core.digest import short
from edgetrain.render.markdown import applied_markdown, code, prose, table
from edgetrain.render.outcome import Applied
from edgetrain.render.tables import number
from edgetrain.render.words import plural

MOST_MODELS = 20
MOST_ROWS = 30
MOST_METRICS = 12
# GitHub takes 1 MiB of all steps of a job.
MOST_CHARACTERS = 500_000
# Mermaid reads no exponents; what needs one stays in the table.
LARGEST, SMALLEST = 1e9, 1e-6
# What the label of a bar has that was measured on other data than the last one.
OTHER = " *"
_TITLE = re.compile(r"[^A-Za-z0-9 ._/@-]")


@dataclass(frozen=True)
class Scored:
    """A version, or a run, with its metrics. `data` is the digest of what it was measured on; a withdrawn version
    and a run that is no candidate are in the table alone."""

    label: str
    state: str
    metrics: Mapping[str, float] = field(repr=False)
    data: str = ""
    charted: bool = True


@dataclass(frozen=True)
class ModelScores:
    """One model. `versions` in the order of numbers, `runs` are those beside them, `gates` the gates' metrics."""

    model: str
    versions: tuple[Scored, ...] = ()
    runs: tuple[Scored, ...] = ()
    gates: tuple[str, ...] = ()


def summary_markdown(applied: Applied, models: Sequence[ModelScores], next_steps: Sequence[str] = ()) -> str:
    """The job's summary."""
    text = applied_markdown(applied, next_steps)
    for one in models[:MOST_MODELS]:
        part = "\n".join(_model(one)) + "\n"
        if len(text) + len(part) > MOST_CHARACTERS:
            return text + "\nMore models are left out here; see the records.\n"
        text += part
    if len(models) > MOST_MODELS:
        text += f"\n{MOST_MODELS} of {plural(len(models), 'model')}; see the records.\n"
    return text


def _model(found: ModelScores) -> Iterator[str]:
    rows = [*found.versions[-MOST_ROWS:], *found.runs[-MOST_ROWS:]]
    others = sorted({name for row in rows for name in row.metrics} - set(found.gates))
    names = [*found.gates, *others][:MOST_METRICS]
    yield from ("", f"### Model {code(found.model)}", "")
    mixed = len({row.data for row in rows}) > 1
    yield from table(
        ("version or run", "state", *(["data"] if mixed else []), *map(code, names)),
        (
            [
                code(row.label),
                prose(row.state),
                *([code(short(row.data))] if mixed else []),
                *(number(row.metrics.get(name)) for name in names),
            ]
            for row in rows
        ),
    )
    if mixed:
        yield ""
        yield "Not all were measured on the same data: numbers compare only where `data` says the same."
    for name in found.gates[:MOST_METRICS]:
        yield from _chart(found, name)


def _chart(found: ModelScores, metric: str) -> Iterator[str]:
    """Bars of the metric, a version beside the other, the newest candidate last; nothing if there is nothing to
    compare."""
    bars = [(row.label.rpartition("@")[2], row) for row in found.versions if row.charted]
    bars += [("candidate", row) for row in found.runs if row.charted]
    drawn = [
        (label, row.data, value)
        for label, row in bars[-MOST_ROWS:]
        if (value := row.metrics.get(metric)) is not None and _drawable(value)
    ]
    if len(drawn) < 2:
        return
    values, newest = [value for *_, value in drawn], drawn[-1][1]
    # The smallest bar is to be seen, too.
    room = (max(values) - min(values)) / 5 or abs(values[0]) / 5 or 1.0
    others = [data != newest for _, data, _ in drawn]
    labels = ", ".join(
        f'"{_plain(label)}{OTHER if other else ""}"' for (label, *_), other in zip(drawn, others, strict=True)
    )
    yield from ("", "```mermaid", "xychart-beta")
    yield f'    title "{_plain(metric)} of {_plain(found.model)}"'
    yield f"    x-axis [{labels}]"
    yield f'    y-axis "{_plain(metric)}" {_decimal(min(values) - room)} --> {_decimal(max(values) + room)}'
    yield f"    bar [{', '.join(map(_decimal, values))}]"
    yield "```"
    if any(others):
        yield ""
        yield "With a star: measured on other data than the last bar, so not comparable with it."


def _drawable(value: float) -> bool:
    return math.isfinite(value) and (value == 0 or SMALLEST <= abs(value) <= LARGEST)


def _decimal(value: float) -> str:
    """The number without an exponent."""
    text = f"{value:.9f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _plain(text: str) -> str:
    """Text inside the chart's quotes, in which nothing ends them, the line or the fence; never empty."""
    return _TITLE.sub("_", text)[:60] or "_"
