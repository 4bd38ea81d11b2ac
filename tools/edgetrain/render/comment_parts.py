"""Packs blocks of Markdown into comments that are not too long: a table or fold is told in two, never broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgetrain.render.markdown import code

# GitHub takes so many characters; the hidden mark by which a comment is found again needs some of them.
LONGEST = 65_536 - 200
MOST_PARTS = 4
# Rows that are not folded away, and names that are listed in one line.
OPEN = 12
MOST_LISTED = 10


@dataclass(frozen=True)
class Block:
    """`head`, `rows` and `foot` stand on lines of their own. Between rows it may go on in the next part: with the
    same head, and with `title`, a heading, told again. Without rows it is never broken."""

    head: str
    rows: tuple[str, ...] = ()
    foot: str = ""
    title: str = ""

    def text(self, rows: Sequence[str], again: bool) -> str:
        """The block with some of its rows."""
        title = f"{self.title} (continued)" if again and self.title else self.title
        body = "\n".join(part for part in (self.head, *rows, self.foot) if part)
        return f"{title}\n\n{body}" if title else body


def length(text: str) -> int:
    """Characters as the strictest counts them: those beyond the basic plane are two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def bold(text: str) -> str:
    """In bold type, whatever the text begins or ends with: stars would not hold beside a space."""
    return f"<b>{text}</b>"


def row(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def table_head(names: Sequence[str]) -> str:
    """The two lines with which a table begins."""
    return f"{row(*names)}\n|{'---|' * len(names)}"


def table(title: str, head: Sequence[str], rows: Sequence[str], more: str) -> Iterator[Block]:
    """A table below its title; the rows beyond the first OPEN are folded away."""
    if rows:
        yield Block(table_head(head), tuple(rows[:OPEN]), title=title)
    if rows[OPEN:]:
        yield fold(f"{len(rows) - OPEN} {more}", rows[OPEN:], table_head(head))


def folded(title: str, lines: Sequence[str], more: str) -> Iterator[Block]:
    """A list below its title; the lines beyond the first OPEN are folded away."""
    if lines:
        yield Block("", tuple(lines[:OPEN]), title=title)
    if lines[OPEN:]:
        yield fold(f"{len(lines) - OPEN} {more}", lines[OPEN:])


def fold(summary: str, rows: Sequence[str], head: str = "") -> Block:
    """Rows, or lines, that open by a click; `summary` is what stands there until then."""
    return Block(f"<details><summary>{summary}</summary>\n{head and chr(10) + head}", tuple(rows), "\n</details>")


def listed(names: Sequence[str], count: int | None = None) -> str:
    """`a, b and 3 more`; `count` says how many there are where `names` are only some."""
    more = (len(names) if count is None else count) - min(len(names), MOST_LISTED)
    return ", ".join(map(code, names[:MOST_LISTED])) + (f" and {more} more" if more > 0 else "")


def packed(heading: str, blocks: Sequence[Block], footer: str, rest: str) -> list[str]:
    """The comments, each below `heading`, the last with `footer`. What is more than MOST_PARTS hold is left out,
    and `rest` says so."""
    frame = f"{heading} (part {MOST_PARTS} of {MOST_PARTS})\n\n\n\n{rest}\n\n{footer}\n"
    bodies, whole = _bodies(blocks, LONGEST - length(frame))
    last = [*([] if whole else [rest]), footer]
    count = len(bodies)
    return [
        "\n\n".join(
            [
                heading if count == 1 else f"{heading} (part {number} of {count})",
                *body,
                *(last if number == count else []),
            ]
        )
        + "\n"
        for number, body in enumerate(bodies, 1)
    ]


def _bodies(blocks: Sequence[Block], room: int) -> tuple[list[list[str]], bool]:
    """The texts of each part, and whether all is in them."""
    bodies: list[list[str]] = [[]]
    left, whole = room, True
    for block in blocks:
        # What is longer than a whole part can't be told: a row alone, or a block that is never broken.
        rows = [one for one in block.rows if length(block.text((one,), True)) + 2 <= room]
        told = bool(rows) if block.rows else length(block.text((), False)) + 2 <= room
        whole = whole and told and len(rows) == len(block.rows)
        again = False
        while told:
            taken = _fitting(block, rows, again, left)
            text = block.text(rows[:taken], again)
            if length(text) + 2 <= left and (taken or not rows):
                bodies[-1].append(text)
                left -= length(text) + 2
                rows, again = rows[taken:], True
                told = bool(rows)
            elif len(bodies) == MOST_PARTS:
                return bodies, False
            else:
                bodies.append([])
                left = room
    return bodies, whole


def _fitting(block: Block, rows: Sequence[str], again: bool, left: int) -> int:
    """How many of the rows fit into what is left."""
    used = length(block.text((), again)) + 2
    for count, row in enumerate(rows):
        used += length(row) + 1
        if used > left:
            return count
    return len(rows)
