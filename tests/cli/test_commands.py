"""The page of all verbs: complete, and the one that the code makes now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click

from edgetrain.cli.app import app
from edgetrain.cli.commands import page
from edgetrain.cli.table import VERBS
from tests.cli.command import environment
from tests.cli.test_app import leaves

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/commands.md is behind the code: run make docs"


def test_the_module_writes_the_page() -> None:
    command = [sys.executable, "-m", "edgetrain.cli.commands"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == page()


def test_every_verb_and_every_option_is_in_its_section() -> None:
    sections = {part.partition("\n")[0]: part for part in page().split("\n## ")}
    for name in VERBS:
        command = app.get_command(click.Context(app), name)
        assert command is not None
        inner = leaves(command) if isinstance(command, click.Group) else []
        for path, leaf in [(name, command), *((f"{name} {one.name}", one) for one in inner)]:
            section = sections[f"edgetrain {path}"]
            for parameter in leaf.params:
                if isinstance(parameter, click.Option):
                    for name_of_it in parameter.opts:
                        assert re.search(rf"[` ]{re.escape(name_of_it)}\b", section), name_of_it
