"""`edgetrain models`, `log` and `compare`: what git alone knows of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgetrain.cli.names import models as completed_models
from edgetrain.cli.names import versions_or_runs
from edgetrain.cli.session import Session, format_option, pass_session

if TYPE_CHECKING:
    from pathlib import Path

    from edgetrain.repo.git import Git
    from edgetrain.repo.readings import Readings


@click.command()
@click.argument("model", required=False, shell_complete=completed_models)
@format_option("text", "json")
@pass_session
def models(session: Session, model: str | None) -> None:
    """List models, versions and channels, from git as it was last fetched."""
    from edgetrain.reconcile.unchanged import told_unless_unchanged

    def tell(on: Path | Git, readings: Readings | None) -> str:
        from edgetrain.reconcile.main_branch import MainBranch

        with MainBranch(on, readings) as main:  # first: git works while the rest is imported
            from edgetrain.reconcile.models import models as find
            from edgetrain.render.models import models_json, models_text

            found = find(main, model)
        return models_json(found) if session.format == "json" else models_text(found)

    session.show(told_unless_unchanged(session.root, "models", [model, session.format], tell))


@click.command()
@click.argument("model", shell_complete=completed_models)
@format_option("text", "json")
@pass_session
def log(session: Session, model: str) -> None:
    """Show a model's runs, versions and channel moves, oldest first."""
    from edgetrain.reconcile.unchanged import told_unless_unchanged

    def tell(on: Path | Git, readings: Readings | None) -> str:
        from edgetrain.reconcile.main_branch import MainBranch

        with MainBranch(on, readings) as main:  # first: git works while the rest is imported
            from edgetrain.reconcile.models import log as find
            from edgetrain.render.models import log_json, log_text

            name, found = find(main, model)
            cut = bool(main.git.boundary())
        return log_json(name, found, cut) if session.format == "json" else log_text(name, found, cut)

    session.show(told_unless_unchanged(session.root, "log", [model, session.format], tell))


@click.command()
@click.argument("a", metavar="A", shell_complete=versions_or_runs)
@click.argument("b", metavar="B", shell_complete=versions_or_runs)
@format_option("text", "markdown", "json")
@pass_session
def compare(session: Session, a: str, b: str) -> None:
    """Compare two runs or versions.

    A and B are MODEL@N, MODEL@CHANNEL, or a run's id (or its beginning).
    """
    from edgetrain.reconcile.compare import compare as find
    from edgetrain.render.compare import compare_json, compare_markdown, compare_text

    found = find(session.root, a, b)
    forms = {"json": compare_json, "markdown": compare_markdown}
    session.show(forms.get(session.format, compare_text)(found))
