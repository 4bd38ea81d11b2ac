"""Datastores: where data lies and, where it was given, the credential that the client reads back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azureml_emulator import lagging, sas
from azureml_emulator.message import Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

KIND = "datastore"
# What the client looks for in the refusal before it overwrites.
CONFLICT = "Another datastore with the same name already exists"
BUILT_IN = "workspaceblobstore"
NAME = re.compile(r"[A-Za-z0-9_]{1,255}")
# The section that each type has.
SECTIONS = {
    "AzureBlob": "azureStorageSection",
    "AzureFile": "azureStorageSection",
    "AzureDataLakeGen2": "azureStorageSection",
    "AzureDataLake": "azureDataLakeSection",
    "AzureSqlDatabase": "azureSqlDatabaseSection",
    "AzurePostgreSql": "azurePostgreSqlSection",
    "AzureMySql": "azureMySqlSection",
    "GlusterFs": "glusterFsSection",
    "DBFS": "",
    "Hdfs": "hdfsSection",
    "OnPremHdfs": "hdfsSection",
}
_FIELDS = {
    key.lower(): key
    for key in (
        "accountName", "containerName", "endpoint", "protocol", "credentialType", "credential", "clientCredentials",
        "blobCacheTimeout", "isSas", "accountKey", "sasToken", "areWorkspaceManagedIdentitiesAllowed",
        "subscriptionId", "resourceGroup", "serviceDataAccessAuthIdentity",
    )
}  # fmt: skip
_SECRETS = {
    "credential", "accountkey", "sastoken", "clientsecret", "certificate", "userpassword", "credentialvalue",
    "kerberoskeytab", "kerberospassword",
}  # fmt: skip
_TYPES = {"none": "None", "sas": "Sas", "accountkey": "AccountKey", "clientcredentials": "ClientCredentials"}


def create(emulator: Emulator, body: Any) -> None:
    """A new datastore. Raises Refused: 400 if the name is taken."""
    document = _checked(emulator, body)
    with emulator.store.transaction():
        if _stored(emulator, document["name"]) is not None:
            raise Refused(400, "UserError", CONFLICT)
        lagging.write(emulator, KIND, document["name"], document)


def replace(emulator: Emulator, name: str, body: Any) -> None:
    """The datastore of this name is now that. Raises Refused."""
    document = _checked(emulator, body, name)
    lagging.write(emulator, KIND, document["name"], document)


def _checked(emulator: Emulator, body: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Refused(400, "UserError", "the body is not an object")
    given = {key.lower(): value for key, value in body.items()}
    called = name or given.get("name")
    if not isinstance(called, str) or not called:
        raise Refused(400, "UserError", "name is needed")
    if emulator.options.strict and not NAME.fullmatch(called):
        raise Refused(400, "UserError", "a datastore's name has letters, digits and '_'")
    kind = next((known for known in SECTIONS if known.lower() == str(given.get("datastoretype")).lower()), None)
    if kind is None:
        raise Refused(400, "UserError", f"dataStoreType is one of {', '.join(SECTIONS)}")
    document: dict[str, Any] = {
        "name": called.lower(),
        "dataStoreType": kind,
        "hasBeenValidated": False,
        "tags": given.get("tags") or {},
    }
    section = SECTIONS[kind]
    if section:
        value = given.get(section.lower())
        if not isinstance(value, dict):
            raise Refused(400, "UserError", f"{section} is needed for {kind}")
        document[section] = _storage(value) if section == "azureStorageSection" else value
    return document


def _storage(value: dict[str, Any]) -> dict[str, Any]:
    """The section with the credential where the client looks for it."""
    section = {_FIELDS.get(key.lower(), key): item for key, item in value.items()}
    for key in ("accountName", "containerName"):
        if not isinstance(section.get(key), str) or not section[key]:
            raise Refused(400, "UserError", f"azureStorageSection.{key} is needed")
    kind = _TYPES.get(str(section.get("credentialType") or "None").lower())
    if kind is None:
        raise Refused(400, "UserError", f"credentialType is one of {', '.join(_TYPES.values())}")
    secret = section.pop("credential", None)
    if kind == "AccountKey":
        section["accountKey"] = secret or section.get("accountKey")
    elif kind == "Sas":
        section["sasToken"] = secret or section.get("sasToken")
    wanted = {"AccountKey": "accountKey", "Sas": "sasToken", "ClientCredentials": "clientCredentials"}.get(kind)
    if wanted and not section.get(wanted):
        raise Refused(400, "UserError", f"credentialType {kind} without its credential")
    defaults = {"protocol": "https", "endpoint": "core.windows.net"}
    return {**section, **{key: section.get(key) or item for key, item in defaults.items()}, "credentialType": kind}


def _stored(emulator: Emulator, name: str) -> dict[str, Any] | None:
    if name.lower() == BUILT_IN:
        return {"name": BUILT_IN}
    return lagging.newest(emulator, KIND, name.lower())


def get(emulator: Emulator, host: str, name: str, *, secret: bool) -> dict[str, Any]:
    """One datastore, for whoever asked by this host name. Raises Refused (404)."""
    if name.lower() == BUILT_IN:
        found: dict[str, Any] | None = built_in(emulator, host)
    else:
        found = lagging.newest(emulator, KIND, name.lower())
    if found is None:
        raise Refused(404, "UserError", f"Could not find datastore with name: {name[:300]}")
    return found if secret else without_secrets(found)


def built_in(emulator: Emulator, host: str) -> dict[str, Any]:
    """The workspace's own blob container. A signature stands for the account key that Azure's has: the emulator's
    account has no key, and the client can't tell."""
    container = f"azureml-blobstore-{emulator.workspace_id}"
    return {
        "name": BUILT_IN,
        "dataStoreType": "AzureBlob",
        "hasBeenValidated": True,
        "tags": {},
        "azureStorageSection": {
            "accountName": emulator.options.storage,
            "containerName": container,
            "protocol": "https",
            "endpoint": emulator.urls(host).blob.partition(".blob.")[2],
            "credentialType": "Sas",
            "sasToken": sas.sign(emulator, container, "", "racwdl"),
        },
    }


def listed(emulator: Emulator, host: str, *, secret: bool) -> list[dict[str, Any]]:
    """All, by name."""
    found = [built_in(emulator, host), *lagging.listed(emulator, KIND)]
    found.sort(key=lambda item: str(item["name"]))
    return found if secret else [without_secrets(item) for item in found]


def without_secrets(value: Any) -> Any:
    """The same without credentials."""
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items() if key.lower() not in _SECRETS}
    return value


def delete(emulator: Emulator, name: str) -> bool:
    """Forget it; whether it was there. Raises Refused for the default one."""
    with emulator.store.transaction():
        if name.lower() == default(emulator):
            raise Refused(400, "UserError", "the default datastore can't be unregistered")
        if lagging.newest(emulator, KIND, name.lower()) is None:
            return False
        lagging.write(emulator, KIND, name.lower(), None)
    return True


def default(emulator: Emulator) -> str:
    """The default datastore's name."""
    return str(emulator.store.get("emulator", "default datastore") or BUILT_IN)


def set_default(emulator: Emulator, name: str) -> None:
    """Make it the default. Raises Refused (404)."""
    with emulator.store.transaction():
        if _stored(emulator, name) is None:
            raise Refused(404, "UserError", f"Could not find datastore with name: {name[:300]}")
        emulator.store.put("emulator", "default datastore", name.lower())
