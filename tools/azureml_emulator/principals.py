"""Who may sign in: applications with a role, their secrets, certificates and federated credentials."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from azureml_emulator.message import Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

KIND = "principal"
ROLES = {"owner": "contributor", "reader": "reader"}


def ensure(emulator: Emulator) -> None:
    """An owner and a reader, made at the first start."""
    for name, role in ROLES.items():
        with emulator.store.transaction():
            if emulator.store.get(KIND, name) is None:
                emulator.store.put(KIND, name, _new(name, role))


def _new(name: str, role: str) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "clientId": str(uuid.uuid4()),
        "objectId": str(uuid.uuid4()),
        "clientSecret": secrets.token_urlsafe(24),
        "certificates": [],
        "federated": [],
    }


def named(emulator: Emulator, name: str) -> dict[str, Any]:
    """The application. Raises Refused (404)."""
    found: dict[str, Any] | None = emulator.store.get(KIND, name)
    if found is None:
        raise Refused(404, "NotFound", f"there is no principal {name!r}")
    return found


def by_client(emulator: Emulator, client_id: str) -> dict[str, Any] | None:
    """The application with this client id."""
    for _, found in emulator.store.scan(KIND):
        if found["clientId"] == client_id.lower():
            application: dict[str, Any] = found
            return application
    return None


def trust_certificate(emulator: Emulator, name: str, pem: str) -> None:
    """Let the application sign in with this certificate's key."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise Refused(400, "UserError", "that is not a certificate in PEM") from None
    der = certificate.public_bytes(serialization.Encoding.DER)
    # What a client names its certificate by; both digests are in use, and neither protects anything here.
    thumbprints = [
        base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        for digest in (hashlib.sha1(der, usedforsecurity=False).digest(), hashlib.sha256(der).digest())
    ]
    with emulator.store.transaction():
        found = named(emulator, name)
        found["certificates"].append({"pem": pem, "thumbprints": thumbprints})
        emulator.store.put(KIND, name, found)


def trust_issuer(emulator: Emulator, name: str, credential: dict[str, Any]) -> None:
    """Let the application sign in with tokens of `issuer` for `subject` and `audience`, signed by one of `jwks`;
    one that is there with the same issuer, subject and audience is replaced."""
    wanted = {key: credential.get(key) for key in ("issuer", "subject", "audience", "jwks")}
    texts = all(isinstance(wanted[key], str) and wanted[key] for key in ("issuer", "subject", "audience"))
    if not texts or not isinstance(wanted["jwks"], dict):
        raise Refused(400, "UserError", "a federated credential has issuer, subject, audience and jwks")
    with emulator.store.transaction():
        found = named(emulator, name)
        same = ("issuer", "subject", "audience")
        kept = [old for old in found["federated"] if any(old[key] != wanted[key] for key in same)]
        found["federated"] = [*kept, wanted]
        emulator.store.put(KIND, name, found)
