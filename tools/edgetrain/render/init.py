"""What `edgetrain init` made, and what people must do then, as text and JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetrain.core.ports import CheckStatus
from edgetrain.core.problem import shown
from edgetrain.core.step import Step
from edgetrain.render.doctor import Diagnosis, parts_json, parts_table, parts_text, summary
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import code, prose
from edgetrain.render.words import plural

LIMIT, WIDTH = 2000, 100


@dataclass(frozen=True)
class Made:
    """What came of it. `kept` are files that are there with a text of their own; `commit` is the repository's first
    one, empty if none was made."""

    root: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    commit: str
    notes: tuple[str, ...]
    steps: tuple[Step, ...]


def init_text(made: Made) -> str:
    """The files, then the checklist."""
    lines = [f"wrote {shown(path, LIMIT)}" for path in made.written]
    if made.kept:
        lines += [f"left {shown(path, LIMIT)} as it is" for path in made.kept]
    files = plural(len(made.written), "new file") if made.written else "Nothing was missing"
    head = f"{files} in {shown(made.root, LIMIT)}"
    lines += ["", f"{head}, in the first commit {made.commit[:12]}." if made.commit else f"{head}."]
    lines += [f"Note: {shown(note, LIMIT)}" for note in made.notes]
    if made.steps:
        lines += ["", "What people must do now (README.md has it too):", *_checklist(made.steps)]
    return "\n".join(lines) + "\n"


def _checklist(steps: Sequence[Step]) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        yield ""
        yield f"{number:>2}. {shown(step.title, LIMIT)}"
        yield from (f"    {line}" for line in textwrap.wrap(shown(step.why.replace("`", ""), LIMIT), WIDTH))
        if step.where:
            yield f"    where: {shown(step.where, LIMIT)}"
        yield from (f"    $ {shown(command, LIMIT)}" for command in step.commands)


def init_markdown(made: Made) -> str:
    """The files, then the checklist as one to tick off."""
    lines = [f"### edgetrain init: {plural(len(made.written), 'new file')}", ""]
    lines += [f"- {code(path)}" for path in made.written]
    lines += [f"- {code(path)} is left as it is" for path in made.kept]
    lines += [f"- {prose(note)}" for note in made.notes]
    lines += ["", "**What people must do now**", ""]
    for step in made.steps:
        lines.append(f"- [ ] **{prose(step.title)}.** {prose(step.why)}")
        if step.where:
            lines.append(f"  <br>Where: {code(step.where)}")
        lines += [f"  <br>{code(command)}" for command in step.commands]
    return "\n".join(lines) + "\n"


def init_json(made: Made) -> str:
    """For machines."""
    return as_json(
        {
            "apiVersion": "edgetrain/v1",
            "kind": "Initialisation",
            "folder": str(made.root),
            "written": list(made.written),
            "kept": list(made.kept),
            "commit": made.commit,
            "notes": list(made.notes),
            "checklist": [
                {
                    "id": step.id,
                    "title": step.title,
                    "why": step.why,
                    "where": step.where,
                    "commands": list(step.commands),
                }
                for step in made.steps
            ],
        }
    )


def check_text(found: Diagnosis) -> str:
    """By part, each check in a line, and below it how to mend what did not pass."""
    return "\n".join([f"Repository of {summary(found)}", *parts_text(found.parts)]) + "\n"


def check_markdown(found: Diagnosis) -> str:
    """A table of all checks, those that failed first."""
    return "\n".join([f"### edgetrain init --check: {prose(summary(found))}", "", *parts_table(found.parts)]) + "\n"


def check_json(found: Diagnosis) -> str:
    """For machines."""
    return as_json(
        {
            "apiVersion": "edgetrain/v1",
            "kind": "RepositoryCheck",
            "site": found.site,
            "good": found.good,
            "counts": {status.value: found.count(status) for status in CheckStatus},
            "parts": parts_json(found.parts),
        }
    )
