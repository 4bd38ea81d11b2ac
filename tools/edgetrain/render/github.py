"""GitHub workflow annotations: `::error file=...,line=...::message`, with GitHub's own escapes."""

from __future__ import annotations

from collections.abc import Sequence

from edgetrain.core.codes import CODES
from edgetrain.core.plan import Plan
from edgetrain.core.problem import Problem, Severity, shown
from edgetrain.render.outcome import Applied, summed_up
from edgetrain.render.words import summary, waiver_line

LIMIT = 2000


def annotation(level: str, message: str, *, title: str = "", file: str = "", line: int = 0, column: int = 0) -> str:
    """One workflow command. `level` is error, warning or notice; only `message` may have several lines."""
    properties = {"file": file, "line": line or "", "col": column or "", "title": title}
    given = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items() if value)
    return f"::{level}{' ' if given else ''}{given}::{_data(message)}"


def _data(text: str) -> str:
    clean = "\n".join(shown(line, LIMIT) for line in text.split("\n"))
    return clean.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def problem_annotations(problems: Sequence[Problem]) -> str:
    """One line a problem, on the offending line of the file."""
    lines = []
    for found in sorted(problems):
        known = CODES.get(found.code)
        lines.append(
            annotation(
                "warning" if found.severity is Severity.WARNING else "error",
                f"{found.what}\n{found.fix}".strip(),
                title=f"{found.code} {known.title}" if known else found.code,
                file=found.path,
                line=found.line,
                column=found.column,
            )
        )
    return "".join(f"{line}\n" for line in lines)


def plan_annotations(plan: Plan) -> str:
    """The plan's refusals on their lines, and its summary and waivers as notices."""
    notices = [annotation("notice", summary(plan), title="edgetrain plan")]
    notices += [
        annotation("notice", waiver_line(waiver), title=f"egress waiver of {each['experiment']}")
        for each in plan.egress
        for waiver in each["waivers"]
    ]
    return problem_annotations(plan.problems) + "".join(f"{line}\n" for line in notices)


def applied_annotations(applied: Applied) -> str:
    """What went wrong, each as an error, and the sum as a notice."""
    lines = [
        annotation("error", f"{row.change}: {row.message or row.reason}\n{row.fix}".strip(), title=row.reason)
        for row in applied.results
        if not row.good
    ]
    lines.append(annotation("notice", summed_up(applied), title="edgetrain apply"))
    return problem_annotations(applied.plan.problems) + "".join(f"{line}\n" for line in lines)
