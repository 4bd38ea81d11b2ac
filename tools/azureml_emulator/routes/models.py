"""Model management: assets, models, and the operations of packages."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from azureml_emulator import models
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

MMS = "/modelmanagement/v1.0{WS}"
PACKAGE = "package"
NO_BUILD = (
    "The emulator builds no images: it has no build service. Assemble the image yourself and push it to the "
    "workspace's registry."
)


@route("POST", MMS + "/assets", shape="models")
def create_asset(emulator: Emulator, request: Request) -> Answer:
    """A new asset."""
    return Answer(200, models.public(models.create_asset(emulator, request.json(), request.principal)))


@route("GET", MMS + "/assets", shape="models")
def list_assets(emulator: Emulator, request: Request) -> Answer:
    """One page of the assets."""
    return _page(emulator, request, models.ASSET)


@route("GET", MMS + "/assets/{key}", shape="models")
def get_asset(emulator: Emulator, request: Request, key: str) -> Answer:
    """One asset."""
    found = models.asset(emulator, key)
    if found is None:
        raise models.absent(models.ASSET, key)
    return Answer(200, models.public(found))


@route("PATCH", MMS + "/assets/{key}", shape="models")
def patch_asset(emulator: Emulator, request: Request, key: str) -> Answer:
    """Change an asset by JSON Patch."""
    changed = models.change(emulator, models.ASSET, key, request.json(), request.principal)
    return Answer(200, models.public(changed))


@route("DELETE", MMS + "/assets/{key}", shape="models")
def delete_asset(emulator: Emulator, request: Request, key: str) -> Answer:
    """Remove an asset."""
    return Answer(200 if models.delete(emulator, models.ASSET, key) else 204)


@route("POST", MMS + "/models", shape="models")
def register(emulator: Emulator, request: Request) -> Answer:
    """A new version of a model."""
    return Answer(200, models.public(models.register(emulator, request.json(), request.principal)))


@route("GET", MMS + "/models", shape="models")
def list_models(emulator: Emulator, request: Request) -> Answer:
    """One page of the models."""
    return _page(emulator, request, models.MODEL)


@route("GET", MMS + "/models/{key}", shape="models")
def get_model(emulator: Emulator, request: Request, key: str) -> Answer:
    """One version of a model."""
    found = models.model(emulator, key)
    if found is None:
        raise models.absent(models.MODEL, key)
    return Answer(200, models.public(found))


@route("PATCH", MMS + "/models/{key}", shape="models")
def patch_model(emulator: Emulator, request: Request, key: str) -> Answer:
    """Change a model by JSON Patch."""
    changed = models.change(emulator, models.MODEL, key, request.json(), request.principal)
    return Answer(200, models.public(changed))


@route("DELETE", MMS + "/models/{key}", shape="models")
def delete_model(emulator: Emulator, request: Request, key: str) -> Answer:
    """Remove a version of a model; its number stays used."""
    return Answer(200 if models.delete(emulator, models.MODEL, key) else 204)


def _page(emulator: Emulator, request: Request, kind: str) -> Answer:
    query = {key.lower(): value for key, value in request.query.items()}
    shown, token = models.page(emulator, kind, query)
    body: dict[str, object] = {"value": [models.public(item) for item in shown]}
    if token:
        again = {key: value for key, value in request.query.items() if key.lower() not in ("$skiptoken", "offset")}
        address = f"{emulator.urls_of(request).api}/modelmanagement/v1.0{emulator.workspace_path}/{kind}s"
        body["nextLink"] = f"{address}?{urlencode({**again, '$skipToken': token})}"
    return Answer(200, body)


@route("POST", MMS + "/packages", shape="models")
def package(emulator: Emulator, request: Request) -> Answer:
    """Begin to package models. It is taken as the service takes it; its operation fails and says why."""
    body = request.json()
    wanted = (body.get("imageRequest") or {}) if isinstance(body, dict) else None
    if not isinstance(wanted, dict) or not isinstance(wanted.get("modelIds", []), list):
        raise Refused(400, "BadArgument", "the body has an imageRequest with modelIds")
    for key in wanted.get("modelIds", []):
        if models.model(emulator, str(key)) is None:
            raise models.absent(models.MODEL, str(key))
    kind = body.get("packageType") or "DockerImage"
    key = str(uuid.uuid4())
    emulator.store.put(
        PACKAGE,
        key,
        {"type": f"Package{kind}", "createdTime": emulator.time(), "since": emulator.now()},
    )
    address = f"{emulator.urls_of(request).api}{_operation(emulator, key)}"
    return Answer(202, None, {"Operation-Location": address})


def _operation(emulator: Emulator, key: str) -> str:
    return f"/modelmanagement/v1.0{emulator.workspace_path}/operations/{key}"


@route("GET", MMS + "/operations/{key}/log", audience="anyone", shape="models")
def operation_log(emulator: Emulator, request: Request, key: str) -> Answer:
    """The log of an operation. The client asks for it without a token, as for a signed address."""
    if emulator.store.get(PACKAGE, key) is None:
        raise Refused(404, "OperationNotFound", "there is no such operation")
    text = f"{NO_BUILD}\n".encode()
    start = request.headers.get("range", "").removeprefix("bytes=").partition("-")[0]
    skip = int(start) if start.isascii() and start.isdigit() and len(start) < 10 else 0
    if skip >= len(text):
        raise Refused(416, "InvalidRange", "there is no more")
    return Answer(206 if skip else 200, text[skip:], {"Content-Type": "text/plain; charset=utf-8"})


@route("GET", MMS + "/operations/{key}", shape="models")
def operation(emulator: Emulator, request: Request, key: str) -> Answer:
    """How an operation stands."""
    found = emulator.store.get(PACKAGE, key)
    if found is None:
        raise Refused(404, "OperationNotFound", "there is no such operation")
    age, slow = emulator.now() - found["since"], emulator.options.slow
    state = "NotStarted" if age < slow else "Running" if age < 2 * slow else "Failed"
    body = {
        "id": key,
        "operationType": found["type"],
        "state": state,
        "createdTime": found["createdTime"],
        "operationLog": f"{emulator.urls_of(request).api}{_operation(emulator, key)}/log",
    }
    if state == "Failed":
        body["error"] = {"code": "NotSupported", "statusCode": 501, "message": NO_BUILD, "details": []}
    return Answer(200, body)
