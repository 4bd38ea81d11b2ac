"""`edgetrain validate`: every problem of every file at once, from git alone."""

from __future__ import annotations

import time

import click

from edgetrain.cli.failure import EXIT_PROBLEMS
from edgetrain.cli.problems import show_problems
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.problem import Severity


@click.command()
@click.option(
    "--require-history", is_flag=True, help="Make it a problem if a shallow clone hides what must be checked."
)
@click.option("--branch", metavar="NAME", help="The branch of merged facts; else the one edgetrain.yaml names.")
@format_option("text", "markdown", "json", "github")
@pass_session
@click.pass_context
def validate(context: click.Context, session: Session, require_history: bool, branch: str | None) -> None:
    """Check every manifest, reference and record.

    Reads the work tree as it lies and the history behind it; asks no provider and needs no credential.
    Exit code 1 if there is a problem; warnings do not fail. Where strangers' changes are checked, give
    --branch: edgetrain.yaml may be one of their changes.
    """
    from edgetrain.reconcile.validate import validate as find_problems

    started = time.monotonic()
    problems = find_problems(session.root, require_history=require_history, branch=branch)
    seconds = time.monotonic() - started
    bad = any(found.severity is Severity.PROBLEM for found in problems)
    closing = f"{'' if problems else 'No problems. '}Checked in {seconds:.1f} s."
    show_problems(session, problems, closing)
    context.exit(EXIT_PROBLEMS if bad else 0)
