"""A machine that runs programs, as the executor sees it, whether it is this one or reached over SSH."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

FOLDER = Path(__file__).with_name("on_host")
# Calls that carry no files end within seconds on a machine that lives.
SHORT, LONG = 120.0, 3600.0


class Unreachable(Exception):
    """The machine does not answer now; it may later. The text says why, and holds no secret."""


class Unfit(Exception):
    """The machine answers, but what is asked can't be done there."""


@dataclass(frozen=True)
class Facts:
    """What the machine is like. `pythons`: interpreters by minor version; `own` is that of the first choice."""

    root: str
    own: str
    executable: str
    pythons: dict[str, str]
    machine: str
    libc: str
    engine: str


class Host(Protocol):
    """One machine. Calls are made from threads, and wait."""

    name: str
    private_home: bool

    def ask(self, verb: str, *words: str, order: Any = None, send: Path | None = None) -> dict[str, Any]:
        """One verb of the agent, with JSON or a file on its standard input. Raises Unreachable, Unfit."""

    def fetch(self, verb: str, *words: str, into: Path) -> None:
        """One verb of the agent whose answer is bytes, kept in a file. Raises Unreachable, Unfit."""

    def facts(self) -> Facts:
        """What the machine is like. Raises Unreachable, Unfit."""

    def way_back(self, port: int, wanted: int = 0) -> int:
        """The port of the machine's own loopback that leads to this machine's `port`, kept while the host is.

        `wanted` is the one that a run there was told before: it or none. Raises Unreachable, Unfit."""

    def close(self) -> None:
        """Let go of it; programs go on."""
