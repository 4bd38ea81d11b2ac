"""`edgetrain doctor`: looks at everything that a site needs, before anything is submitted."""

from __future__ import annotations

import click

from edgetrain.cli.failure import EXIT_REFUSED
from edgetrain.cli.names import targets
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.errors import UsageError


@click.command()
@click.argument("target", required=False, shell_complete=targets)
@click.option(
    "--site",
    metavar="NAME",
    envvar="EDGETRAIN_SITE",
    help="The site; needed if there are several and no target is given.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Then rehearse in the workspace: a tiny run and a model named edgetrain-doctor-..., taken away again.",
)
@click.option("--quick", is_flag=True, help="Only git, secrets, forge and stores: what takes seconds.")
@format_option("text", "json", "markdown", "github")
@pass_session
@click.pass_context
def doctor(
    context: click.Context, session: Session, target: str | None, site: str | None, live: bool, quick: bool
) -> None:
    """Look at everything that a site needs: git, secrets, forge, stores, workspace, registries, data, and TARGET or
    all targets.

    Run it on the site's runner. Nothing is started or released, but for what --live says; each check passes,
    warns or fails, with the reason and the fix. Exit code 3 if one fails.
    """
    if quick and (live or target is not None):
        raise UsageError("--quick looks at no target, and rehearses nothing", fix="leave --quick out")
    from edgetrain.cli.progress import Progress
    from edgetrain.reconcile.doctor import examine
    from edgetrain.render import doctor as render

    progress = Progress(session)
    with progress.shown_live():
        found = examine(session.root, target, site, progress, live, quick)
    written = {
        "json": render.doctor_json,
        "markdown": render.doctor_markdown,
        "github": render.doctor_annotations,
        "text": render.doctor_text,
    }[session.format](found)
    session.show(written)
    context.exit(0 if found.good else EXIT_REFUSED)
