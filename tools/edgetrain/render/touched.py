"""Which versions and channels some data, commit or package touches, as text, Markdown and JSON."""

from __future__ import annotations

from dataclasses import dataclass

from edgetrain.core.digest import short
from edgetrain.core.problem import shown
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import code, prose, table
from edgetrain.render.tables import aligned, plain
from edgetrain.render.words import plural


@dataclass(frozen=True)
class TouchedVersion:
    """A version, and how it is touched. `channels` point to it now, `before` did once."""

    version: str
    run: str
    how: tuple[str, ...]
    channels: tuple[str, ...]
    before: tuple[str, ...]
    released: bool
    withdrawn: str | None
    image: str


@dataclass(frozen=True)
class TouchedRun:
    """A run that became no version."""

    run: str
    model: str
    outcome: str
    how: tuple[str, ...]


@dataclass(frozen=True)
class Touched:
    """The answer to one question, from git alone; `untold` is what can't be answered here."""

    question: str
    commit: str
    versions: tuple[TouchedVersion, ...]
    runs: tuple[TouchedRun, ...]
    untold: tuple[str, ...] = ()


HEAD = ("version", "channels", "before", "state", "how")
RUN_HEAD = ("run", "model", "outcome", "how")


def _row(one: TouchedVersion) -> tuple[str, ...]:
    state = "withdrawn" if one.withdrawn is not None else "released" if one.released else "not released"
    return one.version, ", ".join(one.channels) or "-", ", ".join(one.before) or "-", state, "; ".join(one.how)


def _run(one: TouchedRun) -> tuple[str, ...]:
    return one.run, one.model, one.outcome, "; ".join(one.how)


def summary(found: Touched) -> str:
    """`data sha256:…: 2 versions, in 1 channel`."""
    serving = {(one.version.partition("@")[0], channel) for one in found.versions for channel in one.channels}
    told = f"{plural(len(found.versions), 'version')}, in {plural(len(serving), 'channel')}"
    return f"{shown(found.question, 200)}: {told}; {plural(len(found.runs), 'run')} besides"


def touched_text(found: Touched) -> str:
    """For a terminal."""
    lines = [f"Touched by {summary(found)}", f"Read from git at {short(found.commit)}."]
    if found.versions:
        lines += ["", *aligned([HEAD, *map(_row, found.versions)], limit=100)]
    if found.runs:
        lines += ["", "Runs that became no version:", *aligned([RUN_HEAD, *map(_run, found.runs)], limit=100)]
    if found.untold:
        lines += ["", "What can't be told:", *(f"  {shown(one, 500)}" for one in found.untold)]
    return "\n".join(lines) + "\n"


def touched_markdown(found: Touched) -> str:
    """For a page or a comment."""
    lines = [f"# Touched by {prose(summary(found))}", "", f"Read from git at {code(short(found.commit))}."]
    if found.versions:
        lines += ["", *table(HEAD, [tuple(map(prose, _row(one))) for one in found.versions])]
    if found.runs:
        rows = [tuple(map(prose, _run(one))) for one in found.runs]
        lines += ["", "Runs that became no version:", "", *table(RUN_HEAD, rows)]
    if found.untold:
        lines += ["", "What can't be told:", "", *(f"- {prose(one)}" for one in found.untold)]
    return "\n".join(lines) + "\n"


def touched_json(found: Touched) -> str:
    """For machines."""
    return as_json({"apiVersion": "edgetrain/v1", "kind": "Touched", **plain(found)})
