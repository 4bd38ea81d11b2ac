"""All attempts, and the table of them in the docs."""

from __future__ import annotations

from edgetrain.core.digest import digest_bytes
from edgetrain.egress.scan import Piece, scan

from . import containers, figures, texts, ways
from .attempt import AFTER, DURING, OPEN, Attempt

ATTEMPTS: dict[str, list[Attempt]] = {
    "Text": texts.ATTEMPTS,
    "Numbers": figures.ATTEMPTS,
    "Models, images, archives": containers.ATTEMPTS,
    "Other ways": ways.ATTEMPTS,
}
BEGIN, END = "<!-- red team: made by pytest --update-golden -->", "<!-- end of red team -->"


def every() -> list[Attempt]:
    """All of them."""
    return [attempt for part in ATTEMPTS.values() for attempt in part]


def before(attempts: list[Attempt]) -> dict[str, str]:
    """By name: the codes that the look at the code finds before the run."""
    contents = {attempt.name: attempt.source.encode() for attempt in attempts}
    pieces = {name: Piece("python", digest_bytes(data), "py", lambda d=data: d) for name, data in contents.items()}
    found = scan(pieces.values())
    return {name: ", ".join(sorted({one.code for one in found[piece.key]})) for name, piece in pieces.items()}


def table() -> str:
    """In Markdown: where each attempt is stopped, and what isn't."""
    found = every()
    told = before(found)
    count = {stage: sum(attempt.stopped == stage for attempt in found) for stage in (DURING, AFTER, OPEN)}
    lines = [
        f"{len(found)} attempts: {count[DURING]} are stopped during the run, {count[AFTER]} after it, "
        f"{count[OPEN]} are not stopped.",
        "",
    ]
    for name, attempts in ATTEMPTS.items():
        lines += [f"#### {name}", "", "| attempt | before | stopped | by |", "|---|---|---|---|"]
        lines += [
            f"| {attempt.name} | {told[attempt.name]} | {'**no**' if attempt.stopped == OPEN else attempt.stopped} "
            f"| {attempt.by} |"
            for attempt in attempts
        ]
        lines.append("")
    return "\n".join(lines)
