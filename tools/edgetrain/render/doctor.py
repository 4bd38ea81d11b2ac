"""What `edgetrain doctor` found, as text, Markdown, JSON and GitHub annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgetrain.core.ports import Check, CheckStatus
from edgetrain.core.problem import shown
from edgetrain.render.github import annotation
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import code, prose
from edgetrain.render.words import plural

LIMIT = 1000
MARKS = {CheckStatus.PASS: "pass", CheckStatus.WARN: "WARN", CheckStatus.FAIL: "FAIL"}


@dataclass(frozen=True)
class Part:
    """One thing that was looked at: `kind` is git, secrets, forge, artifacts, workspace, registry, datastore or
    target."""

    kind: str
    name: str
    checks: tuple[Check, ...]

    @property
    def title(self) -> str:
        """`target runner`, or the kind alone."""
        return f"{self.kind} {self.name}".strip()


@dataclass(frozen=True)
class Diagnosis:
    """All parts of one site."""

    site: str
    parts: tuple[Part, ...]

    def count(self, status: CheckStatus) -> int:
        """How many checks went so."""
        return sum(check.status is status for part in self.parts for check in part.checks)

    @property
    def good(self) -> bool:
        """Whether nothing failed."""
        return not self.count(CheckStatus.FAIL)


def summary(found: Diagnosis) -> str:
    """`site here: 12 passed, 1 warning, 0 failed`."""
    passed, warned, failed = (found.count(status) for status in CheckStatus)
    return f"site {shown(found.site)}: {passed} passed, {plural(warned, 'warning')}, {failed} failed"


def doctor_text(found: Diagnosis) -> str:
    """By part, each check in a line, and below it how to mend what did not pass."""
    return "\n".join([f"Doctor of {summary(found)}", *parts_text(found.parts)]) + "\n"


def parts_text(parts: Sequence[Part]) -> list[str]:
    """Each part with a line a check."""
    lines: list[str] = []
    width = max((len(check.name) for part in parts for check in part.checks), default=0)
    for part in parts:
        lines += ["", shown(part.title, LIMIT)]
        for check in part.checks:
            reason = f" ({shown(check.reason)})" if check.reason else ""
            name = shown(check.name, LIMIT).ljust(width)
            lines.append(f"  {MARKS[check.status]}  {name}  {shown(check.message, LIMIT)}{reason}")
            if check.fix and check.status is not CheckStatus.PASS:
                lines.append(f"        {' ' * width}fix: {shown(check.fix, LIMIT)}")
    return lines


def doctor_markdown(found: Diagnosis) -> str:
    """A table of all checks, those that failed first."""
    lines = [f"### edgetrain doctor: {prose(summary(found))}", "", *parts_table(found.parts)]
    return "\n".join(lines) + "\n"


def parts_table(parts: Sequence[Part]) -> list[str]:
    """A table of all checks, those that failed first."""
    order = {CheckStatus.FAIL: 0, CheckStatus.WARN: 1, CheckStatus.PASS: 2}
    pairs = [(part, check) for part in parts for check in part.checks]
    lines = ["| | where | check | what | reason | fix |", "|---|---|---|---|---|---|"]
    for part, check in sorted(pairs, key=lambda pair: order[pair[1].status]):
        fix = "" if check.status is CheckStatus.PASS else prose(check.fix)
        told = (prose(check.message), prose(check.reason), fix)
        lines.append(f"| {' | '.join((MARKS[check.status], prose(part.title), code(check.name), *told))} |")
    return lines


def doctor_json(found: Diagnosis) -> str:
    """For machines."""
    return as_json(
        {
            "apiVersion": "edgetrain/v1",
            "kind": "Diagnosis",
            "site": found.site,
            "good": found.good,
            "counts": {status.value: found.count(status) for status in CheckStatus},
            "parts": parts_json(found.parts),
        }
    )


def parts_json(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Each part with its checks."""
    return [
        {"kind": part.kind, "name": part.name, "checks": [_check(check) for check in part.checks]} for part in parts
    ]


def _check(check: Check) -> dict[str, str]:
    return {
        "name": check.name,
        "status": check.status.value,
        "message": check.message,
        "reason": check.reason,
        "fix": check.fix,
    }


def doctor_annotations(found: Diagnosis) -> str:
    """What failed as errors, warnings as warnings, and the sum as a notice."""
    lines = [*_annotations(found.parts), annotation("notice", summary(found), title="edgetrain doctor")]
    return "".join(f"{line}\n" for line in lines)


def _annotations(parts: Sequence[Part]) -> list[str]:
    levels = {CheckStatus.WARN: "warning", CheckStatus.FAIL: "error"}
    return [
        annotation(
            levels[check.status],
            f"{part.title}: {check.message}\n{check.fix}".strip(),
            title=f"{check.name} {check.reason}".strip(),
        )
        for part in parts
        for check in part.checks
        if check.status in levels
    ]
