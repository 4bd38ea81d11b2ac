"""How the world differs from what git says, as text, Markdown and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgetrain.core.plan import Change
from edgetrain.core.problem import Problem, shown
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import code, prose
from edgetrain.render.text import problem_line
from edgetrain.render.words import differences, plural, why

LIMIT = 2000


@dataclass(frozen=True)
class Drift:
    """`drifted` is what was as recorded and is no more, `foreign` what others made (object and words), `refused`
    what somebody else holds, `lost` whose stored files are gone. `noted` is worth knowing: data that moved on, and
    targets that take no runs. `pending` counts changes that are new in git: apply makes them, they are no drift."""

    site: str
    commit: str
    drifted: tuple[Change, ...] = ()
    foreign: tuple[tuple[str, str], ...] = ()
    refused: tuple[Problem, ...] = ()
    noted: tuple[tuple[str, str], ...] = ()
    pending: int = 0
    lost: tuple[tuple[str, str], ...] = ()

    @property
    def any(self) -> bool:
        """Whether somebody should look."""
        return bool(self.drifted or self.foreign or self.refused or self.lost)


def summary(found: Drift) -> str:
    """`site here: 2 drifted, 1 foreign`, or that nothing did."""
    if not found.any:
        return f"site {shown(found.site)}: nothing drifted"
    drifted = len(found.drifted) + len(found.refused) + len(found.lost)
    return f"site {shown(found.site)}: {drifted} drifted, {len(found.foreign)} foreign"


def _closing(found: Drift) -> str:
    if not found.pending:
        return ""
    return f"Not applied yet, and no drift: {plural(found.pending, 'change')}; edgetrain plan --refresh shows it."


def drift_text(found: Drift) -> str:
    """Each object with what is there and what should be."""
    lines = [f"Drift of {summary(found)}"]
    if found.drifted:
        lines.append("")
    for change in found.drifted:
        lines.append(f"  {shown(change.id, LIMIT)}  {why(change.reason)}")
        lines += [f"      {path}: {actual}, should be {wanted}" for path, actual, wanted in differences(change)]
    lines += ["", *(f"  {problem_line(one)}" for one in found.refused)] if found.refused else []
    groups = (("Lost:", found.lost), ("Made by others:", found.foreign), ("Noted:", found.noted))
    for title, pairs in groups:
        lines += ["", title, *(f"  {shown(n, LIMIT)}  {shown(what, LIMIT)}" for n, what in pairs)] if pairs else []
    if found.drifted:
        lines += ["", "To mend it: edgetrain plan --refresh --out FILE, a review, then edgetrain apply --plan FILE"]
    lines += ["", _closing(found)] if found.pending else []
    return "\n".join(lines) + "\n"


def drift_markdown(found: Drift) -> str:
    """A table, for a comment or a summary."""
    lines = [f"### edgetrain drift: {prose(summary(found))}", "", *drift_table(found)]
    lines += [f"- {code(name)} {prose(what)}" for name, what in found.noted]
    lines += ["", prose(_closing(found))] if found.pending else []
    return "\n".join(lines).rstrip("\n") + "\n"


def drift_table(found: Drift) -> list[str]:
    """A row an object, and an empty line; nothing if nothing drifted."""
    rows = drift_rows(found)
    head = ["| object | what | differs |", "|---|---|---|"]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows), ""] if rows else []


def drift_rows(found: Drift) -> list[tuple[str, str, str]]:
    """What drifted, what somebody else holds, and what others made, in Markdown."""
    rows = [
        (
            code(change.id),
            prose(why(change.reason)),
            "<br>".join(
                f"{code(p)}: {code(actual)}, should be {code(want)}" for p, actual, want in differences(change)
            ),
        )
        for change in found.drifted
    ]
    rows += [
        (code(one.path), prose(f"{one.code} {one.what}"), f"fix: {prose(one.fix)}" if one.fix else "")
        for one in found.refused
    ]
    return rows + [(code(name), prose(what), "") for name, what in (*found.lost, *found.foreign)]


def drift_json(found: Drift) -> str:
    """For machines."""
    return as_json(
        {
            "apiVersion": "edgetrain/v1",
            "kind": "Drift",
            "site": found.site,
            "commit": found.commit,
            "any": found.any,
            "drifted": [change.to_json() for change in found.drifted],
            "foreign": _pairs(found.foreign),
            "refused": [{name: getattr(p, name) for name in Problem.__dataclass_fields__} for p in found.refused],
            "lost": _pairs(found.lost),
            "noted": _pairs(found.noted),
            "pending": found.pending,
        }
    )


def _pairs(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    return [{"object": name, "what": what} for name, what in pairs]
