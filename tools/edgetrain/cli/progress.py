"""Apply's progress on standard error: plain lines with the time, and on a terminal what is going on now."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from edgetrain.core.problem import shown

if TYPE_CHECKING:
    from rich.status import Status

    from edgetrain.cli.session import Session
    from edgetrain.reconcile.report import Event

LIMIT = 500
COLOURS = {"Applied": "green", "Proposed": "green", "Failed": "red", "Note": "yellow"}


class Progress:
    """Takes events from any thread. `proposals` are the branches that were proposed meanwhile."""

    def __init__(self, session: Session) -> None:
        self.proposals: list[str] = []
        self._session = session
        self._guard = threading.Lock()
        self._status: Status | None = None
        self._started = time.monotonic()
        self._ended = 0

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        with self._guard:
            if event.kind == "Proposed":
                self.proposals.append(event.message.removeprefix("branch "))
            self._ended += event.kind in ("Applied", "Failed")
            self._line(event.kind, f"{shown(event.subject, LIMIT)}  {shown(event.message, LIMIT)}".rstrip())
            if self._status is not None:
                minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
                self._status.update(f"{self._ended} done, {minutes}:{seconds:02} · {shown(event.subject, 60)}")

    def _line(self, kind: str, text: str) -> None:
        import click

        now = datetime.now().astimezone().strftime("%H:%M:%S")
        coloured = click.style(f"{kind:<10}", fg=COLOURS.get(kind))
        # The console of the live status holds standard error, so that lines go above it.
        self._session.say(f"{now}  {coloured}  {text}")

    @contextmanager
    def shown_live(self) -> Iterator[None]:
        """Show what goes on now while the block runs, where standard error is a terminal and no CI log."""
        if not sys.stderr.isatty() or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
            yield
            return
        from rich.console import Console

        console = Console(stderr=True, no_color=self._session.color is False, markup=False, highlight=False)
        with console.status("looking at main and at the site", spinner="dots") as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None
