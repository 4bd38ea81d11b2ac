"""What every verb shares: the repository's root, the output format, colour, and the two streams."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import click

from edgetrain.core.errors import RepositoryError

CONFIGURATION = "edgetrain.yaml"
FORMATS = ("text", "json", "markdown", "github")
_RUNNER_COMMAND = re.compile(r"(^[^\S\n]*:(?=:)|##(?=\[))", re.MULTILINE)
F = TypeVar("F", bound=Callable[..., Any])


def _wants_color() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None


@dataclass
class Session:
    """One call of the command line. `color` None means: as the stream is a terminal or not."""

    directory: Path | None = None
    color: bool | None = field(default_factory=_wants_color)
    format: str = "text"
    verb: str = ""

    @cached_property
    def root(self) -> Path:
        """The nearest folder upward that holds `edgetrain.yaml` or `.git`. RepositoryError if there is none."""
        start = (self.directory or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / CONFIGURATION).is_file() or (folder / ".git").exists():
                return folder
        raise RepositoryError(
            "this folder is in no repository",
            reason="NotARepository",
            fix="go to a checkout, or name it: edgetrain -C DIR ...",
        )

    def show(self, text: str) -> None:
        """Data, to standard output; nothing at all for an empty text."""
        if not text:
            return
        meant = self.format == "github"  # its lines are commands to the runner
        click.echo(text if meant else _harmless(text), nl=not text.endswith("\n"), color=self.color)

    def say(self, text: str) -> None:
        """Talk and progress, to standard error."""
        click.echo(_harmless(text), nl=not text.endswith("\n"), err=True, color=self.color)


def _harmless(text: str) -> str:
    """In an Actions log no line but a meant annotation is a command to the runner: it reads both streams."""
    return _RUNNER_COMMAND.sub(r"\1 ", text) if os.environ.get("GITHUB_ACTIONS") else text


pass_session = click.make_pass_decorator(Session, ensure=True)


def format_option(*formats: str) -> Callable[[F], F]:
    """`--format` with these values, text first; the value is kept as `session.format`."""

    def keep(context: click.Context, _: click.Parameter, value: str) -> None:
        context.ensure_object(Session).format = value

    return click.option(
        "--format",
        type=click.Choice(formats or ("text", "json")),
        default="text",
        show_default=True,
        expose_value=False,
        callback=keep,
        help="How the answer is written.",
    )
