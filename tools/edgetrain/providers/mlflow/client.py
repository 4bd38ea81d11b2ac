"""Opening MLflow: the embedded SQLite database, made once and whole, or a server; quiet, and without telemetry."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgetrain.core.errors import Denied, Rejected, Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"

# Set before MLflow is imported. Its own patience with a dead server is many minutes; ours is the caller's.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def load() -> None:
    """Import MLflow, quietly. Raises Unavailable."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise Unavailable(
            f"workspace 'mlflow' needs a package that is not installed: {error.name}",
            reason="PackageMissing",
            fix="install edgetrain anew with what it requires (in a checkout of it: make setup)",
        ) from error
    # MLflow logs each database error with its values before raising it; we tell of it ourselves.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def open_client(uri: str, state: Path) -> MlflowClient:
    """A client that depends on no global state of MLflow. `uri` empty: the database in the folder `state`.

    The caller holds the workspace's lock, for the tables are made here at first use.
    Raises Denied, Rejected, and whatever `provider_errors` translates.
    """
    from mlflow import MlflowClient

    if not uri:
        uri = _embedded(state)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    # The two stores open, and on a bare server database make their tables, with the first question.
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    return client


def _embedded(state: Path) -> str:
    database = state / DATABASE
    if any(mark in str(database) for mark in "?#%"):
        raise Rejected(
            f"MLflow can't open a database whose path has '?', '#' or '%': {database}",
            reason="InvalidPath",
            fix="choose another state location for the site in edgetrain.yaml",
        )
    if database.is_symlink():
        raise Denied(f"{database} is a symlink", reason="Symlink", fix="put the database itself there")
    if not database.exists():
        _create(database, state)
    # MLflow tries for minutes to open a file that can't be opened; SQLite says so at once.
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA schema_version")
    return f"sqlite:///{database}"


def _create(database: Path, state: Path) -> None:
    """Make the database beside its place and move it there, so that a killed start leaves no half of it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    fresh = state / f".{DATABASE}.new"
    for leftover in state.glob(f".{DATABASE}.new*"):
        leftover.unlink()
    # Told where artifacts would go, or it writes down a folder of whoever runs this.
    store = cast(Any, SqlAlchemyStore)(f"sqlite:///{fresh}", str(state / "mlflow-artifacts"))
    store.engine.dispose()
    fresh.chmod(0o600)
    fresh.replace(database)
