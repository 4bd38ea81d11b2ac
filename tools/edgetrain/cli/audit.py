"""`edgetrain audit`: the story of a version, of a span of time, or of what something touches."""

from __future__ import annotations

import click

from edgetrain.cli.names import versions
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.errors import UsageError

ONE = "give one of: MODEL@N; --since or --until; --data; --commit; --package"
PAGES = ("html", "csv")


@click.command()
@click.argument("version", metavar="[MODEL@N]", required=False, shell_complete=versions)
@click.option("--since", metavar="DATE", help="All that happened from this day on, such as 2026-07-01 (UTC).")
@click.option("--until", metavar="DATE", help="All that happened before this day began (UTC).")
@click.option("--data", metavar="DIGEST", help="What was trained or measured on this data.")
@click.option("--commit", metavar="SHA", help="What was trained from this commit, came by it, or ran its code.")
@click.option("--package", metavar="NAME==X", help="What was trained with this package.")
@format_option("text", "markdown", "json", *PAGES)
@pass_session
def audit(
    session: Session,
    version: str | None,
    since: str | None,
    until: str | None,
    data: str | None,
    commit: str | None,
    package: str | None,
) -> None:
    """Tell the whole story of a model version, of a span of time, or of what something touches.

    MODEL@N names a version, MODEL@CHANNEL the one that the channel points to. With --since, --until or both: every
    merge with proposer and approvers, run, release, channel move, withdrawal, waiver, and what left the site; a day
    begins at midnight UTC, the day of --until is not in it, and an event's day is that of its commit on main. With
    --data, --commit or --package: the versions and channels concerned. All of it comes from git alone. Formats html
    (one page) and csv (a row an event) are for spans of time.
    """
    asked = [version, since or until, data, commit, package]
    if sum(one is not None for one in asked) != 1:
        raise UsageError("one question at a time", fix=ONE)
    if session.format in PAGES and not (since or until):
        raise UsageError(f"--format {session.format} is for --since and --until", fix="take text, markdown or json")
    if version is not None:
        _story(session, version)
    elif since is not None or until is not None:
        _period(session, since, until)
    else:
        _touched(session, data, commit, package)


def _story(session: Session, version: str) -> None:
    from edgetrain.reconcile.audit import audit as find
    from edgetrain.render.audit import audit_json, audit_markdown, audit_text

    forms = {"json": audit_json, "markdown": audit_markdown}
    session.show(forms.get(session.format, audit_text)(find(session.root, version)))


def _period(session: Session, since: str | None, until: str | None) -> None:
    from edgetrain.reconcile.period import period
    from edgetrain.render.period import period_csv, period_json, period_markdown, period_text
    from edgetrain.render.period_html import period_html

    forms = {"json": period_json, "markdown": period_markdown, "html": period_html, "csv": period_csv}
    session.show(forms.get(session.format, period_text)(period(session.root, since, until)))


def _touched(session: Session, data: str | None, commit: str | None, package: str | None) -> None:
    from edgetrain.reconcile.touched import by_commit, by_data, by_package
    from edgetrain.render.touched import touched_json, touched_markdown, touched_text

    if data is not None:
        found = by_data(session.root, data)
    elif commit is not None:
        found = by_commit(session.root, commit)
    else:
        found = by_package(session.root, package or "")
    forms = {"json": touched_json, "markdown": touched_markdown}
    session.show(forms.get(session.format, touched_text)(found))
