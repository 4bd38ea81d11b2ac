"""One thing that people must do where no program can."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """`id` is stable, `why` a sentence or two, `where` an address, `commands` lines for a shell. Words in angle
    brackets are for people to replace."""

    id: str
    title: str
    why: str
    where: str = ""
    commands: tuple[str, ...] = ()
