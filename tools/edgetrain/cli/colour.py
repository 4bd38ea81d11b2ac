"""Colour for texts made by `edgetrain.render`; click leaves it out where the stream is no terminal."""

from __future__ import annotations

import re

import click

_STYLES: tuple[tuple[re.Pattern[str], dict[str, object]], ...] = (
    (re.compile(r"^(Plan|Apply): .*"), {"bold": True}),
    (re.compile(r"^  \+ "), {"fg": "green"}),
    (re.compile(r"^  ~ "), {"fg": "yellow"}),
    (re.compile(r"^  - "), {"fg": "red"}),
    (re.compile(r"^  (applied|unchanged)\b"), {"fg": "green"}),
    (re.compile(r"^  (refused|failed)\b"), {"fg": "red"}),
    (re.compile(r"^  under way\b"), {"fg": "yellow"}),
    (re.compile(r"^ *\S+:\d+:\d+: "), {"bold": True}),
)


def painted(text: str) -> str:
    """The text with each line's beginning coloured by what it tells."""
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    for pattern, style in _STYLES:
        found = pattern.match(line)
        if found:
            return click.style(found[0], **style) + line[found.end() :]  # type: ignore[arg-type]
    return line
