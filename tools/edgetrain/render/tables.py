"""Aligned columns for terminals, and camel-case JSON of frozen values: what several renderings share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from edgetrain.core.problem import shown
from edgetrain.core.quantity import human_seconds

CELL = 72


def aligned(rows: Sequence[Sequence[str]], indent: str = "  ", limit: int = CELL) -> list[str]:
    """Lines of columns, each as wide as its widest cell; cells are made safe and bounded."""
    if not rows:
        return []
    # Looked at here first: to ask for each of thousands of cells costs more than to look.
    safe = [
        [cell if len(cell) <= limit and cell.isprintable() else shown(cell, limit) for cell in row] for row in rows
    ]
    if len(safe) == 1:
        return [(indent + "  ".join(safe[0])).rstrip()]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]
    line = indent + "  ".join(f"{{:<{width}}}" for width in widths)
    return [line.format(*row).rstrip() for row in safe]


def labelled(rows: Sequence[tuple[str, str]], indent: str = "  ") -> list[str]:
    """Lines of `label  value` with the values under each other; values are not cut short."""
    width = max((len(label) for label, _ in rows), default=0)
    return [f"{indent}{shown(label):<{width}}  {shown(text, 2000)}".rstrip() for label, text in rows]


def number(value: float | None) -> str:
    """A metric as people read it."""
    return "-" if value is None else f"{value:.6g}"


def lasted(seconds: float | None) -> str:
    """How long a run took; times are recorded to the second."""
    if seconds is None:
        return "-"
    return "under 1 s" if seconds < 1 else human_seconds(seconds)


def plain(value: Any) -> Any:
    """A frozen value as JSON: fields in camel case, names in mappings as they are."""
    if is_dataclass(value) and not isinstance(value, type):
        return {camel(item.name): plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def camel(name: str) -> str:
    """`merged_by` as `mergedBy`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
