"""`edgetrain propose`: a run's model as the next version, or the digests of data that changed at the site."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.core import ParameterSource

from edgetrain.cli.failure import EXIT_REFUSED
from edgetrain.cli.names import runs_or_experiments
from edgetrain.cli.runs import answer
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.errors import UsageError


@click.command()
@click.argument("names", metavar="[RUN | --data [EXPERIMENT]...]", nargs=-1, shell_complete=runs_or_experiments)
@click.option("--data", is_flag=True, help="Propose the digests of data that changed at the site.")
@click.option(
    "--site",
    metavar="NAME",
    envvar="EDGETRAIN_SITE",
    help="The site whose data is looked at; needed if there are several.",
)
@format_option("text", "markdown", "json")
@pass_session
@click.pass_context
def propose(context: click.Context, session: Session, names: Sequence[str], data: bool, site: str | None) -> None:
    """Propose a candidate run as the next model version, or with --data what changed in the data at the site.

    RUN is a run's id, or its beginning; also one whose proposal was closed.

    With --data, on the site's runner: the data of each EXPERIMENT (or of all that run there) is digested where it
    lies. Where the digest is another than main says, it is written into the manifest on a branch, and a pull
    request asks to train on it; with `onChange: train` it is committed on main instead. What is proposed is kept up
    to date, and withdrawn when it is no longer true. A proposal that people closed comes back if the data changes
    again, or if EXPERIMENT is named. Exit code 3 if something could not be looked at.
    """
    if data:
        context.exit(_watch(session, names, site))
    told = context.get_parameter_source("site") is ParameterSource.COMMANDLINE
    if len(names) != 1 or told:
        raise UsageError("propose takes one RUN, or --data", fix="edgetrain runs lists the runs")
    if session.format == "markdown":
        raise UsageError("only --data is told as markdown", fix="use --format text or json")
    from edgetrain.reconcile.runs import propose_again

    version, branch = propose_again(session.root, names[0], lambda event: None)
    message = f"{version} is proposed on {branch}; merge it to release it"
    answer(session, [("message", message), ("version", version), ("branch", branch)])


def _watch(session: Session, names: Sequence[str], site: str | None) -> int:
    from edgetrain.cli.progress import Progress
    from edgetrain.reconcile.data_watch import watch_data
    from edgetrain.render import data_watch as render

    progress = Progress(session)
    with progress.shown_live():
        found = watch_data(session.root, names, site, progress)
    forms = {"json": render.data_watch_json, "markdown": render.data_watch_markdown}
    session.show(forms.get(session.format, render.data_watch_text)(found))
    return 0 if found.good else EXIT_REFUSED
