"""What training a version again gave, as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from edgetrain.core.problem import shown
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import code, prose, table
from edgetrain.render.tables import aligned, labelled, lasted, number, plain


class Verdict(StrEnum):
    """`EQUAL`: other bytes, and metrics within the tolerance."""

    IDENTICAL = "identical"
    EQUAL = "equal"
    DIFFERENT = "different"


class Where(StrEnum):
    """In what the two differ."""

    CODE = "code"
    ENVIRONMENT = "environment"
    DATA = "data"
    OUTCOME = "outcome"
    BYTES = "bytes"
    METRICS = "metrics"


@dataclass(frozen=True)
class Finding:
    """One difference: of what, as recorded, and as found now."""

    where: Where
    what: str
    recorded: str
    now: str


@dataclass(frozen=True)
class Metric:
    """One metric of both runs; None: not reported."""

    name: str
    recorded: float
    now: float | None
    within: bool


@dataclass(frozen=True)
class Reproduction:
    """One version, trained again. `run` is what was run, empty if it had no sense to; `entry` its id in
    Azure ML, which keeps it, where that alone could run it; `folder` holds this."""

    version: str
    recorded: str
    commit: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    target: str
    recorded_target: str
    tolerance: float
    run: str = ""
    entry: str = ""
    level: str = ""
    metrics: tuple[Metric, ...] = ()
    seconds: float | None = None
    recorded_seconds: float | None = None
    folder: str = ""

    @property
    def good(self) -> bool:
        """Whether the version could be made again."""
        return self.verdict is not Verdict.DIFFERENT

    @property
    def where(self) -> tuple[str, ...]:
        """In what it differs, each once, in order."""
        return tuple(dict.fromkeys(finding.where.value for finding in self.findings))


def summary(found: Reproduction) -> str:
    """`mean@1: equal (bytes differ)`."""
    where = f" ({', '.join(found.where)} differ{'s' if len(found.where) == 1 else ''})" if found.where else ""
    return f"{shown(found.version)}: {found.verdict.value}{where}"


def meaning(found: Reproduction) -> str:
    """The verdict in a sentence."""
    if found.verdict is Verdict.IDENTICAL:
        told = "Trained again from git and the site's data, every output has the recorded digest."
        return told if not found.findings else f"{told} It did so in spite of what differs."
    if found.verdict is Verdict.EQUAL:
        off = number(found.tolerance)
        return f"Trained again, it is not the same to the byte; no metric is further off than {off}."
    if not found.run:
        return "It was not trained again: what it was made of is not what the record says."
    return "Trained again, it is not what was recorded."


def _facts(found: Reproduction) -> list[tuple[str, str]]:
    facts = [("recorded run", found.recorded), ("commit", found.commit)]
    same = found.target == found.recorded_target
    facts.append(("target", found.target if same else f"{found.target}; recorded {found.recorded_target}"))
    if found.level:
        facts.append(("egress level", found.level))
    if found.entry:
        facts.append(("run in Azure ML", found.entry))
    if found.seconds is not None:
        before = f"; recorded {lasted(found.recorded_seconds)}" if found.recorded_seconds is not None else ""
        facts.append(("time", lasted(found.seconds) + before))
    return facts


METRIC_HEAD = ("metric", "recorded", "now", "difference", "")


def _metric(one: Metric) -> tuple[str, ...]:
    if one.now is None:
        return one.name, number(one.recorded), "not reported", "", "differs"
    return (
        one.name,
        number(one.recorded),
        number(one.now),
        number(one.now - one.recorded),
        "within" if one.within else "differs",
    )


FINDING_HEAD = ("where", "what", "recorded", "now")


def _finding(one: Finding) -> tuple[str, ...]:
    return one.where.value, one.what, one.recorded, one.now


def reproduction_text(found: Reproduction) -> str:
    """For a terminal."""
    lines = [f"Reproduce {summary(found)}", meaning(found), "", *labelled(_facts(found))]
    if found.metrics:
        lines += ["", *aligned([METRIC_HEAD, *map(_metric, found.metrics)])]
    if found.findings:
        lines += ["", *aligned([FINDING_HEAD, *map(_finding, found.findings)], limit=100)]
    where = "git or" if found.entry else "git, to the workspace or"
    lines += ["", f"Nothing{' else' if found.entry else ''} was written to {where} to the site's store."]
    return "\n".join(lines) + "\n"


def reproduction_markdown(found: Reproduction) -> str:
    """For a comment or a report."""
    lines = [f"### edgetrain reproduce {prose(summary(found))}", "", prose(meaning(found)), ""]
    lines += [f"- {prose(name)}: {code(value)}" for name, value in _facts(found)]
    for head, rows in (
        (METRIC_HEAD, [_metric(one) for one in found.metrics]),
        (FINDING_HEAD, [_finding(one) for one in found.findings]),
    ):
        if rows:
            lines += ["", *table(head, [tuple(map(prose, row)) for row in rows])]
    return "\n".join(lines) + "\n"


def reproduction_json(found: Reproduction) -> str:
    """For machines."""
    value: Mapping[str, object] = plain(found)
    return as_json(
        {
            "apiVersion": "edgetrain/v1",
            "kind": "Reproduction",
            **{name: part for name, part in value.items() if name != "folder"},
            "good": found.good,
            "where": list(found.where),
        }
    )
