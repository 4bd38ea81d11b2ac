"""The comment on a merged pull request: what its runs gave, what was released, and what could not be done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgetrain.core.digest import short
from edgetrain.core.plan import Operation
from edgetrain.core.record import ProposalRecord, ReleaseRecord, RunRecord
from edgetrain.render.markdown import code, prose, table
from edgetrain.render.outcome import Row
from edgetrain.render.tables import lasted, number
from edgetrain.render.words import plural

# As many of each as fit into one comment.
ROWS = (40, 20, 10, 5, 2, 1)
MOST_CHARACTERS = 60_000
MOST_METRICS = 8
# What leaves no record of its own, so that only the apply that did it can tell.
UNRECORDED = frozenset({Operation.ATTACH.value, Operation.DETACH.value})


@dataclass(frozen=True)
class Merged:
    """What came of one pull request. `runs` with their outcomes as last judged; `now` is what the apply that writes
    this did, or could not do, of it."""

    runs: tuple[tuple[RunRecord, str], ...] = ()
    proposals: tuple[ProposalRecord, ...] = ()
    releases: tuple[ReleaseRecord, ...] = ()
    now: tuple[Row, ...] = ()


def outcome_markdown(found: Merged) -> str:
    """The comment; short enough for one, whatever it tells of."""
    texts = (_written(found, rows) for rows in ROWS)
    return next((text for text in texts if len(text) <= MOST_CHARACTERS), _summary_alone(found))


def _summary_alone(found: Merged) -> str:
    return f"### edgetrain: {_summed_up(found, *_now(found))}\n"


def _now(found: Merged) -> tuple[list[Row], list[Row]]:
    """What was done and leaves no record, and what was not done."""
    done = [row for row in found.now if str(row.status) == "applied" and row.operation in UNRECORDED]
    return done, [row for row in found.now if str(row.status) not in ("applied", "unchanged")]


def _written(found: Merged, most: int) -> str:
    done, open_rows = _now(found)
    lines = [f"### edgetrain: {_summed_up(found, done, open_rows)}"]
    if found.runs:
        rows = [_run(run, outcome) for run, outcome in found.runs[-most:]]
        lines += ["", *table(("run", "outcome", "why", "metrics", "took"), rows)]
        lines += _more(len(found.runs), most, "run")
    if found.proposals:
        lines += ["", "**Proposed**", "", *(f"- {_proposal(one)}" for one in found.proposals[-most:])]
    if found.releases:
        lines += ["", "**Released**", "", *(f"- {_release(one)}" for one in found.releases[-most:])]
        lines += _more(len(found.releases), most, "record")
    if done:
        lines += ["", "**Attachments**", ""]
        lines += [f"- {code(row.change)} {prose(row.message)}" for row in done[:most]]
    if open_rows:
        rows = [_open(row) for row in open_rows[:most]]
        lines += ["", "**Not done, or not yet**", "", *table(("what", "status", "why", "what next"), rows)]
    return "\n".join([*lines, "", "From the records on the branch; the runner keeps this up to date."]) + "\n"


def _summed_up(found: Merged, done: Sequence[Row], open_rows: Sequence[Row]) -> str:
    events = [release.event for release in found.releases]
    counts = (
        (len(found.runs), "run recorded", "runs recorded"),
        (len(found.proposals), "version proposed", "versions proposed"),
        (events.count("released"), "version released", "versions released"),
        (events.count("channel"), "channel moved", "channels moved"),
        (events.count("withdrawn"), "version withdrawn", "versions withdrawn"),
        (events.count("registered"), "version registered anew", "versions registered anew"),
        (len(done), "attachment made", "attachments made"),
        (len(open_rows), "thing not done yet", "things not done yet"),
    )
    told = [plural(count, one, many) for count, one, many in counts if count]
    return ", ".join(told) or "nothing had to be done"


def _run(run: RunRecord, outcome: str) -> tuple[str, ...]:
    shown = sorted(run.metrics)[:MOST_METRICS]
    metrics = "<br>".join(f"{code(name)} {number(run.metrics[name])}" for name in shown)
    left_out = len(run.metrics) - len(shown)
    seconds = run.data.get("seconds")
    return (
        code(run.run_id),
        outcome,
        prose(f"{run.data.get('reason', '')}: {run.data.get('message', '')}"),
        f"{metrics}<br>and {left_out} more" if left_out else metrics,
        lasted(seconds if isinstance(seconds, int | float) else None),
    )


def _proposal(one: ProposalRecord) -> str:
    where = f": #{one.pull_request}" if one.pull_request else ""
    return f"{code(f'{one.model}@{one.version}')} on branch {code(str(one.data.get('branch', '')))}{where}"


def _release(one: ReleaseRecord) -> str:
    data, version = one.data, code(f"{one.model}@{one.version}")
    if one.event == "released":
        image = data["image"]
        tags = ", ".join(code(str(tag)) for tag in image["tags"])
        return f"{version} is released: image {code('sha256:' + short(str(image['digest'])))}, tags {tags}"
    if one.event == "channel":
        ends = (data["from"], data["to"])
        old, new = (code(f"{one.model}@{end}") if end is not None else "nothing" for end in ends)
        return f"channel {code(str(data['channel']))} moved from {old} to {new}"
    if one.event == "withdrawn":
        return f"{version} is withdrawn: {prose(str(data['why']))}"
    return f"{version} is registered in another workspace"


def _open(row: Row) -> tuple[str, ...]:
    why = f"{row.reason}: {row.message}" if row.message else row.reason
    return f"{prose(row.operation)} {code(row.change)}", prose(str(row.status)), prose(why), prose(row.fix)


def _more(count: int, most: int, what: str) -> Iterator[str]:
    if count > most:
        yield ""
        yield f"The last {most} of {plural(count, what)}; `edgetrain runs` and `edgetrain log` list all."
