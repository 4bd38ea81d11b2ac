"""`edgetrain reproduce`: trains a version again, and compares."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import click

from edgetrain.cli.failure import EXIT_INTERRUPTED, EXIT_PROBLEMS
from edgetrain.cli.names import targets, versions
from edgetrain.cli.runs import stopping
from edgetrain.cli.session import Session, format_option, pass_session

if TYPE_CHECKING:
    from edgetrain.reconcile.report import Event


def _number(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """NaN passes every range, and nothing would equal anything."""
    if math.isnan(value):
        raise click.BadParameter("nan is no number", context, parameter)
    return value


@click.command()
@click.argument("version", metavar="MODEL@N", shell_complete=versions)
@click.option("--target", metavar="NAME", shell_complete=targets, help="Train there; else where it was trained.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=1e300),
    callback=_number,
    default=0.0,
    show_default=True,
    help="How far a metric may be off and still count as equal.",
)
@format_option("text", "markdown", "json")
@pass_session
@click.pass_context
def reproduce(context: click.Context, session: Session, version: str, target: str | None, tolerance: float) -> None:
    """Train a model version again, from the commit, parameters, seed, packages and data that its record tells.

    Says identical (every output has the recorded digest), equal (other bytes, metrics within --tolerance), or
    different, and where: code, environment, data, outcome, bytes, metrics. Data is measured by digest first; where
    it is gone or other, nothing is run. It writes no record, registers nothing, and fetches no output. Exit code 1
    if it is different, 3 if it could not be run. Ctrl-C stops the run.

    A call that is killed leaves its run to the next one of this checkout. On a cluster the run is submitted to
    Azure ML, which keeps its entry; what is in it is said before.
    """
    from edgetrain.core.errors import Stopped
    from edgetrain.reconcile.reproduce import reproduce as again
    from edgetrain.render.reproduction import reproduction_json, reproduction_markdown, reproduction_text

    stop = threading.Event()

    def say(event: Event) -> None:
        session.say(f"{event.kind.lower()} {event.subject} {event.message}".rstrip())

    try:
        with stopping(stop):
            found = again(session.root, version, target, tolerance, say, stop)
    except Stopped:
        session.say("stopped; nothing was compared")
        context.exit(EXIT_INTERRUPTED)
    forms = {"json": reproduction_json, "markdown": reproduction_markdown}
    session.show(forms.get(session.format, reproduction_text)(found))
    context.exit(0 if found.good else EXIT_PROBLEMS)
