"""`edgetrain schema`: the published JSON Schemas."""

from __future__ import annotations

import click

from edgetrain.cli.names import kinds
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.kinds import KINDS


@click.command()
@click.argument("kind", required=False, shell_complete=kinds)
@format_option("text", "json")
@pass_session
def schema(session: Session, kind: str | None) -> None:
    """Print the JSON Schema of a kind of manifest.

    KIND is a kind in lower case, such as experiment. Without it the kinds are listed.
    """
    if kind is not None:
        from edgetrain.repo.schema import schema_text

        session.show(schema_text(kind.lower()))
        return
    kinds = sorted(known.lower for known in KINDS)
    if session.format == "json":
        from edgetrain.render.jsons import as_json

        session.show(as_json(kinds))
    else:
        session.show("\n".join(kinds))
