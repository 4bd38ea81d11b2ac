"""Tells how a model was evaluated on held-out data: facts for the audit, tables for a candidate's pull request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgetrain.core.digest import short
from edgetrain.core.quantity import human_bytes
from edgetrain.render.markdown import code, prose, table
from edgetrain.render.tables import number
from edgetrain.render.words import plural

NOT_SCORED = "not_comparable"


def evaluation_rows(evaluation: Mapping[str, Any] | None, reported: Mapping[str, float]) -> list[tuple[str, str]]:
    """Facts with a label each; none without an evaluation."""
    if evaluation is None:
        return []
    rows = [("evaluation", str(evaluation["identity"]))]
    for name, entry in sorted(evaluation["inputs"].items()):
        size = f"{plural(int(entry['files']), 'file')}, {human_bytes(int(entry['bytes']))}"
        rows.append((f"held out as {name}", f"{entry['datastore']}:{entry['path']}, {size}, {entry['digest']}"))
    rows += [(f"slice {name}", _line(found)) for name, found in sorted(evaluation.get("slices", {}).items())]
    for channel, other in sorted(evaluation["references"].items()):
        told = _line(other["metrics"]) if "metrics" in other else f"{NOT_SCORED}: {other['reason']}"
        rows.append((f"{channel}: {other['version']}", told))
    if evaluation.get("reason"):
        rows.append(("not evaluated", str(evaluation["reason"])))
    rows.append(("self-reported", _line(reported) or "none"))
    return rows


def evaluation_markdown(
    evaluation: Mapping[str, Any], reported: Mapping[str, float], channel: str, most: int
) -> Iterator[str]:
    """What stands below the metrics of a candidate: the slices beside the channel's, the data, the script's own."""
    other = evaluation["references"].get(channel) or {}
    theirs = other.get("slices", {})
    rows = [
        (code(part), code(metric), number(mine), number(beside), _difference(mine, beside))
        for part in sorted({*evaluation["slices"], *theirs})
        for metric in sorted({*evaluation["slices"].get(part, {}), *theirs.get(part, {})})
        for mine, beside in [(evaluation["slices"].get(part, {}).get(metric), theirs.get(part, {}).get(metric))]
    ]
    if rows:
        head = ("slice", "metric", "candidate", code(str(other.get("version", channel))), "difference")
        yield from ("", *table(head, rows[:most]))
        if len(rows) > most:
            yield from ("", f"{most} of {plural(len(rows), 'number')} of slices; the record has all.")
    if "reason" in other:
        yield from (
            "",
            f"**{NOT_SCORED}**: {code(str(other['version']))} has no scores: {prose(str(other['reason']))}",
        )
    yield ""
    held = ", ".join(
        f"{code(name)} ({code(short(str(entry['digest'])))}, {plural(int(entry['files']), 'file')})"
        for name, entry in sorted(evaluation["inputs"].items())
    )
    yield f"Evaluated on held-out {held}, by evaluation {code(short(str(evaluation['identity'])))}."
    if reported:
        yield f"Self-reported by the training script, and asked by no gate: {prose(_line(reported))}."


def _line(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {number(metrics[name])}" for name in sorted(metrics))


def _difference(mine: float | None, theirs: float | None) -> str:
    return "-" if mine is None or theirs is None else f"{mine - theirs:+.6g}"
