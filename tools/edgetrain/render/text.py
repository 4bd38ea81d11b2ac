"""Problems, plans and results as plain text for a terminal or a log; colour is the caller's affair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from edgetrain.core.digest import short
from edgetrain.core.plan import Change, Effect, Operation, Plan
from edgetrain.core.problem import Code, Problem, Severity, shown
from edgetrain.render.outcome import Applied, summed_up
from edgetrain.render.words import (
    azure_lines,
    code_line,
    condition,
    differences,
    logs_line,
    moves,
    pending,
    plural,
    refreshed,
    sends,
    summary,
    trial,
    waiver_line,
    why,
)

MARKS = {Effect.CREATE: "+", Effect.UPDATE: "~", Effect.DELETE: "-"}
LIMIT = 2000


def problem_line(found: Problem) -> str:
    """`path:line:col: CODE what; fix`, in one line whatever the file holds."""
    kind = "warning " if found.severity is Severity.WARNING else ""
    what, fix = shown(found.what, LIMIT), shown(found.fix, LIMIT)
    place = f"{shown(found.path, LIMIT)}:{found.line}:{found.column}"
    return f"{place}: {kind}{shown(found.code)} {_joined(what, fix)}"


def _joined(what: str, fix: str) -> str:
    if not fix:
        return what
    if what.endswith(("?", ".", "!")):
        return f"{what} {fix}"
    starts_a_sentence = fix[:1].isupper() and fix[1:2].islower()
    return f"{what}; {fix[0].lower() + fix[1:] if starts_a_sentence else fix}"


def problems_text(problems: Sequence[Problem], closing: str = "") -> str:
    """All problems by file, then what to do; `closing` is a last line of the caller's."""
    blocks = [
        "\n".join(problem_line(found) for found in group)
        for _, group in groupby(sorted(problems), key=lambda found: found.path)
    ]
    if problems:
        first = shown(sorted(problems)[0].code)
        blocks.append(f"{count_line(problems)} What a code means: edgetrain explain {first}")
    if closing:
        blocks.append(closing)
    return "\n\n".join(blocks) + "\n" if blocks else ""


def count_line(problems: Sequence[Problem]) -> str:
    """`2 problems and 1 warning in 2 files.`"""
    warnings = sum(found.severity is Severity.WARNING for found in problems)
    told = [plural(len(problems) - warnings, "problem")]
    if warnings:
        told.append(plural(warnings, "warning"))
    return f"{' and '.join(told)} in {plural(len({found.path for found in problems}), 'file')}."


def plan_text(plan: Plan) -> str:
    """A plan: the summary first, then each change with its reason and what differs."""
    lines = [f"Plan: {summary(plan)}. digest {plan.digest}", refreshed(plan)]
    changes = pending(plan)
    follows = {change.after[-1]: change for change in plan.changes if change.conditional and change.after}
    if changes:
        lines.append("")
    for change in changes:
        lines += _change(change)
        if change.id in follows:
            lines.append(f"    {condition(follows[change.id])}")
    free = [change for change in plan.changes if change.conditional and not change.after]
    lines += ["", *(f"  {condition(change)}" for change in free)] if free else []
    lines += ["", *moves(plan)] if moves(plan) else []
    return "\n".join([*lines, *_egress(plan), *_refused(plan), *_waiting(plan), *_notes(plan)]) + "\n"


def _change(change: Change) -> Iterator[str]:
    name = shown(change.id, LIMIT)
    yield f"  {MARKS[change.effect]} {change.operation.value} {name}  {why(change.reason)}"
    parameters = trial(change)
    if parameters and change.operation is Operation.TRAIN:
        yield f"      trial: {parameters}"
    for path, actual, desired in differences(change):
        yield f"      {path}: {actual} → {desired}"
    if sends(change):
        yield f"      {sends(change)}"


def _egress(plan: Plan) -> Iterator[str]:
    if plan.egress:
        yield from ("", "What the runs get as code, and what is waived for them:")
    for each in plan.egress:
        code = f"{code_line(each['code'])}, sha256:{short(each['code']['digest'])}"
        yield f"  {shown(each['experiment'], LIMIT)}  {code}; logs {logs_line(each['logs'])}"
        yield from (f"      waived: {waiver_line(waiver)}" for waiver in each["waivers"])
        yield from (f"      {line}" for line in (azure_lines(each["azure"]) if "azure" in each else ()))


def _refused(plan: Plan) -> Iterator[str]:
    if plan.problems:
        yield from ("", "Refused (the rest goes on):")
        yield from (f"  {problem_line(found)}" for found in plan.problems)


def _waiting(plan: Plan) -> Iterator[str]:
    if plan.waiting:
        yield from ("", "Waiting (no change):")
        yield from (f"  {shown(name, LIMIT)}  {why(reason)}" for name, reason in plan.waiting)


def _notes(plan: Plan) -> Iterator[str]:
    if plan.notes:
        yield from ("", "Noted (nothing is done about it):")
        yield from (f"  {shown(name, LIMIT)}  {shown(what, LIMIT)}" for name, what in plan.notes)


def applied_text(applied: Applied, next_steps: Sequence[str] = ()) -> str:
    """An apply's end: the sum, a table, what went wrong and how to mend it, what to do next."""
    lines = [f"Apply: {summed_up(applied)}"]
    rows = [
        (
            str(row.status),
            shown(row.operation),
            shown(row.change, LIMIT),
            row.outcome.value if row.outcome else "-",
            shown(row.reason),
        )
        for row in applied.results
    ]
    if rows:
        lines += ["", *_table([("status", "does", "object", "outcome", "reason"), *rows])]
    bad = [row for row in applied.results if not row.good]
    if bad:
        lines += ["", "Look at:"]
        for row in bad:
            lines.append(f"  {shown(row.change, LIMIT)}: {shown(row.message or row.reason, LIMIT)}")
            if row.fix:
                lines.append(f"      {shown(row.fix, LIMIT)}")
    lines += [*_refused(applied.plan), *_waiting(applied.plan)]
    lines += [shown(note, LIMIT) for note in applied.notes]
    if next_steps:
        lines += ["", "Next:", *(f"  {shown(step, LIMIT)}" for step in next_steps)]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def code_text(code: Code) -> str:
    """One problem code, explained."""
    kind = " (a warning: it does not fail)" if code.severity is Severity.WARNING else ""
    return f"{code.id} {code.title}{kind}\n\nWhy: {code.why}\n\nFix: {code.fix}\n"


def codes_text(codes: Sequence[Code]) -> str:
    """A list of codes, one a line."""
    return "\n".join(f"{code.id}  {code.title}" for code in codes) + "\n"
