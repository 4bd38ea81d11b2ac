"""Apply's progress on standard error: plain lines with the time, and on a terminal what is going on now."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click

from edgetrain.core.problem import shown

if TYPE_CHECKING:
    from rich.progress import Progress as LiveProgress
    from rich.progress import TaskID

    from edgetrain.cli.session import Session
    from edgetrain.reconcile.report import Event

LIMIT = 500
COLOURS = {"Applied": "green", "Proposed": "green", "Opened": "green", "Failed": "red", "Note": "yellow"}


class Progress:
    """Takes events from any thread. `proposals` is what was proposed meanwhile, by version: the branch, or the
    address of its pull request."""

    def __init__(self, session: Session) -> None:
        self.proposals: dict[str, str] = {}
        self._session = session
        self._guard = threading.Lock()
        self._live: tuple[LiveProgress, TaskID] | None = None
        self._ended = 0

    def __call__(self, event: Event) -> None:
        """Tell one event."""
        with self._guard:
            if event.kind in ("Proposed", "Opened"):
                self.proposals[event.subject] = event.message.removeprefix("branch ")
            self._ended += event.kind in ("Applied", "Failed")
            self._line(event.kind, f"{shown(event.subject, LIMIT)}  {shown(event.message, LIMIT)}".rstrip())
            if self._live is not None:
                live, task = self._live
                live.update(task, description=f"{self._ended} done, now {shown(event.subject, 60)}")

    def _line(self, kind: str, text: str) -> None:
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        line = f"{now}  {click.style(f'{kind:<10}', fg=COLOURS.get(kind))}  {text}"
        if self._live is None:
            self._session.say(line)
        else:
            from rich.text import Text

            self._live[0].console.print(Text.from_ansi(line), soft_wrap=True)  # above what goes on now

    @contextmanager
    def shown_live(self) -> Iterator[None]:
        """Show what goes on now while the block runs, where standard error is a terminal and no CI log."""
        if not sys.stderr.isatty() or os.environ.get("CI") or os.environ.get("TERM") == "dumb":
            yield
            return
        from rich.console import Console
        from rich.progress import Progress as LiveProgress
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, no_color=self._session.color is False, markup=False, highlight=False)
        columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
        with LiveProgress(*columns, console=console, transient=True) as live:
            self._live = (live, live.add_task("looking at main and at the site", total=None))
            try:
                yield
            finally:
                self._live = None
