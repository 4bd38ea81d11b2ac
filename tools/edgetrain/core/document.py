"""A parsed file that still knows where each of its values stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.problem import Mark

Pointer = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """One YAML document: plain data (dict, list, str, int, float, bool, None) and a mark for each pointer.

    `marks[pointer]` is the value's place, `key_marks[pointer]` the place of the key that leads to it.
    """

    path: str
    data: dict[str, Any]
    marks: Mapping[Pointer, Mark] = field(default_factory=dict)
    key_marks: Mapping[Pointer, Mark] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The digest of the data's canonical form."""
        return digest_of(self.data)

    def mark(self, *pointer: str | int) -> Mark:
        """Where the value stands; the nearest parent's place if it is absent."""
        while pointer and pointer not in self.marks:
            pointer = pointer[:-1]
        return self.marks.get(pointer, Mark())

    def key_mark(self, *pointer: str | int) -> Mark:
        """Where the key stands; the value's place if it has no key (a list item)."""
        return self.key_marks.get(pointer) or self.mark(*pointer)
