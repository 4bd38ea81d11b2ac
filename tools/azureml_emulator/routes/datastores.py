"""The datastore service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azureml_emulator import datastores
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

ALL = "/datastore/v1.0{WS}/datastores"
DEFAULT = "/datastore/v1.0{WS}/default"


def _secret(request: Request) -> bool:
    # The role of a reader has no permission for secrets; to all others the service gives them unasked.
    given = {key.lower(): value.lower() for key, value in request.query.items()}
    return given.get("includesecret") != "false" and getattr(request.principal, "role", "") != "reader"


@route("POST", ALL)
def create(emulator: Emulator, request: Request) -> Answer:
    """Register a datastore."""
    datastores.create(emulator, request.json())
    return Answer(200)


@route("GET", ALL)
def list_all(emulator: Emulator, request: Request) -> Answer:
    """One page of the datastores, by name."""
    found = datastores.listed(emulator, request.host, secret=_secret(request))
    query = {key.lower(): value for key, value in request.query.items()}
    text = query.get("count") or "30"
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise Refused(400, "UserError", "count is not a number")
    found = [item for item in found if item["name"] > query.get("continuationtoken", "")]
    shown = found[: max(1, min(int(text), emulator.options.page_size))]
    token = shown[-1]["name"] if len(found) > len(shown) else None
    return Answer(200, {"value": shown, "continuationToken": token, "nextLink": None})


@route("GET", ALL + "/{name}")
def get(emulator: Emulator, request: Request, name: str) -> Answer:
    """One datastore."""
    return Answer(200, datastores.get(emulator, request.host, name, secret=_secret(request)))


@route("PUT", ALL + "/{name}")
def replace(emulator: Emulator, request: Request, name: str) -> Answer:
    """Register over what is there."""
    datastores.replace(emulator, name, request.json())
    return Answer(200)


@route("DELETE", ALL + "/{name}")
def unregister(emulator: Emulator, request: Request, name: str) -> Answer:
    """Forget a datastore; the data stays."""
    return Answer(200 if datastores.delete(emulator, name) else 204)


@route("GET", DEFAULT)
def default(emulator: Emulator, request: Request) -> Answer:
    """The default datastore."""
    name = datastores.default(emulator)
    return Answer(200, datastores.get(emulator, request.host, name, secret=_secret(request)))


@route("PUT", DEFAULT + "/{name}")
def set_default(emulator: Emulator, request: Request, name: str) -> Answer:
    """Make a datastore the default."""
    datastores.set_default(emulator, name)
    return Answer(200)
