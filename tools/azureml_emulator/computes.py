"""Attached compute: rules, provisioning, and how an executor reaches it. States follow from times, not threads."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azureml_emulator import sshprobe
from azureml_emulator.message import Refused, insensitive

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

KIND, SECRET, OPERATION = "compute", "compute-secret", "operation"
NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]")
NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_GROUP = r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/"
VM_ID = re.compile(_GROUP + r"microsoft\.compute/virtualmachines/[\w.-]+", re.IGNORECASE)
CLUSTER_ID = re.compile(
    _GROUP + r"microsoft\.(kubernetes/connectedclusters|containerservice/managedclusters)/[\w.-]+", re.IGNORECASE
)
MAX_TAGS = 50
INSTANCE_TYPE = "defaultinstancetype"


@dataclass(frozen=True)
class Reach:
    """How to get to an attached machine: by key if there is one, else by password. `host_key` is the public key
    that the machine showed when it was attached (OpenSSH's form)."""

    host: str
    port: int
    username: str
    password: str
    private_key: str
    passphrase: str
    host_key: str


def get(emulator: Emulator, name: str) -> dict[str, Any] | None:
    """The compute's document as the service shows it now."""
    found = emulator.store.get(KIND, name.lower())
    return None if found is None else _now(emulator, found)


def listed(emulator: Emulator) -> list[dict[str, Any]]:
    """All of them, without those that are too new for a list (`lag`)."""
    seen = emulator.now() - emulator.options.lag
    found = (_now(emulator, each) for _, each in emulator.store.scan(KIND) if each["_made"] <= seen)
    return [each for each in found if each is not None]


def reach(emulator: Emulator, name: str) -> Reach:
    """How to get to a machine. Raises Refused if none is attached so, or not yet."""
    found, secret = get(emulator, name), emulator.store.get(SECRET, name.lower())
    if found is None or secret is None or found["properties"]["computeType"] != "VirtualMachine":
        raise Refused(404, "ComputeNotFound", f"there is no attached machine {name!r}")
    if found["properties"]["provisioningState"] != "Succeeded":
        raise Refused(409, "ComputeNotReady", f"compute {name} is {found['properties']['provisioningState']}")
    return Reach(**secret)


def attach(emulator: Emulator, name: str, body: Any) -> tuple[dict[str, Any], bool, str]:
    """Make it or write over it: the document, whether it is new, and the operation's id. Raises Refused."""
    if emulator.options.strict and not NAME.fullmatch(name):
        raise Refused(
            400,
            "ValidationError",
            f"Compute name '{name[:64]}' is invalid. It must be 3 to 24 letters, digits and hyphens, begin with a "
            "letter and end with a letter or digit.",
        )
    asked = insensitive(body)
    properties = asked.get("properties") if isinstance(asked, dict) else None
    if not isinstance(properties, dict):
        raise Refused(400, "ValidationError", "The properties of the compute are missing.")
    if emulator.options.strict and not asked.get("location"):
        raise Refused(400, "LocationRequired", "The location property is required for this definition.")
    tags = checked_tags(body.get("tags"))
    kind = str(properties.get("computetype", ""))
    before = None if get(emulator, name) is None else emulator.store.get(KIND, name.lower())
    if before is not None and before["_leaves"]:
        raise Refused(409, "Conflict", f"Compute {name} is being detached.")
    if before is not None and before["properties"]["computeType"].lower() != kind.lower():
        raise Refused(
            409, "ComputeTypeMismatch", f"Compute {name} is there with type {before['properties']['computeType']}."
        )
    failure = emulator.faults.attachment(name)
    secret: dict[str, Any] | None = None
    if kind.lower() == "virtualmachine":
        resource, shown, secret, found = _machine(emulator, properties)
        failure = failure or found
    elif kind.lower() == "kubernetes":
        resource, shown = _cluster(
            emulator, properties, _as_sent(body, "properties", "properties", "instancetypes")
        )
    else:
        raise Refused(400, "UnsupportedComputeType", f"Compute type '{kind[:64]}' cannot be attached here.")
    now = emulator.now()
    document = {
        "id": f"{emulator.workspace_path}/computes/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "location": str(asked.get("location") or emulator.options.region),
        "tags": tags,
        "properties": {
            "computeType": "VirtualMachine" if secret else "Kubernetes",
            "computeLocation": emulator.options.region,
            "description": str(properties.get("description") or ""),
            "resourceId": resource,
            "createdOn": before["properties"]["createdOn"] if before else emulator.time(),
            "modifiedOn": emulator.time(),
            "isAttachedCompute": True,
            "properties": shown,
        },
        "_made": before["_made"] if before else now,
        "_ready": now + emulator.options.slow,
        "_failure": failure,
        "_leaves": False,
    }
    operation = str(uuid.uuid4())
    with emulator.store.transaction():
        emulator.store.put(KIND, name.lower(), document)
        if secret:
            emulator.store.put(SECRET, name.lower(), secret)
        emulator.store.put(OPERATION, operation, {"began": now, "ends": document["_ready"], "failure": failure})
    return _now(emulator, document) or {}, before is None, operation


def _machine(
    emulator: Emulator, properties: dict[str, Any]
) -> tuple[str | None, dict[str, Any], dict[str, Any], tuple[str, str] | None]:
    """Resource id, what is shown, what is secret, and why the attachment fails if it does."""
    inner = properties.get("properties")
    account = inner.get("administratoraccount") if isinstance(inner, dict) else None
    if not isinstance(inner, dict) or not isinstance(account, dict):
        raise Refused(400, "ValidationError", "The administratorAccount of the virtual machine is missing.")
    port = inner.get("sshport", 22)
    if type(port) is not int or not 1 <= port <= 65535:
        raise Refused(400, "ValidationError", "sshPort must be a number from 1 to 65535.")
    username = str(account.get("username") or "")
    key, password = str(account.get("privatekeydata") or ""), str(account.get("password") or "")
    if not USER.fullmatch(username) or not (key or password):
        raise Refused(
            400, "ValidationError", "administratorAccount needs a username, and a password or a private key."
        )
    resource = properties.get("resourceid")
    if resource:
        host, wanted = _host_of(emulator, str(resource)), port
        name, _, given = host.rpartition(":")
        if name and given.isdigit():
            host, wanted = name, int(given)
    elif not inner.get("address"):
        raise Refused(400, "ValidationError", "Either resourceId or address must be given.")
    elif emulator.options.attach_by_address != "allow":
        raise Refused(
            400,
            "AttachByAddressNotSupported",
            "Attaching a virtual machine by its address is no longer supported. Provide the resourceId of the "
            "virtual machine.",
        )
    else:
        host, wanted = str(inner["address"]), port
    secret: dict[str, Any] = {
        "host": host,
        "port": wanted,
        "username": username,
        "password": password,
        "private_key": key,
        "passphrase": str(account.get("passphrase") or ""),
    }
    probed = sshprobe.probe(**secret)
    shown = {"address": host, "sshPort": port, "virtualMachineSize": None}
    return (str(resource) if resource else None), shown, {**secret, "host_key": probed.host_key}, probed.failure


def _host_of(emulator: Emulator, resource: str) -> str:
    if not VM_ID.fullmatch(resource):
        raise Refused(400, "InvalidResourceId", f"'{resource[:256]}' is not the id of a virtual machine.")
    hosts = {known.lower(): host for known, host in emulator.options.hosts.items()}
    host = hosts.get(resource.lower())
    if host is None:
        raise Refused(
            400,
            "ResourceNotFound",
            f"The virtual machine '{resource[:256]}' was not found, or access to it is denied.",
        )
    return host


def _as_sent(value: Any, *path: str) -> Any:
    """What is below this path, whose case is ignored, with its own keys as they are: they are somebody's names."""
    for key in path:
        items = value.items() if isinstance(value, dict) else ()
        value = next((item for name, item in items if str(name).lower() == key), None)
    return value


def _cluster(emulator: Emulator, properties: dict[str, Any], types: Any) -> tuple[str, dict[str, Any]]:
    resource = str(properties.get("resourceid") or "")
    if not CLUSTER_ID.fullmatch(resource):
        raise Refused(400, "InvalidResourceId", f"'{resource[:256]}' is not the id of a cluster.")
    inner = properties.get("properties")
    inner = inner if isinstance(inner, dict) else {}
    namespace = str(inner.get("namespace") or properties.get("namespace") or "default")
    if not NAMESPACE.fullmatch(namespace):
        raise Refused(400, "ValidationError", f"'{namespace[:64]}' is not the name of a namespace.")
    limits = {"cpu": "2", "memory": "8Gi"}
    own = {"nodeSelector": None, "resources": {"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": limits}}
    return resource, {
        "namespace": namespace,
        "defaultInstanceType": str(inner.get("defaultinstancetype") or INSTANCE_TYPE),
        "instanceTypes": types if isinstance(types, dict) and types else {INSTANCE_TYPE: own},
        "extensionPrincipalId": emulator.principal_id,
        "extensionInstanceReleaseTrain": "stable",
        "vcName": None,
    }


def checked_tags(tags: Any) -> dict[str, str]:
    """The tags within Resource Manager's limits. Raises Refused."""
    if tags is None:
        return {}
    texts = isinstance(tags, dict) and all(isinstance(value, str) for value in tags.values())
    if not texts:
        raise Refused(400, "InvalidTags", "Tags are names with texts.")
    if len(tags) > MAX_TAGS:
        raise Refused(400, "TooManyTags", f"A resource has at most {MAX_TAGS} tags.")
    for key, value in tags.items():
        if not 1 <= len(key) <= 512 or re.search(r"[<>%&\\?/]", key):
            raise Refused(400, "InvalidTagNameCharacters", f"The tag name '{key[:64]}' is not allowed.")
        if len(value) > 256:
            raise Refused(
                400, "InvalidTagValueLength", f"The value of tag '{key[:64]}' is longer than 256 characters."
            )
    return dict(tags)


def retag(emulator: Emulator, name: str, tags: Any) -> dict[str, Any]:
    """Other tags for the compute. Raises Refused."""
    wanted = checked_tags(tags)
    with emulator.store.transaction():
        found = _stored(emulator, name)
        found["tags"] = wanted
        found["properties"]["modifiedOn"] = emulator.time()
        emulator.store.put(KIND, name.lower(), found)
    return _now(emulator, found) or {}


def detach(emulator: Emulator, name: str) -> str:
    """Let go of it: the operation's id. Raises Refused (404)."""
    operation = str(uuid.uuid4())
    now = emulator.now()
    with emulator.store.transaction():
        found = _stored(emulator, name)
        if not found["_leaves"]:
            found |= {"_leaves": True, "_ready": now + emulator.options.slow}
        emulator.store.put(KIND, name.lower(), found)
        emulator.store.put(OPERATION, operation, {"began": now, "ends": found["_ready"], "failure": None})
    get(emulator, name)
    return operation


def account(emulator: Emulator, name: str) -> dict[str, Any]:
    """The administrator account, as `listKeys` gives it back. Raises Refused."""
    _stored(emulator, name)
    secret = emulator.store.get(SECRET, name.lower())
    if secret is None:
        raise Refused(400, "UnsupportedComputeType", f"Compute {name} has no keys.")
    return {
        "username": secret["username"],
        "password": secret["password"] or None,
        "publicKeyData": None,
        "privateKeyData": secret["private_key"] or None,
    }


def operation(emulator: Emulator, operation_id: str) -> dict[str, Any]:
    """How far an operation is. Raises Refused (404)."""
    found = emulator.store.get(OPERATION, operation_id)
    if found is None:
        raise Refused(404, "OperationNotFound", f"There is no operation {operation_id[:64]}.")
    document: dict[str, Any] = {"id": operation_id, "name": operation_id, "startTime": _iso(found["began"])}
    if emulator.now() < found["ends"]:
        return {**document, "status": "InProgress"}
    document["endTime"] = _iso(found["ends"])
    if found["failure"]:
        return {**document, "status": "Failed", "error": _error(found["failure"])}
    return {**document, "status": "Succeeded"}


def not_found(emulator: Emulator, name: str) -> Refused:
    """The refusal for a compute that is not there."""
    where = f"Microsoft.MachineLearningServices/workspaces/{emulator.options.workspace}/computes/{name[:64]}"
    return Refused(404, "ResourceNotFound", f"The Resource '{where}' was not found.")


def _stored(emulator: Emulator, name: str) -> dict[str, Any]:
    if get(emulator, name) is None:
        raise not_found(emulator, name)
    found: dict[str, Any] = emulator.store.get(KIND, name.lower()) or {}
    return found


def _now(emulator: Emulator, found: dict[str, Any]) -> dict[str, Any] | None:
    """The document at this time; None once it has been detached, which is written down."""
    done = emulator.now() >= found["_ready"]
    if found["_leaves"]:
        if done:
            with emulator.store.transaction():
                emulator.store.delete(KIND, found["name"].lower())
                emulator.store.delete(SECRET, found["name"].lower())
            return None
        state = "Deleting"
    elif not done:
        state = "Creating"
    else:
        state = "Failed" if found["_failure"] else "Succeeded"
    errors = [{"error": _error(found["_failure"])}] if state == "Failed" else None
    document = {key: value for key, value in found.items() if not key.startswith("_")}
    document["properties"] = {**found["properties"], "provisioningState": state, "provisioningErrors": errors}
    return document


def _error(failure: tuple[str, str] | list[str]) -> dict[str, Any]:
    return {"code": failure[0], "message": failure[1], "details": []}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
