"""Assets and models: versions given once, properties that stay, and lists with filters and pages."""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import TYPE_CHECKING, Any

from azureml_emulator import jsonpatch, labels, lagging
from azureml_emulator.message import Principal, Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

ASSET = "asset"
MODEL = "model"
NAME = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,254}")
_ASSET_KEYS = ("name", "type", "description", "artifacts", "kvTags", "properties", "runid", "meta")
_MODEL_KEYS = (
    "name", "framework", "frameworkVersion", "datasets", "url", "mimeType", "description", "unpack",
    "parentModelId", "runId", "experimentName", "kvTags", "properties", "sampleInputData", "sampleOutputData",
    "resourceRequirements",
)  # fmt: skip
_TEXTS = (
    "type", "framework", "frameworkVersion", "url", "mimeType", "description", "parentModelId", "runId", "runid",
    "experimentName", "sampleInputData", "sampleOutputData",
)  # fmt: skip
# What a patch may change of each; everything else is settled when it is registered.
_MUTABLE = {
    ASSET: {"kvTags", "properties", "description", "meta"},
    MODEL: {
        "kvTags", "properties", "description", "datasets", "sampleInputData", "sampleOutputData",
        "resourceRequirements",
    },
}  # fmt: skip
_ORDERS = {"createdatdesc", "createdatasc", "updatedatdesc", "updatedatasc"}


def _body(value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """The known fields of a body, whatever the case of their names."""
    if not isinstance(value, dict):
        raise Refused(400, "BadArgument", "the body is not an object")
    names = {key.lower(): key for key in keys}
    found = {names[key.lower()]: item for key, item in value.items() if key.lower() in names}
    for key in _TEXTS:
        if not isinstance(found.get(key, ""), str | None):
            raise Refused(400, "BadArgument", f"{key} is not a string")
    return found


def _named(emulator: Emulator, found: dict[str, Any]) -> str:
    name = found.get("name")
    if not isinstance(name, str) or not name:
        raise Refused(400, "BadArgument", "name is needed")
    if emulator.options.strict and not NAME.fullmatch(name):
        raise Refused(400, "BadArgument", "name: letters, digits, '-', '.' and '_', the first a letter or digit")
    return name


def _own_run(principal: Principal | None, run: str | None) -> None:
    """A run may register only what is its own."""
    if principal is not None and principal.role == "run" and (run or principal.run) != principal.run:
        raise Refused(403, "Forbidden", "a run registers only what it made itself")


def create_asset(emulator: Emulator, body: Any, principal: Principal | None) -> dict[str, Any]:
    """A new asset: the name for some artifacts. Raises Refused."""
    found = _body(body, _ASSET_KEYS)
    strict = emulator.options.strict
    artifacts = found.get("artifacts") or []
    if not isinstance(artifacts, list) or not all(
        isinstance(item, dict) and isinstance(item.get("id") or item.get("prefix"), str) for item in artifacts
    ):
        raise Refused(400, "BadArgument", "artifacts is a list of ids or prefixes")
    _own_run(principal, found.get("runid"))
    document = {
        **dict.fromkeys(_ASSET_KEYS),
        **found,
        "id": uuid.uuid4().hex,
        "name": _named(emulator, found),
        "artifacts": [{key: item[key] for key in ("id", "prefix") if item.get(key)} for item in artifacts],
        "kvTags": labels.checked(found.get("kvTags"), "kvTags", strict=strict),
        "properties": labels.checked(found.get("properties"), "properties", strict=strict),
        "createdTime": emulator.time(),
    }
    with emulator.store.transaction():
        document["_made"] = document["_changed"] = emulator.store.next("asset order")
        lagging.write(emulator, ASSET, document["id"], document)
    return document


def register(emulator: Emulator, body: Any, principal: Principal | None) -> dict[str, Any]:
    """A new version of a model, with the next number of that name; none comes twice. Raises Refused."""
    found = _body(body, _MODEL_KEYS)
    strict = emulator.options.strict
    name = _named(emulator, found)
    for key in ("url", "mimeType"):
        if not found.get(key):
            raise Refused(400, "BadArgument", f"{key} is needed")
    _own_run(principal, found.get("runId"))
    url = found["url"]
    if strict and url.startswith("aml://asset/") and asset(emulator, url.removeprefix("aml://asset/")) is None:
        raise Refused(400, "AssetNotFound", "url names an asset that is not there")
    now = emulator.time()
    document = {
        # Every field is there, as in the service: a patch may replace one that was not given.
        **dict.fromkeys(_MODEL_KEYS),
        **found,
        "framework": found.get("framework") or "Custom",
        "unpack": bool(found.get("unpack")),
        "datasets": _datasets(found.get("datasets")),
        "kvTags": labels.checked(found.get("kvTags"), "kvTags", strict=strict),
        "properties": labels.checked(found.get("properties"), "properties", strict=strict),
        "derivedModelIds": [],
        "createdTime": now,
        "modifiedTime": now,
        "createdBy": {
            "userObjectId": emulator.principal_id,
            "userTenantId": emulator.options.tenant,
            "userName": principal.name if principal else "",
        },
    }
    with emulator.store.transaction():
        version = emulator.store.next(f"model {name}")
        document |= {"id": f"{name}:{version}", "version": version}
        document["_made"] = document["_changed"] = emulator.store.next("model order")
        lagging.write(emulator, MODEL, document["id"], document)
    return document


def _datasets(value: Any) -> list[dict[str, Any]]:
    # Never null: the client walks it without looking.
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Refused(400, "BadArgument", "datasets is a list of objects")
    return [{"name": item.get("name"), "id": item.get("id")} for item in value]


def asset(emulator: Emulator, key: str) -> dict[str, Any] | None:
    """The asset with this id."""
    return lagging.newest(emulator, ASSET, key)


def model(emulator: Emulator, key: str) -> dict[str, Any] | None:
    """The model with this id, `name:version`."""
    return lagging.newest(emulator, MODEL, key)


def change(emulator: Emulator, kind: str, key: str, patch: Any, principal: Principal | None) -> dict[str, Any]:
    """Apply a JSON Patch to an asset or a model. Raises Refused."""
    with emulator.store.transaction():
        old = lagging.newest(emulator, kind, key)
        if old is None:
            raise absent(kind, key)
        _own_run(principal, old.get("runId") or old.get("runid"))
        try:
            new = jsonpatch.patched(old, patch)
        except jsonpatch.BadPatch as bad:
            raise Refused(400, "BadArgument", str(bad)) from None
        strict = emulator.options.strict
        if not isinstance(new, dict):
            raise Refused(400, "BadArgument", "a patch can't replace the whole")
        for field in old.keys() | new.keys():
            settled = strict or field in ("id", "name", "version") or field.startswith("_")
            if settled and field not in _MUTABLE[kind] and new.get(field) != old.get(field):
                raise Refused(400, "BadArgument", f"{field} can't be changed")
        new["kvTags"] = labels.checked(new.get("kvTags"), "kvTags", strict=strict)
        new["properties"] = labels.checked(new.get("properties"), "properties", strict=strict)
        for name, value in old["properties"].items():
            if strict and (name not in new["properties"] or new["properties"][name] != value):
                raise Refused(400, "BadArgument", f"property {name!r} is immutable")
        if kind == MODEL:
            new["datasets"] = _datasets(new.get("datasets"))
            new["modifiedTime"] = emulator.time()
        new["_changed"] = emulator.store.next(f"{kind} order")
        lagging.write(emulator, kind, key, new)
    return new


def absent(kind: str, key: str) -> Refused:
    """The refusal for one that is not there."""
    return Refused(404, f"{kind.capitalize()}NotFound", f"{kind} {key[:300]!r} was not found")


def delete(emulator: Emulator, kind: str, key: str) -> bool:
    """Remove it; whether it was there."""
    with emulator.store.transaction():
        if lagging.newest(emulator, kind, key) is None:
            return False
        lagging.write(emulator, kind, key, None)
    return True


def page(emulator: Emulator, kind: str, query: dict[str, str]) -> tuple[list[dict[str, Any]], str | None]:
    """One page of a list, and the token of the next one; `query` has keys in lower case. Raises Refused."""
    found = [document for document in lagging.listed(emulator, kind) if _wanted(document, query)]
    if query.get("latestversiononly", "").lower() == "true":
        last: dict[str, dict[str, Any]] = {}
        for document in found:
            if document["version"] >= last.get(document["name"], document)["version"]:
                last[document["name"]] = document
        found = list(last.values())
    order = query.get("orderby", "CreatedAtDesc").lower()
    if order not in _ORDERS:
        raise Refused(
            400, "BadArgument", "orderBy is not one of CreatedAtDesc, CreatedAtAsc, UpdatedAtDesc, UpdatedAtAsc"
        )
    down, field = order.endswith("desc"), "_made" if order.startswith("created") else "_changed"
    found.sort(key=lambda document: document[field], reverse=down)
    after = query.get("$skiptoken")
    if after:
        mark = _unpacked(after)
        # By place in the order, not by count: what is deleted between two pages moves nothing.
        found = [item for item in found if (item[field] < mark if down else item[field] > mark)]
    most = emulator.options.page_size
    count, offset = _number(query.get("count"), most, "count"), _number(query.get("offset"), 0, "offset")
    found = found[offset:]
    shown = found[: max(1, min(count, most))]
    return shown, _packed(shown[-1][field]) if len(found) > len(shown) else None


def _wanted(document: dict[str, Any], query: dict[str, str]) -> bool:
    for field in ("name", "framework", "description"):
        if query.get(field) and document.get(field) != query[field]:
            return False
    if query.get("runid") and (document.get("runId") or document.get("runid")) != query["runid"]:
        return False
    if query.get("type") and document.get("type") != query["type"]:
        return False
    if query.get("datasetid") and all(item["id"] != query["datasetid"] for item in document["datasets"]):
        return False
    if query.get("tag") and query["tag"] not in document["kvTags"]:
        return False
    return labels.matches(document["kvTags"], query.get("tags", "")) and labels.matches(
        document["properties"], query.get("properties", "")
    )


def _number(text: str | None, default: int, what: str) -> int:
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refused(400, "BadArgument", f"{what} is not a number")
    return int(text)


def _packed(mark: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"after": mark}).encode()).decode()


def _unpacked(token: str) -> int:
    try:
        return int(json.loads(base64.urlsafe_b64decode(token[:200].encode()))["after"])
    except (ValueError, KeyError, TypeError):
        raise Refused(400, "BadArgument", "$skipToken is not one of ours") from None


def public(document: dict[str, Any]) -> dict[str, Any]:
    """What goes out."""
    return {key: value for key, value in document.items() if not key.startswith("_")}
