"""One file of an input, as it was listed."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One file: its name as UTF-8 bytes, bytes of content, and a tag (the ETag) that changes with the content.

    `token` is the runner's proof that it listed this file; only data that comes through the runner has one."""

    name: bytes
    size: int
    tag: str
    token: str = ""
