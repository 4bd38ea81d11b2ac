"""`edgetrain github ...`: what the workflows on GitHub call, a module a verb, imported when it is called."""

from __future__ import annotations

import click

from edgetrain.cli.lazy import LazyGroup, Verb

VERBS: dict[str, Verb] = {
    "check": Verb("edgetrain.cli.github_check:check", "Check a pull request, reading its files as data."),
    "comment": Verb("edgetrain.cli.github_comment:comment", "Write a check's report as the comment."),
    "due": Verb("edgetrain.cli.github_due:due", "Say which lanes of apply have work."),
}


@click.group(cls=LazyGroup, table=VERBS)
def github() -> None:
    """What the workflows on GitHub call; each verb is one step of a job."""
