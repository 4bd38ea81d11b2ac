"""A group of commands that are imported when they are called, so that `--help` reads a table only."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from edgetrain.core.problem import did_you_mean, shown

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Verb(NamedTuple):
    """`command` is `module:attribute` of a click command; `help` the line that `--help` shows; `stopped` what
    Ctrl-C leaves behind, in words, where the verb does not say so itself."""

    command: str
    help: str
    stopped: str = "nothing was changed"


class LazyGroup(click.Group):
    """`table` names the commands in the order in which one works."""

    def __init__(self, *args: Any, table: Mapping[str, Verb], **more: Any) -> None:
        super().__init__(*args, **{"subcommand_metavar": "VERB [ARGS]...", **more})
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the table's order."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and answer its command."""
        if cmd_name not in self.table:
            return None
        module, attribute = self.table[cmd_name].command.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for an unknown verb."""
        if args and args[0] not in self.table and not args[0].startswith("-"):
            ctx.fail(f'no verb "{shown(args[0])}"{did_you_mean(args[0], self.table)}')
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The table's names, importing nothing, and the group's own options."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.table if name.startswith(incomplete)]
        found = [CompletionItem(name, help=self.table[name].help) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, importing nothing."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in self.table.items()])
