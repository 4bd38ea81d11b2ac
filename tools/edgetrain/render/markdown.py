"""Problems, plans and results as Markdown for a comment on GitHub; nothing in a manifest can break out of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from edgetrain.core.digest import short
from edgetrain.core.plan import Change, Effect, Plan
from edgetrain.core.problem import Problem, Severity, shown
from edgetrain.render.outcome import Applied, summed_up
from edgetrain.render.text import count_line
from edgetrain.render.words import (
    azure_lines,
    code_line,
    condition,
    differences,
    logs_line,
    moves,
    pending,
    refreshed,
    sends,
    summary,
    trial,
    waiver_line,
    why,
)

LIMIT = 500
MARKS = {Effect.CREATE: "+", Effect.UPDATE: "~", Effect.DELETE: "−"}
_SPECIAL = re.compile(r"(?!:(?!/))[^A-Za-z0-9 ,/=+()%.?;'\"…→\u00a0-\U0010ffff-]")
_BEGINNING = re.compile(r"^([0-9]{0,9})((?<=[0-9])[.)]|(?<![0-9])[-+= ])")
_WORD_JOINER = "&#8203;"


def escaped(text: str) -> str:
    """Inline text whose characters all stand for themselves: each special one as a character reference."""
    clean = shown(text, LIMIT)
    done = _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", clean)
    return re.sub(r"(?i)(www)\.", r"\1&#46;", done)


def code(text: str) -> str:
    """A value or a name. An HTML element, for in a table no fence of backticks holds a backtick and a pipe."""
    return f"<code>{escaped(text)}</code>" if text else ""


def prose(text: str) -> str:
    """A sentence. GitHub looks for mentions, issues and addresses after rendering: these are broken up."""
    # What begins a list or an indented block would, behind a dash of ours, be a list in the list.
    done = _BEGINNING.sub(lambda found: f"{found[1]}&#{ord(found[2])};", escaped(text))
    done = re.sub(r"&#(?:64|35);", rf"\g<0>{_WORD_JOINER}", done)  # @someone, owner/repository#1
    done = re.sub(r"(?i)\b(gh)-", rf"\1{_WORD_JOINER}-", done)
    done = re.sub(r":(?=\S)", "&#58;", done)  # :emoji:
    return done.replace("&#58;//", f"&#58;{_WORD_JOINER}//")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table; the cells are Markdown already."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _fix(text: str) -> str:
    return f"fix: {prose(text)}" if text else ""


def problems_markdown(problems: Sequence[Problem]) -> str:
    """A table of problems."""
    if not problems:
        return "### edgetrain: no problems\n"
    rows = (_problem(found) for found in sorted(problems))
    head = f"### edgetrain: {count_line(problems)}"
    return "\n".join([head, "", *table(("where", "code", "what", "fix"), rows)]) + "\n"


def _problem(found: Problem) -> tuple[str, str, str, str]:
    kind = " (warning)" if found.severity is Severity.WARNING else ""
    place = code(f"{found.path}:{found.line}")
    return place, f"{prose(found.code)}{kind}", prose(found.what), prose(found.fix)


def plan_markdown(plan: Plan) -> str:
    """A plan: the summary as the heading, then a table of changes."""
    lines = [f"### edgetrain plan: {summary(plan)}", "", refreshed(plan), ""]
    changes = pending(plan)
    if changes:
        lines += [*table(("", "change", "why", "what differs"), map(_change, changes)), ""]
    lines += [f"- {prose(condition(change))}" for change in plan.changes if change.conditional]
    lines += [f"\n{prose(line)}" for line in moves(plan)]
    lines += _egress(plan)
    lines += _refused(plan)
    if plan.waiting:
        lines += ["", "**Waiting** (no change)", ""]
        lines += [f"- {code(name)} {prose(why(reason))}" for name, reason in plan.waiting]
    if plan.notes:
        lines += ["", "**Noted** (nothing is done about it)", ""]
        lines += [f"- {code(name)} {prose(what)}" for name, what in plan.notes]
    return "\n".join([*lines, "", f"Digest {code(plan.digest)}"]) + "\n"


def _change(change: Change) -> tuple[str, str, str, str]:
    fields = [f"{code(path)}: {code(actual)} → {code(desired)}" for path, actual, desired in differences(change)]
    parameters = trial(change)
    if parameters:
        fields.insert(0, f"trial {code(parameters)}")
    if sends(change):
        fields.append(f"**{prose(sends(change))}**")
    name = f"{change.operation.value} {code(change.id)}"
    return MARKS[change.effect], name, prose(why(change.reason)), "<br>".join(fields)


def _egress(plan: Plan) -> list[str]:
    if not plan.egress:
        return []
    rows = (
        (
            code(each["experiment"]),
            f"{prose(code_line(each['code']))}, {code('sha256:' + short(each['code']['digest']))}",
            prose(logs_line(each["logs"])),
            "<br>".join(prose(waiver_line(waiver)) for waiver in each["waivers"]) or "none",
        )
        for each in plan.egress
    )
    return [
        "",
        "**What the runs get, and what may leave**",
        "",
        *table(("experiment", "code", "logs", "waivers"), rows),
        *_azure(plan),
    ]


def _azure(plan: Plan) -> list[str]:
    rows = [
        (code(each["experiment"]), "<br>".join(prose(line) for line in azure_lines(each["azure"])))
        for each in plan.egress
        if "azure" in each
    ]
    return ["", "**What would travel to Azure**", "", *table(("experiment", "what"), rows)] if rows else []


def _refused(plan: Plan) -> list[str]:
    if not plan.problems:
        return []
    rows = map(_problem, plan.problems)
    return ["", "**Refused** (the rest goes on)", "", *table(("where", "code", "what", "fix"), rows)]


def applied_markdown(applied: Applied, next_steps: Sequence[str] = ()) -> str:
    """An apply's end: the sum as the heading, then a table of results and what to do next."""
    lines = [f"### edgetrain apply: {summed_up(applied)}", ""]
    rows = [
        (
            prose(str(row.status)),
            f"{prose(row.operation)} {code(row.change)}",
            row.outcome.value if row.outcome else "",
            prose(row.reason),
            "<br>".join(filter(None, (prose(row.message), _fix(row.fix) if not row.good else ""))),
        )
        for row in applied.results
    ]
    if rows:
        lines += table(("status", "change", "outcome", "reason", "message"), rows)
    lines += _refused(applied.plan)
    if applied.notes:
        lines += ["", *(f"- {prose(note)}" for note in applied.notes)]
    if next_steps:
        lines += ["", "**Next**", "", *(f"- {code(step)}" for step in next_steps)]
    return "\n".join(lines) + "\n"
