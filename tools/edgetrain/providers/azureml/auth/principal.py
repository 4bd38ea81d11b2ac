"""Service principals: by secret, by certificate, and by GitHub's OIDC token in their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.auth.exchange import Watched, acquired, application, scopes
from edgetrain.providers.azureml.auth.tokens import Source, Token
from edgetrain.providers.azureml.clouds import Cloud
from edgetrain.providers.azureml.errors import refusal, shown, translate

FEDERATION = "api://AzureADTokenExchange"
WHAT = "signing in to Azure"
_KEY = re.compile(r"-----BEGIN ((?:RSA |EC |)PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def by_secret(cloud: Cloud, tenant: str, client_id: str, secret: Callable[[], Secret]) -> Source:
    """By a client secret, read anew for each token."""
    return _source(cloud, tenant, client_id, lambda: (value := secret(), value.reveal()))


def by_certificate(cloud: Cloud, tenant: str, client_id: str, secret: Callable[[], Secret]) -> Source:
    """By a certificate with its key, PEM, read anew for each token."""

    def credential() -> tuple[Secret, Any]:
        pem = secret()
        key, certificates = _KEY.search(pem.reveal()), _CERTIFICATE.findall(pem.reveal())
        if key is None or not certificates:
            raise Rejected(
                "the service principal's certificate is no PEM text with a key that is not encrypted",
                reason="CertificateMalformed",
                fix="put certificate and private key, PEM, one after the other, into the secret",
            )
        return pem, {"private_key": key[0], "public_certificate": "\n".join(certificates)}

    return _source(cloud, tenant, client_id, credential)


def by_github(cloud: Cloud, tenant: str, client_id: str, environment: Mapping[str, str]) -> Source:
    """By the OIDC token of the running workflow job. One lives for minutes and serves for one exchange, so each
    exchange gets its own: jobs may last longer than any of them."""

    def credential() -> tuple[Secret, Any]:
        assertion = github_assertion(environment)
        return assertion, {"client_assertion": assertion.reveal()}

    return _source(cloud, tenant, client_id, credential)


def _source(cloud: Cloud, tenant: str, client_id: str, credential: Callable[[], tuple[Secret, Any]]) -> Source:
    def source(audience: str) -> Token:
        secret, given = credential()
        client = Watched()

        def call() -> Any:
            made = application(cloud, tenant, client_id, given, client)
            return made.acquire_token_for_client(scopes(audience))

        return acquired(call, client, WHAT, [secret])

    return source


def github_assertion(environment: Mapping[str, str]) -> Secret:
    """A new OIDC token of the workflow job, for Entra's exchange."""
    url = environment.get("ACTIONS_ID_TOKEN_REQUEST_URL", "")
    token = environment.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "")
    what = "asking GitHub for the job's identity"
    if not url or not token:
        raise NotFound(
            "this is no workflow job that may ask for its OIDC token",
            reason="NoJobIdentity",
            fix="give the job `permissions: {id-token: write}`, or sign in by another auth.type",
        )
    if urlsplit(url).scheme != "https":
        raise Rejected(f"{what}: its address is not https", reason="NoJobIdentity", fix="check the runner's set-up")
    client = Watched()
    mine = Secret(token)
    try:
        answer = client.get(url, params={"audience": FEDERATION}, headers={"Authorization": f"bearer {token}"})
        if answer.status_code != 200:
            raise refusal(
                answer.status_code, what, headers=answer.headers, body=answer.text[:65536], secrets=[mine]
            )
        value = answer.json().get("value")
    except (OSError, ValueError, AttributeError) as error:
        raise translate(error, what, [mine]) from None
    finally:
        client.close()
    if not isinstance(value, str) or not re.fullmatch(r"[\w.-]{1,65536}", value):
        raise Rejected(
            f"{what}: it gave none: {shown(type(value).__name__)}", reason="NoJobIdentity", fix="try again"
        )
    return Secret(value)
