"""What MLflow, SQLAlchemy and the network raise, as provider errors: bounded, and without credentials."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from filelock import Timeout
from mlflow.exceptions import InvalidUrlException, MlflowException
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient, Unavailable

_KINDS: dict[str, type[ProviderError]] = {
    "TEMPORARILY_UNAVAILABLE": Transient,
    "DEADLINE_EXCEEDED": Transient,
    "REQUEST_LIMIT_EXCEEDED": Transient,
    "RESOURCE_EXHAUSTED": Transient,
    "CANCELLED": Transient,
    "ABORTED": Transient,
    "RESOURCE_DOES_NOT_EXIST": NotFound,
    "NOT_FOUND": NotFound,
    "ENDPOINT_NOT_FOUND": NotFound,
    "RESOURCE_ALREADY_EXISTS": Conflict,
    "RESOURCE_CONFLICT": Conflict,
    "ALREADY_EXISTS": Conflict,
    "PERMISSION_DENIED": Denied,
    "CUSTOMER_UNAUTHORIZED": Denied,
    "UNAUTHENTICATED": Denied,
    "INVALID_PARAMETER_VALUE": Rejected,
    "BAD_REQUEST": Rejected,
    "INVALID_STATE": Rejected,
    "NOT_IMPLEMENTED": Rejected,
}
_FIXES: dict[type[ProviderError], str] = {
    Transient: "wait and apply again; if it stays so, look at the MLflow server or the database file",
    NotFound: "look whether someone deleted it in MLflow, and restore it there",
    Conflict: "look in MLflow at what is there under this name",
    Denied: "check the credentials of the workspace, or the owner and mode of its database file",
    Rejected: "change what MLflow refuses, as the message says",
}
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")


@contextmanager
def provider_errors(secrets: tuple[str, ...] = ()) -> Iterator[None]:
    """Turn failures of the calls inside into ProviderError; `secrets` are blotted out of messages."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
        raise translate(error, secrets) from None


def translate(error: Exception, secrets: tuple[str, ...] = ()) -> ProviderError:
    """The provider error for what MLflow, SQLAlchemy, SQLite or the import of a driver raised."""
    message = _shown(error, secrets)
    if isinstance(error, ImportError):
        return Unavailable(
            f"MLflow needs a package that is not installed: {error.name}",
            reason="PackageMissing",
            fix="install the driver of the workspace's database, or use an MLflow server by http(s)",
        )
    if isinstance(error, Timeout):
        return Transient("another process holds the workspace", reason="Locked", fix="wait for it, or end it")
    if isinstance(error, OSError):
        kind: type[ProviderError] = Denied if isinstance(error, PermissionError) else Transient
        return kind(message, fix="check the site's state location: owner, mode and free space")
    cause = error.__cause__ or error.__context__
    if isinstance(error, MlflowException):
        if "out-of-date database schema" in message:
            return Rejected(
                message, reason="SchemaOutdated", fix="back the database up, then run: mlflow db upgrade <its URI>"
            )
        if isinstance(error, InvalidUrlException):
            return Rejected(message, reason="InvalidUri", fix="mend spec.workspace.uri in edgetrain.yaml")
        if isinstance(cause, requests.RequestException):
            return Transient(
                message, reason="Unreachable", fix="check that the MLflow server runs and can be reached from here"
            )
        if error.error_code in {"TEMPORARILY_UNAVAILABLE", "BAD_REQUEST"} and isinstance(cause, SQLAlchemyError):
            return _database(cause, message)
        told = _KINDS.get(error.error_code, ProviderError)
        return told(message, fix=_FIXES.get(told, "look at the log of the MLflow server"))
    return _database(error, message)


def _database(error: Exception, message: str) -> ProviderError:
    text = str(error)
    if "readonly database" in text or "unable to open database" in text or "permission denied" in text.lower():
        return Denied(message, fix=_FIXES[Denied])
    if "disk is full" in text:
        fix = "free space on the disk of the site's state, then apply again"
        return Unavailable(message, reason="StorageFull", fix=fix)
    if "database is locked" in text:
        fix = "wait for whoever holds the workspace's database, or end them, then apply again"
        return Transient(message, reason="DatabaseLocked", fix=fix)
    if isinstance(error, OperationalError | sqlite3.OperationalError):
        return Transient(message, fix=_FIXES[Transient])
    if "malformed" in text or "not a database" in text:
        return Rejected(message, reason="DatabaseDamaged", fix="restore the workspace's database from a backup")
    return Rejected(message, fix=_FIXES[Rejected])


def _shown(error: Exception, secrets: tuple[str, ...]) -> str:
    # SQLAlchemy's further lines hold the statement and its values; one line is enough for a person.
    lines = str(error).splitlines() or [type(error).__name__]
    message = _USERINFO.sub("", lines[0])
    for secret in secrets:
        message = message.replace(secret, "***")
    return f"MLflow: {message}"[:500]
