"""What is attached to the workspace: virtual machines and Kubernetes clusters; `datastores.py` has the datastores.

What is ours, and as what, stands in the tags of the compute resource. Azure ML tells nobody the account or the key
of a machine, so these count by the digest of what was wanted; the key's fingerprint is a tag too.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgetrain.core.digest import digest_of
from edgetrain.core.errors import Conflict, NotFound, ProviderError, Rejected, Stopped, Transient
from edgetrain.core.ports import Attachment, AttachmentState, Settings, TargetSettings, WantedAttachment
from edgetrain.providers.azureml.datastores import AzuremlDatastores
from edgetrain.providers.azureml.errors import shown, words
from edgetrain.providers.azureml.session import Session, shared

OWNER_TAG = "edgetrain.owner"
TARGET_TAG = "edgetrain.target"
DIGEST_TAG = "edgetrain.digest"
KEY_TAG = "edgetrain.key"
MACHINE, CLUSTER = "azureml-vm", "azureml-kubernetes"
_TYPES = {"VirtualMachine": MACHINE, "Kubernetes": CLUSTER}
_STATES: Mapping[str, AttachmentState] = {"succeeded": "ready", "failed": "failed", "canceled": "failed"}
_VERSION = {"api-version": "2020-02-02"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]")
_LONGEST_REASON = 500
_OTHER_WAYS = (
    "Azure ML takes no machine by its address any more: give azuremlVm.resourceId instead of address; or make it a "
    "target of type ssh, whose runs are tracked in Azure ML all the same"
)


class AzuremlAttachments:
    """Attached compute of one workspace. `patience` is how long a machine may take, `pause` the longest time
    between two looks, in seconds."""

    def __init__(
        self,
        session: Session,
        *,
        patience: float = 900.0,
        pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session = session
        self._datastores = AzuremlDatastores(session)
        self._patience, self._pause = patience, pause
        self._clock, self._sleep = clock, sleep

    def attached(self) -> Mapping[str, Attachment]:
        """All that is attached, by one list, in as many requests as there are pages."""
        every = self._session.pages("api", f"/rp/workspaces{self._session.scope}/computes", _VERSION)
        return {one.name: one for one in map(_attachment, every)}

    def wanted(self, target: TargetSettings, type: str) -> WantedAttachment:
        """What the target's manifest asks for. Raises Rejected for a name or a key that Azure ML takes not."""
        if not _NAME.fullmatch(target.name):
            raise Rejected(
                f"Azure ML takes no compute target named {target.name[:80]!r}",
                reason="NameNotAllowed",
                fix="name it with 3 to 24 letters, digits and '-', a letter first and no '-' last",
            )
        block = target.block
        fields: dict[str, Any] = {"resourceId": str(block.get("resourceId") or "").lower()}
        if type == MACHINE:
            if not fields["resourceId"]:
                fields["address"] = block["address"]
            fields |= {
                "port": block.get("port", 22),
                "username": block["username"],
                "key": fingerprint(_key(target)),
            }
        elif type == CLUSTER:
            fields["namespace"] = block.get("namespace", "default")
            if block.get("defaultInstanceType"):
                fields["defaultInstanceType"] = block["defaultInstanceType"]
            if block.get("instanceTypes"):
                fields["instanceTypes"] = _instance_types(block["instanceTypes"])
        else:
            raise Rejected(
                f"a target of type {type} is not attached to Azure ML",
                reason="NotServed",
                fix=f"targets of types {MACHINE} and {CLUSTER} are",
            )
        return WantedAttachment(target.name, type, fields, digest_of({"type": type, "fields": fields}))

    def attach(
        self,
        wanted: WantedAttachment,
        settings: TargetSettings,
        owner: str,
        stop: threading.Event | None = None,
    ) -> Attachment:
        """Ensure it is attached as wanted, and ready. Whatever somebody began before is waited for first."""
        found = self._settled(wanted.name, owner, stop)
        if found is not None and found.state == "ready" and not wanted.drift(found):
            return found
        self._send(wanted, settings, owner)
        made = self._settled(wanted.name, owner, stop)
        if made is None:
            raise Transient(
                f"{wanted.name} was detached while it was being attached",
                reason="Detached",
                fix="find out who detaches it, then apply again",
            )
        if made.state == "failed":
            raise Rejected(
                f"Azure ML could not attach {wanted.name}: {made.message or 'it gave no reason'}",
                reason="AttachFailed",
                fix="see that Azure ML can reach it with what the manifest says, then apply again",
            )
        return made

    def detach(self, name: str, owner: str, stop: threading.Event | None = None) -> None:
        """Ensure it is not attached. The machine or cluster itself is left alone."""
        found = self._get(name)
        if found is None:
            return
        _check_owner(found, owner)
        if found.state != "detaching":
            query = {**_VERSION, "underlyingResourceAction": "detach"}
            self._session.delete("arm", f"{self._session.scope}/computes/{name}", query)
        self._until(name, lambda one: one is None, stop=stop)

    def datastores(self) -> Mapping[str, Attachment]:
        """All datastores of the workspace."""
        return self._datastores.registered()

    def register(self, wanted: WantedAttachment, owner: str) -> Attachment:
        """Ensure the workspace knows the datastore as wanted, without a credential."""
        return self._datastores.register(wanted, owner)

    def unregister(self, name: str, owner: str) -> None:
        """Ensure the workspace does not know it."""
        self._datastores.unregister(name, owner)

    def _get(self, name: str) -> Attachment | None:
        try:
            return _attachment(
                self._session.get("api", f"/rp/workspaces{self._session.scope}/computes/{name}", _VERSION)
            )
        except NotFound:
            return None

    def _settled(self, name: str, owner: str, stop: threading.Event | None) -> Attachment | None:
        """What is there of ours once nothing is under way any more."""
        found = self._until(name, lambda one: one is None or one.state in ("ready", "failed"), owner, stop)
        if found is not None:
            _check_owner(found, owner)
        return found

    def _until(
        self,
        name: str,
        done: Callable[[Attachment | None], bool],
        owner: str | None = None,
        stop: threading.Event | None = None,
    ) -> Attachment | None:
        end, pause = self._clock() + self._patience, min(0.5, self._pause)
        while True:
            found = self._get(name)
            if done(found):
                return found
            if found is not None and owner is not None:
                _check_owner(found, owner)
            if stop is not None and stop.is_set():
                raise Stopped(f"Azure ML goes on with {name}; the next apply waits for it", reason="LeftRunning")
            if self._clock() >= end:
                state = found.state if found else "absent"
                raise Transient(
                    f"{name} is still {state} after {self._patience:g} s",
                    reason="AttachmentSlow",
                    fix="apply again later: it is waited for, not begun anew",
                )
            self._sleep(pause)
            pause = min(pause * 1.5, self._pause)

    def _send(self, wanted: WantedAttachment, settings: TargetSettings, owner: str) -> None:
        """Ask for it. The SDK's own configurations can't carry tags, so the payload is made here."""
        payload = {
            "properties": _machine(wanted, settings) if wanted.type == MACHINE else _cluster(wanted, settings),
            "tags": {
                OWNER_TAG: owner,
                TARGET_TAG: settings.name,
                DIGEST_TAG: wanted.digest,
                **({KEY_TAG: wanted.fields["key"]} if "key" in wanted.fields else {}),
            },
        }

        class Sent:
            """What `_attach` makes after its request; the SDK's own classes would ask and print at once."""

            def __init__(self, workspace: Any, name: str) -> None:
                self._operation_endpoint = ""

        def send(workspace: Any) -> None:
            from azureml.core.compute import ComputeTarget

            ComputeTarget._attach(workspace, wanted.name, payload, Sent)

        try:
            self._session.with_sdk(send, f"attaching {wanted.name}")
        except Rejected as error:
            if wanted.fields.get("address") and re.search(r"address|no longer supported", error.message, re.I):
                raise Rejected(error.message, reason="AttachByAddressRefused", fix=_OTHER_WAYS) from None
            raise


def fingerprint(key: str) -> str:
    """`SHA256:...` of the public half, as `ssh-keygen -l` shows it. Raises Rejected."""
    import asyncssh

    try:
        return asyncssh.import_private_key(key).convert_to_public().get_fingerprint()
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        raise Rejected(
            "the secret for azuremlVm.privateKey is no private key that can be read without a passphrase",
            reason="InvalidKey",
            fix="give an unencrypted OpenSSH or PEM private key, made for this use: `ssh-keygen -t ed25519 -N ''`",
        ) from None


def _key(target: TargetSettings) -> str:
    return target.secret(target.block["privateKey"]["secret"]).reveal()


def _machine(wanted: WantedAttachment, settings: TargetSettings) -> dict[str, Any]:
    key = _key(settings)
    if fingerprint(key) != wanted.fields["key"]:
        raise Conflict(
            f"the private key of {wanted.name} is not the one that was planned with",
            reason="KeyChanged",
            fix="plan and apply again",
        )
    return {
        "computeType": "VirtualMachine",
        # As the manifest has it: what is compared is in lower case.
        "resourceId": settings.block.get("resourceId"),
        "properties": {
            "address": wanted.fields.get("address"),
            "sshPort": wanted.fields["port"],
            "administratorAccount": {
                "username": wanted.fields["username"],
                "publicKeyData": "",
                "privateKeyData": key,
                "password": "",
            },
        },
    }


def _cluster(wanted: WantedAttachment, settings: TargetSettings) -> dict[str, Any]:
    fields = wanted.fields
    inner = {name: fields[name] for name in ("namespace", "defaultInstanceType", "instanceTypes") if name in fields}
    return {
        "computeType": "Kubernetes",
        "description": "",
        "resourceId": settings.block["resourceId"],
        "namespace": fields["namespace"],
        "identityType": None,
        "identityIds": None,
        "properties": inner,
    }


def _attachment(document: Any) -> Attachment:
    """From the service's document. Raises ProviderError."""
    try:
        properties, tags = document["properties"], document.get("tags") or {}
        type_ = _TYPES.get(properties["computeType"], "") if properties.get("isAttachedCompute", True) else ""
        inner = properties.get("properties") or {}
        fields: dict[str, Any] = {"resourceId": str(properties.get("resourceId") or "").lower()}
        if type_ == MACHINE:
            fields |= {
                "address": inner.get("address") or "",
                "port": inner.get("sshPort"),
                "key": tags.get(KEY_TAG, ""),
            }
        elif type_ == CLUSTER:
            fields |= {
                "namespace": inner.get("namespace") or "default",
                "defaultInstanceType": inner.get("defaultInstanceType") or "",
                "instanceTypes": _instance_types(inner.get("instanceTypes") or {}),
            }
        state = str(properties.get("provisioningState") or "").lower()
        return Attachment(
            name=str(document["name"]),
            type=type_,
            fields=fields,
            owner=str(tags.get(OWNER_TAG, "")),
            digest=str(tags.get(DIGEST_TAG, "")),
            state=_STATES.get(state, "detaching" if state == "deleting" else "attaching"),
            message=_reason(properties.get("provisioningErrors")),
        )
    except (KeyError, TypeError, AttributeError):
        raise _unreadable() from None


def _instance_types(types: Mapping[str, Any]) -> dict[str, Any]:
    """In the service's form, whether from a manifest or from the service, without what is empty."""
    found = {}
    for name, one in types.items():
        resources = one.get("resources") or one
        kept = {part: _texts(resources.get(part)) for part in ("requests", "limits")}
        found[name] = {
            "nodeSelector": _texts(one.get("nodeSelector")),
            "resources": {part: entries for part, entries in kept.items() if entries},
        }
    return found


def _texts(entries: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (entries or {}).items() if value is not None}


def _reason(errors: Any) -> str:
    """The service's reasons in a line."""
    told = []
    for error in errors if isinstance(errors, list) else [errors]:
        code, message = words(error)
        told.append(": ".join(filter(None, (code, message))))
    return shown("; ".join(filter(None, told)), longest=_LONGEST_REASON)


def _check_owner(found: Attachment, owner: str) -> None:
    if found.owner != owner:
        whose = f"belongs to {found.owner[:40]!r}" if found.owner else "was not attached by edgetrain"
        raise Conflict(
            f"compute target {found.name} is in the workspace already, and {whose}",
            reason="NotOurs",
            fix="give the target another name, or detach what is there by hand",
        )


def _unreadable() -> ProviderError:
    return ProviderError(
        "Azure ML's answer for its compute targets can't be read",
        reason="AnswerNotUnderstood",
        fix="see whether the workspace's address is right, and the client as pinned",
    )


def from_settings(settings: Settings) -> AzuremlAttachments:
    """Of the declared workspace; it is opened when it is first used."""
    return AzuremlAttachments(shared(settings))
