"""`edgetrain validate`: every problem of every file at once, from git alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from edgetrain.cli.failure import EXIT_PROBLEMS
from edgetrain.cli.problems import show_problems
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.errors import UsageError
from edgetrain.core.problem import Severity, shown


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--require-history", is_flag=True, help="Make it a problem if a shallow clone hides what must be checked."
)
@click.option("--branch", metavar="NAME", help="The branch of merged facts; else the one edgetrain.yaml names.")
@format_option("text", "markdown", "json", "github")
@pass_session
@click.pass_context
def validate(
    context: click.Context, session: Session, files: tuple[Path, ...], require_history: bool, branch: str | None
) -> None:
    """Check every manifest, reference and record.

    Reads the work tree as it lies and the history behind it; asks no provider and needs no credential.
    Exit code 1 if there is a problem; warnings do not fail. Where strangers' changes are checked, give
    --branch: edgetrain.yaml may be one of their changes.

    With FILES only these are checked, with the experiments and models that they belong to: their form, place, and
    what they name. That is fast enough for a hook at each commit; history, egress scan, and what other files say of
    these are left to a call without FILES.
    """
    started = time.monotonic()
    if files:
        from edgetrain.reconcile.validate_files import validate_files

        if require_history or branch is not None:
            raise UsageError(
                "FILES are checked without history", fix="leave out FILES, or --require-history and --branch"
            )
        problems = validate_files(session.root, [_inside(session, file) for file in files])
    else:
        from edgetrain.reconcile.unchanged import validate_unless_unchanged

        problems = validate_unless_unchanged(session.root, require_history=require_history, branch=branch)
    seconds = time.monotonic() - started
    bad = any(found.severity is Severity.PROBLEM for found in problems)
    closing = f"{'' if problems else 'No problems. '}Checked in {seconds:.1f} s."
    show_problems(session, problems, closing)
    context.exit(EXIT_PROBLEMS if bad else 0)


def _inside(session: Session, file: Path) -> str:
    """The file's path from the repository's root. Links are not followed. Raises UsageError for one outside."""
    here = Path(os.path.normpath((session.directory or Path.cwd()).resolve() / file))
    if not here.is_relative_to(session.root):
        raise UsageError(
            f"{shown(file, 200)} lies outside of the repository", reason="OutsideRepository", fix="leave it out"
        )
    return here.relative_to(session.root).as_posix()
