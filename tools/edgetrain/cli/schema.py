"""`edgetrain schema`: the published JSON Schemas."""

from __future__ import annotations

import json

import click

from edgetrain.cli.names import kinds
from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.kinds import KINDS


@click.command()
@click.argument("kind", metavar="[KIND | VERB-output]", required=False, shell_complete=kinds)
@format_option("text", "json")
@pass_session
def schema(session: Session, kind: str | None) -> None:
    """Print the JSON Schema of a kind of manifest, or of what a verb prints with --format json.

    KIND is a kind in lower case, such as experiment; VERB-output a verb's answer, such as verify-output or
    new-model-output. Without either all are listed.
    """
    from edgetrain.repo.output import OUTPUT, output_text, outputs

    if kind is None:
        known = [*sorted(known.lower for known in KINDS), *outputs()]
        session.show(json.dumps(known, indent=2) if session.format == "json" else "\n".join(known))
    elif kind.endswith(OUTPUT):
        session.show(output_text(kind))
    else:
        from edgetrain.repo.schema import schema_text

        session.show(schema_text(kind))
