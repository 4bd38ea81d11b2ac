"""`edgetrain plan`: what apply would do for the work tree as it lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgetrain.cli.failure import EXIT_REFUSED
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.errors import UsageError

if TYPE_CHECKING:
    from edgetrain.core.plan import Plan

EXIT_PENDING = 4


@click.command()
@click.option("--refresh", is_flag=True, help="Ask the site's providers what is there, instead of git alone.")
@click.option(
    "--site", metavar="NAME", envvar="EDGETRAIN_SITE", help="The site to ask; needed if there are several."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the plan for apply --plan.")
@click.option("--exit-code", is_flag=True, help="End with exit code 4 if changes are pending.")
@format_option("text", "markdown", "json", "github")
@pass_session
@click.pass_context
def plan(
    context: click.Context, session: Session, refresh: bool, site: str | None, out: Path | None, exit_code: bool
) -> None:
    """Show what apply would do.

    Without --refresh the plan is made from the records in git, so that anybody can make it. A plan that
    refuses something ends with exit code 3; the rest of it would go on.
    """
    if refresh:
        from edgetrain.reconcile.planning import checked_plan

        made = checked_plan(session.root, site=site, refresh=True)
    else:
        from edgetrain.reconcile.unchanged import plan_unless_unchanged

        made = plan_unless_unchanged(session.root, site=site)
    if out is not None:
        _write(out, made)
        session.say(f"the plan is in {out}")
    show_plan(session, made)
    if made.problems:
        context.exit(EXIT_REFUSED)
    context.exit(EXIT_PENDING if exit_code and any(not change.conditional for change in made.changes) else 0)


def show_plan(session: Session, made: Plan) -> None:
    """Print the plan in the session's format."""
    if session.format == "json":
        from edgetrain.render.jsons import plan_json

        session.show(plan_json(made))
    elif session.format == "github":
        from edgetrain.render.github import plan_annotations

        session.show(plan_annotations(made))
    elif session.format == "markdown":
        from edgetrain.render.markdown import plan_markdown

        session.show(plan_markdown(made))
    else:
        from edgetrain.cli.colour import painted
        from edgetrain.render.text import plan_text

        session.show(painted(plan_text(made)))


def _write(path: Path, made: Plan) -> None:
    from edgetrain.render.jsons import plan_json

    try:
        path.write_text(plan_json(made), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the plan can't be written to {path}: {error.strerror}",
            reason="NotWritable",
            fix="name a file in a folder that you may write to",
        ) from None
