"""Signing in without a secret: by a certificate's key, or by the token of an issuer that the application trusts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509

from azureml_emulator import principals
from azureml_emulator.message import Refused
from azureml_emulator.tokens import ALGORITHM, jwks, key_in

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ISSUER = "https://token.actions.githubusercontent.com"
SUBJECT = "repo:edge/site:environment:edge-site"
EXCHANGE = "api://AzureADTokenExchange"
# As long as a job's own token lives.
LIFE = 600.0
KEY = "github.key"


def ensure(emulator: Emulator) -> None:
    """Let the owner be signed in by the stand-in for GitHub's issuer."""
    keys = jwks(key_in(emulator.options.folder / KEY), "github")
    credential = {"issuer": ISSUER, "subject": SUBJECT, "audience": EXCHANGE, "jwks": keys}
    principals.trust_issuer(emulator, "owner", credential)


def job_token(emulator: Emulator, audience: str, subject: str = SUBJECT, life: float = LIFE) -> str:
    """What GitHub hands to a job that may ask for its identity."""
    now = int(emulator.now())
    claims = {"iss": ISSUER, "sub": subject, "aud": audience, "iat": now, "nbf": now, "exp": int(now + life)}
    key = key_in(emulator.options.folder / KEY)
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": "github"})


def check(emulator: Emulator, application: dict[str, Any], form: dict[str, str]) -> None:
    """Whether the assertion speaks for the application. Raises Refused."""
    if form.get("client_assertion_type") != BEARER:
        raise Refused(400, "invalid_request", "AADSTS900144: client_assertion_type is missing or unsupported.")
    assertion = form["client_assertion"]
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise Refused(401, "invalid_client", "AADSTS50027: JWT token is invalid or malformed.") from None
    if claims.get("iss") == application["clientId"]:
        _certificate(application, assertion, header)
    else:
        _federated(application, assertion, header, claims)


def _certificate(application: dict[str, Any], assertion: str, header: dict[str, Any]) -> None:
    # Some clients pad what they name their certificate by.
    named = {str(header.get(key, "")).rstrip("=") for key in ("x5t", "x5t#S256")} - {""}
    for known in application["certificates"]:
        if named & set(known["thumbprints"]):
            key = x509.load_pem_x509_certificate(known["pem"].encode()).public_key()
            claims = _decoded(assertion, key, None)
            ends = str(claims["aud"]).rstrip("/").endswith(("/token", "/v2.0"))
            if claims.get("sub") != application["clientId"] or not ends:
                break
            return
    raise Refused(
        401, "invalid_client", "AADSTS700027: The certificate with which the assertion is signed is not registered."
    )


def _federated(application: dict[str, Any], assertion: str, header: dict[str, Any], claims: dict[str, Any]) -> None:
    for known in application["federated"]:
        if (known["issuer"], known["subject"]) != (claims.get("iss"), claims.get("sub")):
            continue
        if known["audience"] != claims.get("aud"):
            raise Refused(
                401,
                "invalid_client",
                "AADSTS700212: No matching federated identity record found for presented assertion audience.",
            )
        for key in known["jwks"].get("keys", []):
            if key.get("kid") == header.get("kid"):
                public = jwt.algorithms.RSAAlgorithm.from_jwk(json.dumps(key))
                _decoded(assertion, public, known["audience"])
                return
    raise Refused(
        401,
        "invalid_client",
        "AADSTS700213: No matching federated identity record found for presented assertion subject.",
    )


def _decoded(assertion: str, key: Any, audience: str | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = jwt.decode(
            assertion,
            key,
            algorithms=["RS256", "PS256"],
            audience=audience,
            options={"verify_aud": audience is not None, "require": ["exp", "aud", "iss", "sub"]},
        )
    except jwt.ExpiredSignatureError:
        raise Refused(
            401, "invalid_client", "AADSTS700024: Client assertion is not within its valid time range."
        ) from None
    except jwt.InvalidTokenError:
        raise Refused(401, "invalid_client", "AADSTS50013: Assertion failed signature validation.") from None
    return found
