"""The body of a candidate's pull request: all that a reviewer needs to say yes or no to a model version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgetrain.core.digest import short
from edgetrain.core.quantity import human_bytes
from edgetrain.render.evaluation import evaluation_markdown
from edgetrain.render.gates import gate_name
from edgetrain.render.markdown import code, prose, table
from edgetrain.render.tables import lasted, number
from edgetrain.render.words import code_line, plural, value, waiver_line

ROWS = (60, 30, 10, 3)
MOST_CHARACTERS = 60_000
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Reference:
    """The version that the candidate is compared with, in its channel. Not `comparable`: measured on other data."""

    version: str
    channel: str
    metrics: Mapping[str, float]
    comparable: bool


@dataclass(frozen=True)
class Candidate:
    """A candidate for a model version. `data` is its run record as last judged, `path` where that lies; `gates` as
    last judged."""

    model: str
    version: int
    run: str
    path: str
    data: Mapping[str, Any] = field(repr=False)
    gates: Sequence[Mapping[str, Any]] = ()
    reference: Reference | None = None
    channel: str = "production"
    purpose: str = ""
    risk: str = ""
    repository: str = ""
    environment: str = ""
    supersedes: str = ""

    @property
    def id(self) -> str:
        """`<model>@<number>`."""
        return f"{self.model}@{self.version}"


def closed_markdown(model: str, run: str, outcome: str, said: str, path: str) -> str:
    """Why edgetrain closes a proposal."""
    return "\n".join(
        [
            f"**Closed: {code(run)} is {code(outcome)} now**, by the gates and the evaluation of {code(model)} on "
            "the main branch, which changed since it was proposed.",
            "",
            f"> {prose(said)}",
            "",
            f"Recorded in {code(path)}. Nothing is lost: if a later change makes it a candidate again, it is "
            f"proposed again. By hand, once it is one: {code(f'edgetrain propose {run}')}.",
        ]
    )


def proposal_title(found: Candidate) -> str:
    """The pull request's title."""
    return f"Release {found.id} from run {found.run}"


def proposal_markdown(found: Candidate) -> str:
    """The pull request's body; short enough for one, whatever the record holds."""
    texts = (_written(found, rows) for rows in ROWS)
    return next((text for text in texts if len(text) <= MOST_CHARACTERS), "\n".join(_merging(found)) + "\n")


def _written(found: Candidate, most: int) -> str:
    parts = (_head(found), _metrics(found, most), _gates(found, most), _origin(found, most), _left(found, most))
    return "\n".join([line for part in (*parts, _verifying(found), _merging(found)) for line in part]) + "\n"


def _head(found: Candidate) -> Iterator[str]:
    yield f"Run {code(found.run)} is the candidate for version {found.version} of model {code(found.model)}."
    if found.supersedes:
        yield f"It takes the place of {code(found.supersedes)}, which was proposed here before."
    if found.purpose or found.risk:
        risk = f" Risk class: {prose(found.risk)}." if found.risk else ""
        yield ""
        yield f"Intended purpose: {prose(found.purpose or NOT_KNOWN)}{risk}"


def _metrics(found: Candidate, most: int) -> Iterator[str]:
    metrics, other = found.data["metrics"], found.reference
    yield from ("", f"### Metrics ({prose(str(found.data['metricsSource']))})", "")
    if other is None:
        yield f"Nothing is in channel {code(found.channel)}: there is no version to compare with."
        yield ""
    elif not other.comparable:
        yield (
            f"**not_comparable**: {code(other.version)} in {code(other.channel)} was measured on other data, so "
            "its numbers say nothing about which of the two is better."
        )
        yield ""
    names = sorted({*metrics, *(other.metrics if other else ())})
    head = ["metric", code(found.id)]
    if other is not None:
        head += [f"{code(other.version)} ({prose(other.channel)})", "difference"]
    yield from table(head, (_metric(name, metrics, other) for name in names[:most]))
    yield from _more(len(names), most, "metric")
    if evaluation := found.data.get("evaluation"):
        yield from evaluation_markdown(evaluation, found.data["selfReported"], found.channel, most)


def _metric(name: str, metrics: Mapping[str, float], other: Reference | None) -> list[str]:
    mine = metrics.get(name)
    if other is None:
        return [code(name), number(mine)]
    theirs = other.metrics.get(name)
    if not other.comparable:
        difference = "not comparable"
    else:
        difference = "-" if mine is None or theirs is None else f"{mine - theirs:+.6g}"
    return [code(name), number(mine), number(theirs), difference]


def _gates(found: Candidate, most: int) -> Iterator[str]:
    yield from ("", "### Gates", "")
    if not found.gates:
        yield f"Model {code(found.model)} declares no gates: nothing was asked of the candidate."
        return
    rows = (
        (
            code(gate_name(str(gate["metric"]), gate.get("slice"))),
            prose(str(gate["rule"])),
            number(gate["value"]),
            number(gate["bound"]),
            code(str(gate["reference"] or "")) or "-",
            prose(str(gate["status"])),
        )
        for gate in found.gates[:most]
    )
    yield from table(("metric", "rule", "value", "bound", "compared with", "verdict"), rows)
    yield from _more(len(found.gates), most, "gate")


def _origin(found: Candidate, most: int) -> Iterator[str]:
    data = found.data
    of, hand, target = data["identityOf"], data.get("provenance") or {}, data["target"]
    approved = ", ".join(prose(str(name)) for name in hand.get("approvers") or ()) or "nobody that is known"
    request = hand.get("pullRequest")
    yield from ("", "### Where it comes from", "")
    yield f"- experiment {code(str(data['experiment']))}, attempt {data['attempt']}, record {code(found.path)}"
    yield f"- commit {code(str(data['commit']))}, code {code(_short(of['code']))}"
    yield f"- proposed by {prose(str(hand.get('proposer') or NOT_KNOWN))}, approved by {approved}" + (
        f", in {_request(request)}" if request else ""
    )
    yield f"- parameters {code(value(data['parameters']))}, seed {code(value(of.get('seed')))}"
    environment = data["environment"]
    yield (
        f"- environment: image {code(str(environment['image'] or 'none'))}, packages' lock "
        f"{code(_short(environment['requirements']))}, Python {prose(str(environment['python']))}, "
        f"{prose(str(environment['platform']))}"
    )
    took = data.get("seconds")
    yield (
        f"- trained on {code(str(target['name']))} ({prose(str(target['type']))}) at {code(str(target['site']))}, "
        f"took {lasted(took if isinstance(took, int | float) else None)}"
    )
    yield from ("", "**Data**, read where it lies", "")
    rows = (
        (
            code(name),
            code(f"{entry['datastore']}:{entry['path']}"),
            f"{int(entry['files']):,}",
            f"{human_bytes(int(entry['bytes']))} ({int(entry['bytes']):,})",
            code(str(entry["digest"])),
        )
        for name, entry in sorted(data["inputs"].items())[:most]
    )
    yield from table(("input", "where", "files", "bytes", "digest"), rows)
    yield from _more(len(data["inputs"]), most, "input")


def _left(found: Candidate, most: int) -> Iterator[str]:
    left = found.data["egress"]
    yield from ("", "### What left the site", "")
    yield f"- egress level {code(str(left['level']))}" + (
        "" if left["level"] == "enforced" else ": **the script was not kept from the network**"
    )
    yield f"- {plural(int(left['files']), 'file')}, {human_bytes(int(left['bytes']))}, and the metrics above"
    yield f"- logs {'stayed at the site' if left['logs'] == 'site' else 'left once the content check had passed'}"
    check = left.get("check")
    if check:
        share = "all" if check["coverage"] == 1 else f"{100 * check['coverage']:.2g} %"
        done = "complete" if check["complete"] else "not complete"
        yield f"- content check {done}: compared with {share} of the training data"
        for one in check["findings"][:most]:
            state = "waived" if one["waived"] else "**not waived**"
            yield f"- found, {state}: {prose(_finding(one))}"
    if "code" in left:
        given = left["code"]
        yield f"- the run was given {prose(code_line(given))} of code, {code(_short(given['digest']))}"
    waivers = left["waivers"]
    yield f"- waivers: {len(waivers) or 'none'}"
    for waiver in waivers[:most]:
        yield f"  - **waived** {prose(waiver_line(waiver))}"


def _finding(one: Mapping[str, Any]) -> str:
    return f"{one['code']} in {one['where']}: {one['what']}"


def _verifying(found: Candidate) -> Iterator[str]:
    yield from ("", "### How to verify", "")
    yield "- on this branch `edgetrain validate` demands that the manifest repeats the run's record"
    verify, audit = (code(f"edgetrain {verb} {found.id}") for verb in ("verify", "audit"))
    yield f"- once it is merged {verify} recomputes all that it claims, and {audit} tells the whole story"


def _merging(found: Candidate) -> Iterator[str]:
    yield from ("", "### What merging does", "")
    waits = f", once the reviewers of environment {code(found.environment)} agree," if found.environment else ""
    yield f"1. The version{waits} is registered as {code(found.id)} in the workspace."
    where = f" to {code(found.repository)}" if found.repository else ""
    tag = code(str(found.version))
    yield f"2. Its image is assembled and pushed{where}, tagged {tag} and with the merge commit."
    yield "3. A release record is committed, and this branch is deleted."
    yield ""
    channels = code(f"channels: {{{found.channel}: {found.version}}}")
    manifest, again = code(f"models/{found.model}/model.yaml"), code(f"edgetrain propose {found.run}")
    yield (
        f"No channel moves by that alone. To put it into {code(found.channel)}, set {channels} in {manifest}, here "
        "or in a pull request of its own. Closed without a merge, this candidate is not proposed again unless "
        f"somebody asks: {again}."
    )


def _short(digest: object) -> str:
    return f"sha256:{short(str(digest))}" if digest else "none"


def _request(text: object) -> str:
    """`#7` as the forge links it; anything else as it is read."""
    told = str(text)
    number_only = told.removeprefix("#")
    return told if told.startswith("#") and number_only.isascii() and number_only.isdigit() else prose(told)


def _more(count: int, most: int, what: str) -> Iterator[str]:
    if count > most:
        yield ""
        yield f"{most} of {plural(count, what)}; the record has all."
