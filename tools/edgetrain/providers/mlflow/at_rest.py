"""What the embedded database holds of models, read by plain SQLite: importing MLflow takes longer than an apply.

It answers only where it is beyond doubt that MLflow says the same (a test holds the two together). With anything
else (a schema not known here, MLflow's own workspaces or prompts, a file that is missing, locked or damaged) the
answer is None, and MLflow has the word. Nothing is ever written here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

# The database schema whose tables the questions below are written for, as Alembic names it.
SCHEMA = "dc11669786a5"
# Whoever holds the file is waited for a moment only: MLflow, which is asked then, waits long enough.
_SECONDS = 1.0

_ELSEWHERE = "SELECT 1 FROM registered_models WHERE workspace <> 'default' LIMIT 1"
_PROMPTS = """
    SELECT 1 FROM registered_model_tags WHERE "key" = 'mlflow.prompt.is_prompt'
    UNION ALL SELECT 1 FROM model_version_tags WHERE "key" = 'mlflow.prompt.is_prompt' LIMIT 1
"""
_VERSIONS = """
    SELECT version FROM model_versions WHERE name = ? AND current_stage <> 'Deleted_Internal'
    ORDER BY last_updated_time DESC, version DESC
"""


@dataclass(frozen=True)
class Entry:
    """A version of a registered model: MLflow's number of it, and its tags."""

    version: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Held:
    """A registered model: its aliases with MLflow's numbers, and its versions in MLflow's order."""

    aliases: Mapping[str, str]
    versions: Sequence[Entry]


def held(database: Path, models: Iterable[str]) -> dict[str, Held] | None:
    """Those of the models that are registered; None if MLflow has to be asked."""
    if "MLFLOW_ENABLE_WORKSPACES" in os.environ or database.is_symlink():
        return None
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=_SECONDS)) as connection:
            connection.execute("BEGIN")  # one moment for all questions
            if connection.execute("SELECT version_num FROM alembic_version").fetchall() != [(SCHEMA,)]:
                return None
            if connection.execute(_ELSEWHERE).fetchone() or connection.execute(_PROMPTS).fetchone():
                return None
            found = ((model, _held(connection, model)) for model in models)
            return {model: one for model, one in found if one is not None}
    except (sqlite3.Error, OSError, ValueError):
        return None


def _held(connection: sqlite3.Connection, model: str) -> Held | None:
    if not connection.execute("SELECT 1 FROM registered_models WHERE name = ?", (model,)).fetchone():
        return None
    aliases = connection.execute("SELECT alias, version FROM registered_model_aliases WHERE name = ?", (model,))
    tags: dict[int, dict[str, str]] = {
        number: {} for (number,) in connection.execute(_VERSIONS, (model,)).fetchall()
    }
    for number, key, value in connection.execute(
        'SELECT version, "key", value FROM model_version_tags WHERE name = ?', (model,)
    ):
        if number in tags:
            tags[number][key] = value
    return Held(
        {alias: str(number) for alias, number in aliases},
        [Entry(number, found) for number, found in tags.items()],
    )
