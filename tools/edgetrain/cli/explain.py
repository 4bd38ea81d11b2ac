"""`edgetrain explain`: what a problem code means, why it is refused, and how to mend it."""

from __future__ import annotations

import click

from edgetrain.cli.session import Session, format_option, pass_session
from edgetrain.core.codes import CODES
from edgetrain.core.errors import UsageError
from edgetrain.core.problem import Code, did_you_mean, shown


@click.command()
@click.argument("words", metavar="[CODE]", nargs=-1)
@format_option("text", "json")
@pass_session
def explain(session: Session, words: tuple[str, ...]) -> None:
    """Say what a problem code means and how to mend it.

    CODE is a code such as M204, or words of its title. Without it all codes are listed.
    """
    found = _find(words)
    if session.format == "json":
        from edgetrain.render.jsons import codes_json

        session.show(codes_json(found))
    else:
        from edgetrain.render.text import code_text, codes_text

        session.show(code_text(found[0]) if words and len(found) == 1 else codes_text(found))


def _find(words: tuple[str, ...]) -> list[Code]:
    """All codes, the one named, or those whose titles hold all the words."""
    given = " ".join(words).strip()
    asked = given.lower()
    if asked.upper() in CODES:
        return [CODES[asked.upper()]]
    found = [code for code in CODES.values() if all(word in code.title.lower() for word in asked.split())]
    if not found:
        titles = [code.title for code in CODES.values()]
        raise UsageError(
            f'no problem code "{shown(given)}"{did_you_mean(asked.upper(), CODES) or did_you_mean(asked, titles)}',
            reason="UnknownCode",
            fix="edgetrain explain lists all codes",
        )
    return found
