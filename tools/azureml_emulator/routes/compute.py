"""Compute: written through Resource Manager, read through the data plane."""

from __future__ import annotations

from functools import partial
from typing import Any

from azureml_emulator import computes
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

arm = partial(route, audience="arm", shape="arm")
data = partial(route, audience="aml", shape="arm")
ALL = "{WS}/computes"
ONE = "{WS}/computes/{name}"


@arm("GET", ALL)
@data("GET", "/rp/workspaces" + ALL)
def list_computes(emulator: Emulator, request: Request) -> Answer:
    """A page of what is attached."""
    found = computes.listed(emulator)
    skip = request.query.get("$skip", "0")
    first = int(skip) if skip.isdecimal() else 0
    size = emulator.options.page_size
    body: dict[str, Any] = {"value": found[first : first + size]}
    if first + size < len(found):
        base = emulator.urls_of(request).api if request.path.lower().startswith("/rp/") else _arm(emulator, request)
        version = request.query.get("api-version", "2020-02-02")
        body["nextLink"] = f"{base}{request.path}?api-version={version}&$skip={first + size}"
    return Answer(200, body)


@arm("GET", ONE)
@data("GET", "/rp/workspaces" + ONE)
def get_compute(emulator: Emulator, request: Request, name: str) -> Answer:
    """One that is attached."""
    found = computes.get(emulator, name)
    if found is None:
        raise computes.not_found(emulator, name)
    return Answer(200, found)


@arm("PUT", ONE)
def attach(emulator: Emulator, request: Request, name: str) -> Answer:
    """Attach; what is attached under this name is written over."""
    document, new, operation = computes.attach(emulator, name, request.json())
    return Answer(201 if new else 200, document, _operation(emulator, request, operation))


@arm("PATCH", ONE)
def update(emulator: Emulator, request: Request, name: str) -> Answer:
    """Other tags; nothing else of attached compute can be changed so."""
    body = request.json()
    if not isinstance(body, dict) or set(body) - {"tags"}:
        raise Refused(400, "ValidationError", "Only the tags of attached compute can be updated.")
    return Answer(200, computes.retag(emulator, name, body.get("tags")))


@arm("DELETE", ONE)
def detach(emulator: Emulator, request: Request, name: str) -> Answer:
    """Detach. The machine itself is the customer's: the service does not delete it."""
    action = request.query.get("underlyingResourceAction", "").lower()
    if action not in {"detach", "delete"}:
        raise Refused(400, "ValidationError", "underlyingResourceAction must be Delete or Detach.")
    if computes.get(emulator, name) is None:
        return Answer(204)
    if action == "delete":
        raise Refused(400, "ValidationError", f"Compute {name} was attached; it can only be detached.")
    return Answer(202, None, _operation(emulator, request, computes.detach(emulator, name)))


@arm("POST", ONE + "/listKeys")
def list_keys(emulator: Emulator, request: Request, name: str) -> Answer:
    """The account that was given when it was attached."""
    account = computes.account(emulator, name)
    return Answer(200, {"computeType": "VirtualMachine", "administratorAccount": account})


def _arm(emulator: Emulator, request: Request) -> str:
    return emulator.urls_of(request).arm


def _operation(emulator: Emulator, request: Request, operation: str) -> dict[str, str]:
    options = emulator.options
    where = (
        f"{_arm(emulator, request)}/subscriptions/{options.subscription}/providers/"
        f"Microsoft.MachineLearningServices/locations/{options.region}/workspaceOperationsStatus/{operation}"
    )
    return {
        "Azure-AsyncOperation": f"{where}?api-version=2020-02-02",
        "Location": f"{where}?api-version=2020-02-02",
    }
