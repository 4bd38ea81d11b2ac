"""`edgetrain drift`: how the world differs from what git says of it."""

from __future__ import annotations

import click

from edgetrain.cli.plan import EXIT_PENDING
from edgetrain.cli.session import Session, format_option, pass_session


@click.command()
@click.option(
    "--site", metavar="NAME", envvar="EDGETRAIN_SITE", help="The site to look at; needed if there are several."
)
@click.option("--exit-code", is_flag=True, help="End with exit code 4 if something drifted.")
@click.option("--issue", is_flag=True, help="Keep one issue on the forge while something drifts; close it after.")
@format_option("text", "markdown", "json")
@pass_session
@click.pass_context
def drift(context: click.Context, session: Session, site: str | None, exit_code: bool, issue: bool) -> None:
    """Show what in workspace, registries, artifact store and among attached targets is not as git says.

    Nothing of it is changed. What others made beside ours is told as well; it is left alone. Data that is other by
    now, and targets that take no runs, are noted; they are no drift by themselves.
    """
    from edgetrain.reconcile.drift import drift as find
    from edgetrain.reconcile.drift import drift_of_main, keep_issue
    from edgetrain.render.drift import drift_json, drift_markdown, drift_text

    found, forge = drift_of_main(session.root, site) if issue else (find(session.root, site), None)
    forms = {"json": drift_json, "markdown": drift_markdown}
    session.show(forms.get(session.format, drift_text)(found))
    if forge is not None:
        number = keep_issue(forge, found)
        session.say(f"issue {number} tells of it" if number else "no issue is open: nothing drifted")
    context.exit(EXIT_PENDING if exit_code and found.any else 0)
