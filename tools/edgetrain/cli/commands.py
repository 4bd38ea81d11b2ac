"""Writes the page of all verbs: `python -m edgetrain.cli.commands > docs/commands.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from edgetrain.cli.app import app
from edgetrain.cli.table import VERBS

_HEAD = """\
# Commands

<!-- Made by `python -m edgetrain.cli.commands`; do not edit. -->

`edgetrain [-C DIR] [--no-color] VERB ...` works in the repository that holds the current folder, or `DIR`.

Data goes to standard output, talk and progress to standard error. `--format json` gives one JSON document on
standard output, errors included (`emulator log`: one a line), and `edgetrain schema VERB-output` its JSON Schema;
`github` gives workflow annotations.

| exit code | means |
|---|---|
| 0 | fine, also when a run was not better |
| 1 | problems in files |
| 2 | wrong usage |
| 3 | refused, a provider failed, or a run ended failed, lost or rejected |
| 4 | changes are pending (`plan --exit-code`) |
| 130, 143 | stopped by Ctrl-C or SIGTERM |

Ctrl-C ends a verb in order, and a line says what became of it; a second Ctrl-C ends it at once.

`EDGETRAIN_DEBUG=1` shows the traceback of an error. `NO_COLOR=1` leaves colours out.
"""


def page() -> str:
    """The whole page, in Markdown: a table of the verbs, then each with its arguments and options."""
    root = click.Context(app, info_name="edgetrain")
    rows = "".join(f"| [`{name}`](#edgetrain-{name}) | {verb.help} |\n" for name, verb in VERBS.items())
    parts = [_HEAD, f"| verb | what it does |\n|---|---|\n{rows}"]
    for name in VERBS:
        command = app.get_command(root, name)
        if command is not None:
            parts += _sections(command, click.Context(command, info_name=name, parent=root))
    return "\n".join(parts)


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    """The command's section, and those of its own commands."""
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {context.command_path}", "", f"`{f'{context.command_path} {usage}'.strip()}`", ""]
    lines += [_flowed(command.help or ""), ""]
    records = filter(None, (param.get_help_record(context) for param in command.params))
    options = [(names, said) for names, said in records if said]
    if options:
        lines += ["| option | what it does |", "|---|---|"]
        lines += [f"| `{_cell(names)}` | {_cell(said)} |" for names, said in options]
        lines.append("")
    yield "\n".join(lines)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _sections(inner, click.Context(inner, info_name=name, parent=context))


def _flowed(text: str) -> str:
    """Paragraphs with their lines joined, as click shows them."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
