"""What people read on the forge about candidates and merges: golden files, and values that no reader falls for."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given

from edgetrain.core.record import ProposalRecord, RunRecord, parse_record, serialise
from edgetrain.reconcile.report import ApplyResult, Result, Status
from edgetrain.render.outcome_comment import Merged, outcome_markdown
from edgetrain.render.proposal import Candidate, Reference, proposal_markdown, proposal_title
from edgetrain.render.summary import ModelScores, Scored, summary_markdown
from tests.cli.samples import APPLIED, NOTHING, STEPS
from tests.cli.test_renderings import ATTACKS, applied_with, hostile, parsed, shape
from tests.reconcile import builders as b

GOLDEN = Path(__file__).parent / "golden"
CHECK = {
    "complete": True,
    "level": "full",
    "files": 1,
    "bytes": 2_000_000,
    "fingerprints": 4000,
    "coverage": 0.25,
    "seconds": 1.5,
    "findings": [
        {"code": "E704", "where": "output model", "what": "3 rows of the data stand in it", "waived": True}
    ],
}
WAIVER = {"code": "E704", "path": "", "reason": "nearest neighbours", "owner": "@hosp/ds", "expires": "2026-12-31"}
EGRESS = {
    "level": "advisory",
    "logs": "forge",
    "files": 1,
    "bytes": 2_000_000,
    "waivers": [WAIVER],
    "check": CHECK,
    "code": {"files": 2, "bytes": 4_096, "digest": b.CODE},
}


def proposed(run: RunRecord, number: int, **more: Any) -> ProposalRecord:
    value = {
        "apiVersion": "edgetrain/v1",
        "kind": "ProposalRecord",
        "model": run.model,
        "version": number,
        "run": run.digest,
        "branch": f"edgetrain/proposal/{run.model}-{number}",
        "supersedes": None,
        **more,
    }
    identity = run.identity.removeprefix("sha256:")[:12]
    path = f"models/{run.model}/proposals/{number}-{identity}-{run.attempt}.json"
    found = parse_record(path, serialise(value), 2)
    assert isinstance(found, ProposalRecord)
    return found


RUN = b.run(0.2, auroc=0.93125, egress=EGRESS, message="2 gates passed")
FIRST = b.version(b.run(), 1)
CANDIDATE = Candidate(
    model="triage",
    version=2,
    run=RUN.run_id,
    path=RUN.path,
    data=RUN.data,
    gates=RUN.data["gates"]["results"],
    reference=Reference("triage@1", "production", {"auroc": 0.9, "recall": 0.7}, True),
    purpose="Orders the reading list; not a diagnosis.",
    risk="high",
    repository="triage",
    environment="edgetrain-release",
    supersedes="scan-0123456789ab-1",
)
FRESH = Candidate("triage", 1, RUN.run_id, RUN.path, b.run(0.2).data)
OTHER_DATA = Candidate(
    "triage",
    2,
    RUN.run_id,
    RUN.path,
    RUN.data,
    gates=[{**RUN.data["gates"]["results"][1], "status": "not_comparable"}],
    reference=Reference("triage@1", "production", {"auroc": 0.9}, False),
)
WARDS = {"small": {"auroc": 0.91}, "large": {"auroc": 0.95}}
EVALUATION = {
    "identity": "sha256:" + "e5" * 32,
    "inputs": {"heldout": {"datastore": "s", "path": "h", "digest": "sha256:" + "4e" * 32, "files": 3, "bytes": 9}},
    "metrics": {"auroc": 0.93},
    "slices": WARDS,
    "references": {
        "production": {"version": "triage@1", "metrics": {"auroc": 0.9}, "slices": {"small": {"auroc": 0.92}}}
    },
}
EVALUATED = Candidate(
    "triage",
    2,
    RUN.run_id,
    RUN.path,
    {
        **RUN.data,
        "metrics": {"auroc": 0.93},
        "metricsSource": "evaluated",
        "selfReported": {"auroc": 0.99},
        "evaluation": EVALUATION,
    },
    gates=[{**RUN.data["gates"]["results"][1], "slice": "small"}],
    reference=Reference("triage@1", "production", {"auroc": 0.9}, True),
)
WORSE = {"reason": "GatesFailed", "message": "auroc 0.7 does not hold min (0.8)"}
RELEASED = b.released(FIRST)
MERGED = Merged(
    runs=((RUN, "candidate"), (b.run(0.3, auroc=0.7, outcome="not_better", **WORSE), "not_better")),
    proposals=(proposed(RUN, 2, pullRequest=14),),
    releases=(
        RELEASED,
        b.moved(FIRST, None, 1, follows=None, number=2, ordinal=4),
        b.withdrawn(FIRST, "wrong labels in two wards", number=3, ordinal=5),
    ),
    now=(
        Result("run/big", "train", Status.WAITING, "NoFreeSlot", "runner has 0 of 1 slots free"),
        Result("attachment/hub-vm", "attach", Status.APPLIED, "NotAttached", "attached"),
        Result("channel/triage/canary", "move", Status.FAILED, "Transient", "the registry is away", "apply again"),
    ),
)
DATA = "sha256:" + "ab12" * 16
SCORES = ModelScores(
    "triage",
    versions=(
        Scored("triage@1", "version", {"auroc": 0.9, "loss": 1e-12}, DATA),
        Scored("triage@2", "withdrawn", {"auroc": 0.99, "loss": 0.1}, DATA, charted=False),
        Scored("triage@3", "production", {"auroc": 0.91, "loss": 0.2, "recall": 0.5}, DATA),
    ),
    runs=(
        Scored("scan-aaaaaaaaaaaa-1", "not_better", {"auroc": 0.5}, DATA, charted=False),
        Scored("scan-bbbbbbbbbbbb-1", "candidate", {"auroc": 0.93125, "loss": 0.3}, "sha256:" + "cd34" * 16),
    ),
    gates=("auroc", "loss"),
)
RENDERINGS = {
    "proposal.md": proposal_markdown(CANDIDATE),
    "proposal_first.md": proposal_markdown(FRESH),
    "proposal_other_data.md": proposal_markdown(OTHER_DATA),
    "proposal_evaluated.md": proposal_markdown(EVALUATED),
    "outcome.md": outcome_markdown(MERGED),
    "outcome_nothing.md": outcome_markdown(Merged()),
    "summary.md": summary_markdown(APPLIED, [SCORES], STEPS),
    "summary_nothing.md": summary_markdown(ApplyResult(NOTHING), []),
}


@pytest.mark.parametrize("name", RENDERINGS)
def test_rendering(name: str, golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / name, RENDERINGS[name])


def test_a_comparison_across_other_data_is_none() -> None:
    text = RENDERINGS["proposal_other_data.md"]
    assert "**not_comparable**" in text
    assert re.search(r"\| not comparable \|$", text, re.MULTILINE)
    assert "+0.0" not in text


# --- hostile values ------------------------------------------------------------------------------------


def replaced(value: Any, text: str) -> Any:
    """The same with the text in place of each free text of a record, digests and states aside."""
    if isinstance(value, dict):
        return {key: replaced(item, text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(item, text) for item in value]
    if isinstance(value, str) and value not in ("site", "enforced", "passed"):
        return text
    return value


def candidate_with(value: str) -> Candidate:
    data = replaced(copy.deepcopy(dict(RUN.data)), value)
    data["metrics"] = {value: 0.5}
    data["inputs"] = {value: data["inputs"]["images"]}
    data["provenance"] = {**data["provenance"], "approvers": [value]}
    data |= {"selfReported": {value: 0.5}, "evaluation": {**EVALUATION, "identity": value}}
    held = {value: {"digest": value, "files": 1, "bytes": 1}}
    beside = {value: {"version": value, "reason": value}}
    data["evaluation"] |= {"inputs": held, "slices": {value: {value: 0.5}}, "references": beside}
    gates = [{**gate, "value": 0.5, "bound": 0.5, "slice": value} for gate in data["gates"]["results"]]
    reference = Reference(value, value, {value: 0.4}, True)
    return Candidate(value, 2, value, value, data, gates, reference, *[value] * 6)


def merged_with(value: str) -> Merged:
    run = copy.copy(RUN)
    object.__setattr__(run, "data", {**RUN.data, "metrics": {value: 1.0}, "reason": value, "message": value})
    proposal = copy.copy(MERGED.proposals[0])
    object.__setattr__(proposal, "data", {**proposal.data, "branch": value, "model": value})
    releases = []
    for one in MERGED.releases:
        changed = copy.copy(one)
        image = {"digest": value, "tags": [value]}
        more = {"model": value, "channel": value, "why": value, "image": image, "from": value, "to": value}
        object.__setattr__(changed, "data", {**one.data, **more})
        releases.append(changed)
    now = (
        Result(value, value, Status.FAILED, value, value, value),
        Result(value, "attach", Status.APPLIED, value, value),
    )
    return Merged(((run, "candidate"),), (proposal,), tuple(releases), now)


def scores_with(value: str) -> ModelScores:
    versions = tuple(Scored(value, value, {value: number}, value) for number in (0.5, 0.6))
    return ModelScores(value, versions, (Scored(value, value, {value: 0.7}, value),), (value,))


WRITTEN: dict[str, Callable[[str], str]] = {
    "proposal": lambda value: proposal_markdown(candidate_with(value)),
    "outcome": lambda value: outcome_markdown(merged_with(value)),
    "summary": lambda value: summary_markdown(applied_with(value), [scores_with(value)], (value,)),
}


@pytest.mark.parametrize("name", WRITTEN)
@given(value=hostile)
@example(value=ATTACKS[0])
@example(value=ATTACKS[1])
@example(value=ATTACKS[2])
@example(value='"]\n```\n# out')
@example(value=ATTACKS[-1])
def test_no_value_changes_the_shape_of_what_is_written(name: str, value: str) -> None:
    plain = "x" if value else ""
    assert shape(parsed(WRITTEN[name](value))) == shape(parsed(WRITTEN[name](plain)))


@pytest.mark.parametrize("name", WRITTEN)
@given(value=hostile)
@example(value="#0")
def test_what_is_written_mentions_nobody_and_links_nowhere(name: str, value: str) -> None:
    outside, depth = "", 0
    for token in parsed(WRITTEN[name](value)):
        if token.type == "html_inline":
            depth += {"<code>": 1, "</code>": -1}.get(token.content, 0)
        elif token.type in ("text", "text_special") and depth == 0:
            outside += token.content
    assert depth == 0
    # The number of the proposal's own pull request is meant to be one, and so is that of the run's.
    told = re.sub(r"(?<=, in )#\d+", "", outside.replace(": #14", ""))
    assert not re.search(r"@\w|#\d|(?i:\bgh-\d)|://", told)


def fences(text: str) -> list[str]:
    return [token.content for token in parsed(text) if token.type == "fence"]


@given(value=hostile)
def test_a_chart_holds_nothing_but_a_chart(value: str) -> None:
    (chart,) = fences(WRITTEN["summary"](value))
    title, axis, metric, bars = chart.splitlines()[1:]
    text = r"\"[A-Za-z0-9 ._/@-]*\""
    assert re.fullmatch(rf"    title {text}", title)
    assert re.fullmatch(rf"    x-axis \[{text}, {text}, {text}\]", axis)
    assert re.fullmatch(rf"    y-axis {text} 0\.46 --> 0\.74", metric)
    assert bars == "    bar [0.5, 0.6, 0.7]"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, -1e12, 1e-30])
def test_a_number_that_can_not_be_drawn_is_in_the_table_alone(value: float) -> None:
    versions = tuple(Scored(f"m@{at}", "version", {"score": number}) for at, number in enumerate((value, 0.5), 1))
    text = summary_markdown(ApplyResult(NOTHING), [ModelScores("m", versions, (), ("score",))])
    assert not fences(text)
    assert f"{value:.6g}" in text


def test_an_endless_record_still_fits() -> None:
    many = {f"metric{n}": 0.5 for n in range(5000)}
    waivers = [{**WAIVER, "reason": "<" * 400}] * 50
    data = {**RUN.data, "metrics": many, "egress": {**EGRESS, "waivers": waivers}}
    candidate = Candidate("triage", 2, RUN.run_id, RUN.path, data, gates=[*RUN.data["gates"]["results"]] * 500)
    assert len(proposal_markdown(candidate)) < 65_000
    assert len(proposal_title(candidate)) < 200
    runs = tuple((RUN, "candidate") for _ in range(500))
    rows = tuple(Result(f"run/{n}", "train", Status.FAILED, "X", "<" * 400, "<" * 400) for n in range(500))
    assert len(outcome_markdown(Merged(runs, (), (), rows))) < 65_000
