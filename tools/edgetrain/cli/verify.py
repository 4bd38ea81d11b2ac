"""`edgetrain verify`: recomputes what records and versions claim."""

from __future__ import annotations

import click

from edgetrain.cli.failure import EXIT_PROBLEMS, EXIT_REFUSED
from edgetrain.cli.names import models_or_versions
from edgetrain.cli.session import Session, format_option, pass_session


@click.command()
@click.argument("what", metavar="[MODEL[@N]]", required=False, shell_complete=models_or_versions)
@click.option(
    "--deep", is_flag=True, help="Also read every byte in clone, workspace, registries and store, on the runner."
)
@click.option("--forge", is_flag=True, help="Also compare recorded reviews with the forge's pull requests.")
@click.option("--site", metavar="NAME", help="The site to ask with --deep; needed if there are several.")
@format_option("text", "markdown", "json")
@pass_session
@click.pass_context
def verify(
    context: click.Context, session: Session, what: str | None, deep: bool, forge: bool, site: str | None
) -> None:
    """Recompute what main says of models: digests, references, identities, and who wrote the records.

    Made from git as it was last fetched: of everything, or of one model or version. What does not hold is named;
    exit code 1 if anything does not. What can't be told (a shallow clone, erased data) is said as such; exit code
    3 if with --deep a provider could not be asked.
    """
    from edgetrain.reconcile.verify import verify as find
    from edgetrain.render.verify import verify_json, verify_markdown, verify_text

    found = find(session.root, what, deep, site, forge)
    forms = {"json": verify_json, "markdown": verify_markdown}
    session.show(forms.get(session.format, verify_text)(found))
    context.exit(EXIT_PROBLEMS if not found.holds else 0 if found.answered else EXIT_REFUSED)
