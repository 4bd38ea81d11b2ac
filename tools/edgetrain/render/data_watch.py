"""What data watch found and did, as text, Markdown and JSON. Counts, bytes and digests; never names of files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from edgetrain.core.problem import shown
from edgetrain.core.quantity import human_bytes
from edgetrain.render.jsons import as_json
from edgetrain.render.markdown import code, prose, table
from edgetrain.render.tables import plain
from edgetrain.render.words import value

_ADDRESS = re.compile(r"https://[A-Za-z0-9.:/_-]{1,300}")
SAID = {
    "same": "as main says",
    "proposed": "a new digest is proposed",
    "committed": "the new digest is on main",
    "withdrawn": "as main says; its proposal is over",
    "left": "other data; its proposal was closed by people",
    "unseen": "no run has seen it yet",
    "failed": "could not be looked at",
}


@dataclass(frozen=True)
class Moved:
    """One data input whose content is another than main says. What was before is None where no record tells it."""

    name: str
    where: str
    old: str
    new: str
    files: int
    bytes: int
    files_before: int | None = None
    bytes_before: int | None = None


@dataclass(frozen=True)
class Row:
    """One experiment; `state` is one of SAID. `reason`, `message` and `fix` say what went wrong."""

    experiment: str
    state: str
    inputs: tuple[Moved, ...] = ()
    branch: str = ""
    url: str = ""
    reason: str = ""
    message: str = ""
    fix: str = ""


@dataclass(frozen=True)
class DataWatch:
    """All that was looked at from one site, at a commit of main."""

    site: str
    commit: str
    rows: tuple[Row, ...] = ()

    @property
    def good(self) -> bool:
        """Whether all could be looked at."""
        return all(row.state != "failed" for row in self.rows)


def summary(found: DataWatch) -> str:
    """`site here: 1 proposed, 2 same`."""
    counts = Counter(row.state for row in found.rows)
    told = ", ".join(f"{counts[state]} {state}" for state in SAID if counts[state])
    return f"site {shown(found.site)}: {told or 'no experiment reads data here'}"


def data_watch_text(found: DataWatch) -> str:
    """An experiment a line, and below it what differs."""
    lines = [f"Data watch of {summary(found)}"]
    for row in found.rows:
        lines += ["", f"{shown(row.experiment)}: {SAID[row.state]}"]
        lines += [f"  {shown(one.name)} at {shown(one.where, 200)}: {difference(one)}" for one in row.inputs]
        lines += [f"  {label}: {shown(text, 1000)}" for label, text in _told(row)]
    return "\n".join(lines) + "\n"


def difference(one: Moved) -> str:
    """`3 → 5 files, 12 B → 20 B, sha256:... → sha256:...`; what was before only where it is known."""
    files = "" if one.files_before is None else f"{one.files_before:,} → "
    size = "" if one.bytes_before is None else f"{human_bytes(one.bytes_before)} → "
    now = f"{one.files:,} file{'' if one.files == 1 else 's'}"
    return f"{files}{now}, {size}{human_bytes(one.bytes)}, {value(one.old)} → {value(one.new)}"


def _told(row: Row) -> Iterator[tuple[str, str]]:
    if row.url or row.branch:
        yield "proposal", row.url or f"branch {row.branch}"
    if row.message:
        yield row.reason or "note", row.message
    if row.fix:
        yield "fix", row.fix


def data_watch_markdown(found: DataWatch) -> str:
    """A table, for a step's summary."""
    rows = [
        (
            code(row.experiment),
            prose(SAID[row.state]),
            "<br>".join(f"{code(one.name)} {prose(difference(one))}" for one in row.inputs),
            "<br>".join(
                f"{label}: {_linked(text)}" if text == row.url else prose(f"{label}: {text}")
                for label, text in _told(row)
            ),
        )
        for row in found.rows
    ]
    lines = [f"### edgetrain data watch: {prose(summary(found))}", ""]
    lines += table(("experiment", "its data", "what differs", ""), rows) if rows else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _linked(text: str) -> str:
    """An address of nothing but plain characters as a link; anything else as it is read."""
    return f"<{text}>" if _ADDRESS.fullmatch(text) else prose(text)


def data_watch_json(found: DataWatch) -> str:
    """For machines."""
    return as_json({"apiVersion": "edgetrain/v1", "kind": "DataWatch", **plain(found), "good": found.good})
