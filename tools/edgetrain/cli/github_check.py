"""`edgetrain github check`: what a pull request would do, from git's objects alone, for a job without a secret."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgetrain.cli.failure import EXIT_PROBLEMS
from edgetrain.cli.session import Session, pass_session
from edgetrain.core.errors import UsageError

if TYPE_CHECKING:
    from edgetrain.reconcile.pull_request import Checked

FORMATS = ("github", "json", "markdown")


def _keep(context: click.Context, _: click.Parameter, value: str) -> str:
    context.ensure_object(Session).format = value
    return value


@click.command()
@click.option("--pull-request", "number", type=click.IntRange(1), required=True, help="Its number.")
@click.option("--head", metavar="SHA", required=True, help="Its newest commit, as the event tells it.")
@click.option("--base", metavar="SHA", required=True, help="The base branch's commit, as the event tells it.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the report here, as JSON.")
@click.option(
    "--plan-out", type=click.Path(dir_okay=False, path_type=Path), help="Write the plan here, for apply --plan."
)
@click.option(
    "--format",
    type=click.Choice(FORMATS),
    default="github",
    show_default=True,
    expose_value=False,
    callback=_keep,
    help="How the answer is written.",
)
@pass_session
@click.pass_context
def check(
    context: click.Context,
    session: Session,
    number: int,
    head: str,
    base: str,
    out: Path | None,
    plan_out: Path | None,
) -> None:
    """Check a pull request, reading its files as data.

    The clone (-C DIR) has the commit of its merge checked out, or its head, and holds the base commit. Only git's
    objects are read: nothing of the pull request is run or imported, and no network is used. Exit code 1 if there
    is a problem, or if it can't be merged.
    """
    from edgetrain.reconcile.pull_request import Asked, check_pull_request

    checked = check_pull_request(session.directory or Path.cwd(), Asked(number, head, base))
    _files(checked, out, plan_out)
    _show(session, checked)
    context.exit(0 if checked.good else EXIT_PROBLEMS)


def _files(checked: Checked, out: Path | None, plan_out: Path | None) -> None:
    from edgetrain.render.jsons import as_json, plan_json

    if out is not None:
        _write(out, as_json(checked.report))
    if plan_out is not None and checked.plan is not None:
        _write(plan_out, plan_json(checked.plan))


def _show(session: Session, checked: Checked) -> None:
    if session.format == "json":
        from edgetrain.render.jsons import as_json

        session.show(as_json(checked.report))
    elif session.format == "markdown":
        from edgetrain.render.pull_request import comment_parts

        session.show("\n".join(comment_parts(checked.report)))
    else:
        from edgetrain.render.attention_words import attention_annotations
        from edgetrain.render.github import problem_annotations

        session.show(problem_annotations(checked.problems) + attention_annotations(checked.report["attention"]))
        if checked.report["merge"] == "conflict":
            session.show(annotation_of_conflict())


def annotation_of_conflict() -> str:
    """GitHub makes no merge commit then, and says so only on the page."""
    from edgetrain.render.github import annotation

    return annotation("error", "merge or rebase the base branch", title="It conflicts with its base branch") + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the report can't be written to {path}: {error.strerror}",
            reason="NotWritable",
            fix="name a file in a folder that you may write to",
        ) from None
