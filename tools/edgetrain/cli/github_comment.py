"""`edgetrain github comment`: writes a check's report as the pull request's comment."""

from __future__ import annotations

import click

from edgetrain.cli.session import Session, format_option, pass_session


@click.command()
@click.option("--run", type=click.IntRange(1), required=True, help="The workflow run that kept the report.")
@format_option("text", "json", "github")
@pass_session
def comment(session: Session, run: int) -> None:
    """Write a check's report as the comment of its pull request.

    The report is an artifact that a stranger's workflow may have made: it is bounded, held to its schema, and taken
    only if the forge says that its run was for the newest commit of that pull request. The comment is updated in
    place. Which files the pull request changes is asked of the forge, for the warnings. Where there is no report
    that can be believed, the comment says so, with these warnings, and the exit code is 3.
    """
    from edgetrain.reconcile.pull_request_comment import comment as write
    from edgetrain.render.jsons import as_json

    pull = write(session.root, run)
    if pull is None:
        session.say("the run was cancelled, for a newer one took its place: that one comments")
        session.show(as_json({"superseded": True}) if session.format == "json" else "")
    elif session.format == "json":
        session.show(as_json({"number": pull.number, "head": pull.head, "url": pull.url}))
    elif session.format == "text":
        session.show(f"the comment is on {pull.url}\n")
