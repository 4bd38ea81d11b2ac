"""The command line's root: loads one verb when it is called, and turns every failure into an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from edgetrain import __version__
from edgetrain.cli.lazy import LazyGroup
from edgetrain.cli.session import FORMATS, Session, pass_session
from edgetrain.cli.table import VERBS

EXIT_BROKEN_PIPE = 141

EPILOG = """\b
Exit codes: 0 fine; 1 problems in files; 2 wrong usage; 3 refused, a provider
failed, or a run ended failed, lost or rejected; 4 changes pending (--exit-code)."""


class LazyVerbs(LazyGroup):
    """All verbs, and what holds for every one of them: the format of failures and the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; a reader of our output who has gone away is no error worth words."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What Python still holds for the closed pipe must not fail again while it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_BROKEN_PIPE)
        return answer

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As its base does, and remembers the verb."""
        found = super().resolve_command(ctx, args)
        ctx.ensure_object(Session).verb = found[0] or ""
        return found

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a verb. Exits with its code; with `standalone_mode=False` answers the code instead."""
        session = extra.pop("obj", None) or Session()
        session.format = _format_in(sys.argv[1:] if args is None else args)
        try:
            answer = super().main(
                args, prog_name or "edgetrain", complete_var, standalone_mode=False, obj=session, **extra
            )
            code = answer if isinstance(answer, int) else 0
        except (KeyboardInterrupt, click.Abort):
            from edgetrain.cli.failure import interrupted

            code = interrupted(session)
        except Exception as error:
            from edgetrain.cli.failure import fail

            code = fail(error, session)
        if standalone_mode:
            sys.exit(code)
        return code


def _format_in(args: Sequence[str]) -> str:
    """The format that the arguments ask for, known before they are parsed, so that a wrong one is told in it."""
    for argument, following in zip_longest(args, args[1:], fillvalue=""):
        if argument == "--":
            break  # what follows are names, whatever they look like
        name, equals, value = argument.partition("=")
        if name == "--format" and (value if equals else following) in FORMATS:
            return value if equals else following
    return FORMATS[0]


@click.group(
    cls=LazyVerbs,
    table=VERBS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-C",
    "directory",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Work in this folder's repository instead of the current one's.",
)
@click.option("--no-color", is_flag=True, help="Write no colours (the same as NO_COLOR=1).")
@click.version_option(__version__, message="edgetrain %(version)s")
@pass_session
def app(session: Session, directory: Path | None, no_color: bool) -> None:
    """GitOps for machine-learning models that must be trained where the data is."""
    session.directory = directory
    if no_color:
        session.color = False
