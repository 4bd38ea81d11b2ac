"""What the MLflow workspace makes of failures: the port's own errors, in one line, silent about credentials."""

from __future__ import annotations

import http.server
import json
import logging
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgetrain.core.errors import Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import Settings
from edgetrain.providers.mlflow.client import load
from edgetrain.providers.table import provider

from .workspace import RUN

load()

import sqlalchemy.exc  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

from edgetrain.providers.mlflow.errors import translate  # noqa: E402

# MLflow's own use of SQLAlchemy, seen once when its tables are mapped.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def wrapped(cause: Exception, code: int) -> MlflowException:
    """As MLflow's session does it."""
    error = MlflowException(message=str(cause), error_code=code)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MlflowException("gone"), ProviderError),
        (wrapped(sqlalchemy.exc.OperationalError("INSERT", {}, Exception("database is locked")), 2), Transient),
        (
            wrapped(
                sqlalchemy.exc.OperationalError("INSERT", {}, Exception("attempt to write a readonly database")), 2
            ),
            Denied,
        ),
        (wrapped(sqlalchemy.exc.IntegrityError("INSERT", {}, Exception("UNIQUE failed")), 1000), Rejected),
        (sqlalchemy.exc.NoSuchModuleError("no dialect"), Rejected),
        (sqlite3.OperationalError("database is locked"), Transient),
        (sqlite3.OperationalError("unable to open database file"), Denied),
        (sqlite3.DatabaseError("file is not a database"), Rejected),
    ],
)
def test_errors_become_the_ports_own(error: Exception, kind: type[ProviderError]) -> None:
    made = translate(error)
    assert type(made) is kind
    assert made.fix


def test_messages_are_one_bounded_line_without_values_or_credentials() -> None:
    error = sqlalchemy.exc.OperationalError(
        "INSERT INTO tags", {"value": "hidden"}, Exception("at http://u:pw@h/x " * 99)
    )
    message = translate(error, ("pw",)).message
    assert "hidden" not in message
    assert "pw" not in message
    assert len(message) <= 500
    assert "\n" not in message


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """A server on this machine that answers every request so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PATCH = _answer

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, "who are you, s3cret?", Denied),
        (403, json.dumps({"error_code": "PERMISSION_DENIED", "message": "no, s3cret"}), Denied),
        (404, "nothing here", NotFound),
        (503, "busy", Transient),
        (400, json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}), Rejected),
        (200, "<html>a login page</html>", ProviderError),
    ],
)
def test_a_servers_answers(tmp_path: Path, status: int, body: str, kind: type[ProviderError]) -> None:
    with answering(status, body) as address:
        workspace = provider(
            "workspace", "mlflow", Settings("workspace", {"uri": f"http://user:s3cret@{address}/"}, tmp_path)
        )
        with pytest.raises(kind) as raised:
            workspace.track(RUN)
    assert "s3cret" not in raised.value.message + raised.value.fix


@pytest.mark.usefixtures("impatient")
def test_an_unreachable_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workspace = provider(
        "workspace", "mlflow", Settings("workspace", {"uri": f"http://user:p%40ss@127.0.0.1:{port}"}, tmp_path)
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(Transient) as raised:
        workspace.observe(["digits"])
    assert raised.value.reason == "Unreachable"
    for secret in ("p%40ss", "p@ss"):
        assert secret not in raised.value.message
        assert secret not in workspace.where()
    assert workspace.where() == f"MLflow at http://127.0.0.1:{port}"


@pytest.mark.parametrize("uri", ["file:///tmp/runs", "./mlruns", "sqlite:///x.db", "databricks", "https://"])
def test_an_address_that_cant_serve_us(tmp_path: Path, uri: str) -> None:
    with pytest.raises(Rejected) as raised:
        provider("workspace", "mlflow", Settings("workspace", {"uri": uri}, tmp_path))
    assert raised.value.reason == "InvalidUri"


def test_a_missing_driver_is_told_of(tmp_path: Path) -> None:
    workspace = provider(
        "workspace",
        "mlflow",
        Settings("workspace", {"uri": "postgresql+nosuchdriver://u:s3cret@127.0.0.1/db"}, tmp_path),
    )
    with pytest.raises(ProviderError) as raised:
        workspace.observe([])
    assert "s3cret" not in raised.value.message
