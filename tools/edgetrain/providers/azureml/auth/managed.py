"""Managed identity: the machine's own, asked for at its metadata service."""

from __future__ import annotations

import os
from typing import Any

from edgetrain.core.errors import Rejected
from edgetrain.providers.azureml.auth.exchange import Watched, acquired
from edgetrain.providers.azureml.auth.tokens import Source, Token

WHAT = "asking the machine for its managed identity"


def by_machine(client_id: str) -> Source:
    """By the system's identity, or a user-assigned one by its client id. The metadata service is on the machine's
    own network: no proxy is used for it."""

    def source(audience: str) -> Token:
        import msal

        client = Watched(direct=True, verify=os.environ.get("REQUESTS_CA_BUNDLE", ""))
        identity = (
            msal.UserAssignedManagedIdentity(client_id=client_id)
            if client_id
            else msal.SystemAssignedManagedIdentity()
        )

        def call() -> Any:
            try:
                return msal.ManagedIdentityClient(identity, http_client=client).acquire_token_for_client(
                    resource=audience
                )
            except msal.ManagedIdentityError as error:
                raise Rejected(
                    f"{WHAT}: {type(error).__name__}",
                    reason="NoManagedIdentity",
                    fix="give the runner's VM an identity, or sign in by another auth.type",
                ) from None

        return acquired(call, client, WHAT)

    return source
