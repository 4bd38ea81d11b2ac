"""Datastores of the workspace: where a site's data lies, by account, container and domain, and no credential.

What is ours, and as what, stands in the datastore's tags. Nothing here asks for a secret, or sends one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetrain.core.errors import Conflict, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import Attachment, WantedAttachment
from edgetrain.core.problem import shown
from edgetrain.providers.azureml.session import Session

OWNER_TAG = "edgetrain.owner"
DIGEST_TAG = "edgetrain.digest"
_TYPES = {"AzureBlob": "azure-blob"}
_ALL = "/datastore/v1.0{WS}/datastores"
# To whoever may read secrets the service gives them unless it is told not to.
_NO_SECRET = {"includeSecret": "false"}
# The container is there, or is the site's affair; and the service has nothing to look at it with.
_AS_IT_IS = {"createIfNotExists": "false", "skipValidation": "true"}
_SECRETS = ("accountKey", "sasToken", "clientCredentials", "credential")


class AzuremlDatastores:
    """The datastores of one workspace."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def registered(self) -> Mapping[str, Attachment]:
        """All of them, by one list, in as many requests as there are pages."""
        every = self._session.pages("history", _ALL, {**_NO_SECRET, "count": "100"})
        return {one.name: one for one in map(_datastore, every)}

    def register(self, wanted: WantedAttachment, owner: str) -> Attachment:
        """Ensure it is there as wanted; what the service made of it is read back."""
        found = self._ours(wanted.name, owner)
        if found is not None and not wanted.drift(found):
            return found
        if found is not None:
            self._session.put("history", f"{_ALL}/{wanted.name}", _payload(wanted, owner), _AS_IT_IS)
        else:
            try:
                self._session.post("history", _ALL, _payload(wanted, owner), _AS_IT_IS)
            except Rejected:
                # It is there by now if somebody was quicker, or if the answer to a first try was lost.
                if self._ours(wanted.name, owner) is None:
                    raise
        made = self._get(wanted.name)
        if made is None:
            raise Transient(
                f"datastore {wanted.name} is not there after it was registered",
                reason="DatastoreSlow",
                fix="apply again",
            )
        if differs := sorted({*wanted.drift(made), *(["owner"] if made.owner != owner else [])}):
            raise Rejected(
                f"Azure ML did not keep datastore {wanted.name} as it was told: {', '.join(differs)}",
                reason="DatastoreNotKept",
                fix="unregister it by hand and apply again, or write `azureml: none` on it in edgetrain.yaml",
            )
        return made

    def unregister(self, name: str, owner: str) -> None:
        """Ensure it is not there."""
        if self._ours(name, owner) is not None:
            self._session.delete("history", f"{_ALL}/{name}")

    def _get(self, name: str) -> Attachment | None:
        try:
            return _datastore(self._session.get("history", f"{_ALL}/{name}", _NO_SECRET))
        except NotFound:
            return None

    def _ours(self, name: str, owner: str) -> Attachment | None:
        """What has the name, if it is this owner's. Raises Conflict for another's."""
        found = self._get(name)
        if found is not None and found.owner != owner:
            whose = f"belongs to {shown(found.owner, 40)!r}" if found.owner else "was not registered by edgetrain"
            raise Conflict(
                f"datastore {name} is in the workspace already, and {whose}",
                reason="NotOurs",
                fix="give the datastore another name, or unregister what is there by hand",
            )
        return found


def _payload(wanted: WantedAttachment, owner: str) -> dict[str, Any]:
    fields = wanted.fields
    return {
        "name": wanted.name,
        "dataStoreType": "AzureBlob",
        "tags": {OWNER_TAG: owner, DIGEST_TAG: wanted.digest},
        "azureStorageSection": {
            "accountName": fields["account"],
            "containerName": fields["container"],
            "endpoint": fields["endpoint"],
            "protocol": fields["protocol"],
            "credentialType": "None",
            "areWorkspaceManagedIdentitiesAllowed": False,
            "ServiceDataAccessAuthIdentity": "None",
        },
    }


def _datastore(document: Any) -> Attachment:
    """From the service's document; a secret in it is left there. Raises ProviderError."""
    try:
        tags, section = document.get("tags") or {}, document.get("azureStorageSection") or {}
        return Attachment(
            name=str(document["name"]),
            type=_TYPES.get(document["dataStoreType"], ""),
            fields={
                "account": str(section.get("accountName") or ""),
                "container": str(section.get("containerName") or ""),
                "endpoint": str(section.get("endpoint") or ""),
                "protocol": str(section.get("protocol") or ""),
                "credential": _credential(section),
            },
            owner=str(tags.get(OWNER_TAG) or ""),
            digest=str(tags.get(DIGEST_TAG) or ""),
            state="ready",
        )
    except (KeyError, TypeError, AttributeError):
        raise ProviderError(
            "Azure ML's answer for its datastores can't be read",
            reason="AnswerNotUnderstood",
            fix="see whether the workspace's address is right, and the client as pinned",
        ) from None


def _credential(section: Mapping[str, Any]) -> str:
    """`none`, or what sort one holds; also what lets the workspace itself read the data."""
    told = str(section.get("credentialType") or "None")
    if told != "None":
        return shown(told, 40)
    if any(section.get(key) for key in _SECRETS):
        return "untold"
    identity = section.get("serviceDataAccessAuthIdentity") or section.get("ServiceDataAccessAuthIdentity")
    if str(identity or "None") != "None" or section.get("areWorkspaceManagedIdentitiesAllowed"):
        return "workspace identity"
    return "none"
