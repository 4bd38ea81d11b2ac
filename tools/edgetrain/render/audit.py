"""The story of a model version as text, Markdown and JSON: the same sections in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgetrain.core.digest import short
from edgetrain.core.quantity import human_bytes
from edgetrain.render.evaluation import evaluation_rows
from edgetrain.render.gates import GATE_HEAD, gate_row
from edgetrain.render.hands import NOBODY, approvers, hand_rows, merger, proposer
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import code, escaped, prose
from edgetrain.render.story import Story, point
from edgetrain.render.tables import aligned, labelled, lasted, number, plain
from edgetrain.render.words import code_line, plural, value, waiver_line


@dataclass(frozen=True)
class Section:
    """A heading, labelled facts, then a table (its first row is the head)."""

    title: str
    facts: list[tuple[str, str]]
    table: list[tuple[str, ...]]


def audit_text(story: Story) -> str:
    """For a terminal."""
    lines = [f"Audit of {story.id}: {_standing(story)}", *_closing_words(story)]
    for section in _sections(story):
        lines += ["", section.title]
        lines += labelled(section.facts)
        lines += aligned(section.table, "    " if section.facts else "  ", limit=100)
    return "\n".join(lines) + "\n"


def audit_markdown(story: Story) -> str:
    """For a page or a comment."""
    lines = [f"# Audit of {escaped(story.id)}", "", prose(_standing(story))]
    lines += ["", *(prose(line) for line in _closing_words(story))]
    for section in _sections(story):
        facts = [f"- {prose(label)}: {_cell(text)}" for label, text in section.facts]
        lines += ["", f"## {escaped(section.title)}", *(["", *facts] if facts else [])]
        if section.table:
            head, *rows = section.table
            lines += ["", f"| {' | '.join(map(escaped, head))} |", f"|{'---|' * len(head)}"]
            lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def audit_json(story: Story) -> str:
    """For machines."""
    return as_json({"apiVersion": "edgetrain/v1", "kind": "Audit", **plain(story)})


def _cell(text: str) -> str:
    return code(text) if text.startswith("sha256:") else prose(text)


def _standing(story: Story) -> str:
    if story.withdrawal:
        return f"withdrawn: {story.withdrawal.why}"
    if story.channels:
        return f"released, in {', '.join(story.channels)}"
    return "released, in no channel" if story.release else "merged, not released yet"


def _closing_words(story: Story) -> list[str]:
    told = plural(len(story.doubts), "open doubt")
    read = f"Read from git at {short(story.commit)}." if story.commit else "Read from git."
    return [f"{told if story.doubts else 'No open doubts'}. {read}"]


def _sections(story: Story) -> Iterator[Section]:
    if story.doubts:
        yield Section("Open doubts", [(doubt.name, doubt.what) for doubt in story.doubts], [])
    if story.description or story.purpose:
        yield Section("The model", [("is", story.description or "-"), ("meant for", story.purpose or "-")], [])
    yield Section("The experiment", _experiment(story), [])
    yield _data(story)
    yield Section("The environment", [(name, _said(story.environment[name])) for name in story.environment], [])
    yield Section("The training", _training(story), [])
    yield _judgement(story)
    yield Section("What left the site", _left(story), [])
    yield _artifacts(story)
    yield Section("The approval", [*hand_rows(story.approved), *_about(story)], [])
    yield Section("The release", _release(story), [])
    yield _channels(story)
    yield from _moves(story)
    yield _papers(story)


def _said(found: Any) -> str:
    """A value in full where it is a digest: an audit is for comparing these."""
    return found if isinstance(found, str) and found.startswith("sha256:") else value(found)


def _experiment(story: Story) -> list[tuple[str, str]]:
    source = story.source
    return [
        ("experiment", source.experiment),
        *hand_rows(source.proposed),
        ("trained commit", source.commit),
        ("manifest", source.manifest or NOBODY),
        ("code", source.code),
        ("command", source.command),
        ("parameters", _parameters(source.parameters)),
        ("seed", value(source.seed)),
    ]


def _parameters(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value(parameters[name])}" for name in sorted(parameters)) or "none"


def _data(story: Story) -> Section:
    rows = [
        (
            data.name,
            f"{data.datastore}:{data.path}",
            NOBODY if data.files is None else str(data.files),
            NOBODY if data.bytes is None else human_bytes(data.bytes),
            data.digest,
        )
        for data in story.data
    ]
    head = [("input", "where", "files", "size", "digest")]
    return Section("The data", [] if rows else [("inputs", "none")], [*head, *rows] if rows else [])


def _training(story: Story) -> list[tuple[str, str]]:
    run = story.training
    if run is None:
        return [("run record", "not in git")]
    held = [name for name, held in sorted(run.isolation.items()) if held]
    missing = [name for name, held in sorted(run.isolation.items()) if not held]
    rows = [
        ("run", f"{run.run} (attempt {run.attempt})"),
        ("where", f"{run.target} ({run.target_type}) at {run.site}"),
        ("egress level", run.egress),
        ("isolation", ", ".join(held) or "none"),
    ]
    if missing:
        rows.append(("not isolated", ", ".join(missing)))
    rows += [("started", run.started or NOBODY), ("ended", run.ended or NOBODY)]
    if run.seconds is not None:
        rows.append(("took", lasted(run.seconds)))
    rows += [("outcome", f"{run.outcome}: {run.reason} {run.message}".strip()), ("edgetrain", run.edgetrain)]
    if run.retry:
        rows.append(("retried by", f"{run.retry.get('by', NOBODY)}: {run.retry.get('reason', '')}"))
    return rows


def _judgement(story: Story) -> Section:
    metrics = ", ".join(f"{name} {number(story.metrics[name])}" for name in sorted(story.metrics))
    facts = [("metrics", metrics or "none"), ("measured", story.metrics_source)]
    facts += evaluation_rows(story.evaluation, story.self_reported)
    rows = [gate_row(gate) for gate in story.gates]
    return Section("The judgement", facts, [GATE_HEAD, *rows] if rows else [])


def _left(story: Story) -> list[tuple[str, str]]:
    left = story.left
    rows = [
        ("level", left.level),
        ("files", f"{left.files}, {human_bytes(left.bytes)}"),
        ("logs", "stayed at the site" if left.logs == "site" else left.logs),
        *(("waiver", waiver_line(waiver)) for waiver in left.waivers),
    ]
    if not left.waivers:
        rows.append(("waivers", "none"))
    if left.check:
        share = "all" if left.check["coverage"] == 1 else f"{100 * left.check['coverage']:.2g} %"
        compared = f"{human_bytes(left.check['bytes'])} compared with {share} of the training data"
        rows.append(("content check", f"{compared}, {left.check['fingerprints']} fingerprints"))
        rows += [
            ("found, waived", f"{one['code']} in {one['where']}: {one['what']}") for one in left.check["findings"]
        ]
    if left.code:
        rows.append(("code given", f"{code_line(left.code)}, {left.code['digest']}"))
    return rows


def _artifacts(story: Story) -> Section:
    rows = [(a.name, a.type, str(a.files), human_bytes(a.size), a.digest) for a in story.artifacts]
    return Section("The model's files", [], [("output", "type", "files", "size", "digest"), *rows] if rows else [])


def _about(story: Story) -> list[tuple[str, str]]:
    return [("version file", story.path), ("its digest", story.manifest)]


def _release(story: Story) -> list[tuple[str, str]]:
    release = story.release
    if release is None:
        return [("released", "not yet")]
    here = f"number {release.number} in {release.workspace}"
    return [
        ("registered", "; before: ".join([here, ", ".join(release.earlier)]) if release.earlier else here),
        ("image", f"{release.registry}: {release.repository}@{release.digest}"),
        ("base", release.base),
        ("tags", ", ".join(release.tags)),
        ("recorded", release.time or NOBODY),
    ]


def _channels(story: Story) -> Section:
    facts = [("in", ", ".join(story.channels) or "no channel")]
    if story.withdrawal:
        facts.append(("withdrawn", story.withdrawal.why))
        facts += hand_rows(story.withdrawal.hand)
    rows = [
        (
            move.channel,
            point(move.before),
            point(move.after),
            proposer(move.hand),
            approvers(move.hand),
            merger(move.hand),
            move.time or NOBODY,
        )
        for move in story.moves
    ]
    head = ("channel", "from", "to", "proposed by", "approved by", "merged by", "recorded")
    return Section("The channels", facts, [head, *rows] if rows else [])


def _moves(story: Story) -> Iterator[Section]:
    """Each move that a pull request made, in full."""
    for move in story.moves:
        if move.hand.review is not None:
            title = f"The move of {move.channel} from {point(move.before)} to {point(move.after)}"
            yield Section(title, hand_rows(move.hand), [])


def _papers(story: Story) -> Section:
    rows = [
        (paper.path, short(paper.commit), f"{paper.signature} {paper.signer}".strip(), paper.digest)
        for paper in story.papers
    ]
    head = ("record", "commit", "signature", "digest")
    return Section("The records", [] if rows else [("records", "none")], [head, *rows] if rows else [])
