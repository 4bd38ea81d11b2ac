"""The issue that is kept open while something drifts at a site.

It tells nothing that changes by itself, such as commits or times: an issue that people closed comes back only if
something else drifts.
"""

from __future__ import annotations

from edgetrain.core.problem import shown
from edgetrain.render.drift import Drift, drift_rows
from edgetrain.render.markdown import code, prose
from edgetrain.render.words import plural

ROOM = 60_000
HEAD = ["| object | what | differs |", "|---|---|---|"]


def issue_title(found: Drift) -> str:
    """One title a site, whatever drifted."""
    return f"edgetrain: drift at site {shown(found.site)}"


def issue_body(found: Drift) -> str | None:
    """The issue's text within what an issue holds; None if nothing drifted."""
    if not found.any:
        return None
    rows = [f"| {' | '.join(row)} |" for row in drift_rows(found)]
    fit, used = 0, 0
    while fit < len(rows) and used + len(rows[fit]) < ROOM:
        used += len(rows[fit]) + 1
        fit += 1
    lines = [_opening(found), "", *HEAD, *rows[:fit], ""]
    if fit < len(rows):
        lines += [f"{prose(plural(len(rows) - fit, 'more object'))}: {code('edgetrain drift')} shows all.", ""]
    return "\n".join([*lines, *_closing(found)]) + "\n"


def _opening(found: Drift) -> str:
    return (
        f"What lies outside git at site {code(found.site)} is not as main says. Looking changed nothing, and "
        "edgetrain changes nothing of it unreviewed."
    )


def _closing(found: Drift) -> list[str]:
    return [
        "**To mend it**",
        "",
        "- If main is right: on the site's runner "
        f"{code(f'edgetrain plan --refresh --site {found.site} --out plan.json')}, a look by a second person, then "
        f"{code(f'edgetrain apply --site {found.site} --plan plan.json')}.",
        "- If the world is right: change the manifests in a pull request.",
        "- What others made is left alone; rename or remove it if it is in the way.",
        "",
        "Kept up to date by the scheduled drift report, and closed by it when nothing differs any more.",
    ]
