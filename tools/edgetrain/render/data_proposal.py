"""The pull request that proposes the digest of data which changed at the site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgetrain.core.problem import shown
from edgetrain.core.quantity import human_bytes
from edgetrain.render.data_watch import Moved
from edgetrain.render.markdown import code, table
from edgetrain.render.words import plural


@dataclass(frozen=True)
class DataProposal:
    """What is proposed of one experiment. `path` is its manifest, `runs` how many are trained if it is merged."""

    experiment: str
    path: str
    model: str
    site: str
    runs: int
    inputs: tuple[Moved, ...]


def proposal_title(found: DataProposal) -> str:
    """The pull request's title, and the commit's subject."""
    names = ", ".join(one.name for one in found.inputs)
    return shown(f"Train {found.experiment} on the data that site {found.site} has now: {names}", 200)


def proposal_body(found: DataProposal) -> str:
    """The pull request's text."""
    head = ("input", "where", "", "files", "size", "digest")
    lines = [
        f"The data that experiment {code(found.experiment)} reads at site {code(found.site)} is not what "
        f"{code(found.path)} stands for any more. This pull request writes the digest of what lies there now, and "
        "changes nothing else.",
        "",
        *table(head, [row for one in found.inputs for row in _rows(one)]),
        "",
        _consequence(found),
        "",
        "- What differs is told in counts, bytes and digests. Names and contents of the files stay at the site; "
        "look there before you approve.",
        "- Kept up to date by the scheduled data watch, and closed by it when the data is again as main says.",
        "- Closed by people, it stays closed until the data changes again, or somebody asks: "
        f"{code(f'edgetrain propose --data {found.experiment}')} on the site's runner.",
    ]
    return "\n".join(lines) + "\n"


def _consequence(found: DataProposal) -> str:
    if not found.runs:
        return "**Merging it trains nothing**: the runs that it wants are recorded already."
    return (
        f"**Merging it trains {plural(found.runs, 'run')}** of {code(found.experiment)} for model "
        f"{code(found.model)} on this data. Until then a new run of it finds other data than its manifest stands "
        "for, and is refused."
    )


def _rows(one: Moved) -> Sequence[tuple[str, ...]]:
    files = "not known" if one.files_before is None else f"{one.files_before:,}"
    size = "not known" if one.bytes_before is None else human_bytes(one.bytes_before)
    return (
        (code(one.name), code(one.where), "before", files, size, code(one.old)),
        ("", "", "now", f"{one.files:,}", human_bytes(one.bytes), code(one.new)),
    )
