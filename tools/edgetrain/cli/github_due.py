"""`edgetrain github due`: tell the workflow which lanes of apply have work."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgetrain.cli.session import Session, format_option, pass_session


@click.command()
@click.option(
    "--site",
    metavar="NAME",
    envvar="EDGETRAIN_SITE",
    help="The site whose runner this is; needed if there are several.",
)
@format_option()
@pass_session
def due(session: Session, site: str | None) -> None:
    """Say whether a lane of apply has work.

    Looks at main's tip and, on the site's runner, at what is under way there; takes seconds and changes
    nothing. Writes `train=true|false` and `release=true|false` to the step's outputs (GITHUB_OUTPUT), too.
    """
    from edgetrain.reconcile.due import due as look
    from edgetrain.render.jsons import as_json

    found = look(session.root, site)
    outputs = "".join(
        f"{lane}={'true' if names else 'false'}\n"
        for lane, names in (("train", found.train), ("release", found.release))
    )
    if file := os.environ.get("GITHUB_OUTPUT"):
        with Path(file).open("a", encoding="utf-8") as opened:
            opened.write(outputs)
    for note in found.notes:
        session.say(f"note: {note}")
    if session.format == "json":
        told = {"commit": found.commit, "train": bool(found.train), "release": bool(found.release)}
        why = {"train": list(found.train), "release": list(found.release)}
        session.show(as_json({**told, "why": why, "notes": list(found.notes)}))
    else:
        session.show(outputs)
