"""Signing in to Azure: one source of tokens for whatever the workspace's `auth` block says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.auth.cli import by_profile
from edgetrain.providers.azureml.auth.managed import by_machine
from edgetrain.providers.azureml.auth.principal import by_certificate, by_github, by_secret
from edgetrain.providers.azureml.auth.tokens import Source, Token, Tokens
from edgetrain.providers.azureml.clouds import Cloud

__all__ = ["Source", "Token", "Tokens", "sign_in"]


def sign_in(
    block: Mapping[str, Any],
    cloud: Cloud,
    *,
    subscription: str = "",
    secret: Callable[[str], Secret],
    environment: Mapping[str, str] = os.environ,
) -> Source:
    """The source of tokens for an `auth` block (see the configuration's schema) in this cloud."""
    tenant, client = str(block.get("tenant", "")), str(block.get("clientId", ""))
    match block["type"]:
        case "oidc":
            return by_github(cloud, tenant, client, environment)
        case "managed-identity":
            return by_machine(client)
        case "cli":
            return by_profile(cloud, subscription, tenant)
    if "certificate" in block:
        return by_certificate(cloud, tenant, client, partial(secret, block["certificate"]["secret"]))
    return by_secret(cloud, tenant, client, partial(secret, block["clientSecret"]["secret"]))
