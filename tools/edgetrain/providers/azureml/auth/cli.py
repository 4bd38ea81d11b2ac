"""The profile of a signed-in Azure CLI: the user's own, read because the manifest asks for it."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from edgetrain.core.errors import Denied, ProviderError
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.auth.tokens import Source, Token
from edgetrain.providers.azureml.clouds import Cloud
from edgetrain.providers.azureml.errors import SIGN_IN_REFUSED, shown, translate
from edgetrain.providers.azureml.process import importing, quieten

WHAT = "signing in by the Azure CLI's profile"
_lock = threading.Lock()


def by_profile(cloud: Cloud, subscription: str, tenant: str) -> Source:
    """By the account that `az login` left; of the subscription if the profile knows it, else of the tenant."""

    def source(audience: str) -> Token:
        quieten()
        # One at a time: the CLI's session files and its profile are not made for threads.
        with _lock:
            try:
                with importing({"ARM_CLOUD_METADATA_URL": None, "AZURE_CORE_COLLECT_TELEMETRY": "no"}):
                    entry = _raw(cloud, subscription, tenant, audience)
            except ProviderError:
                raise
            except Exception as error:  # the CLI's errors have no common class, and SystemExit is none of them
                raise _refused(error, cloud) from None
        value, life = entry["accessToken"], float(entry["expires_on"]) - time.time()
        return Token(Secret(str(value)), max(life, 0.0))

    return source


def _raw(cloud: Cloud, subscription: str, tenant: str, audience: str) -> Any:
    from azure.cli.core import get_default_cli
    from azure.cli.core._config import GLOBAL_CONFIG_DIR
    from azure.cli.core._environment import get_config_dir
    from azure.cli.core._profile import Profile

    if get_config_dir() != GLOBAL_CONFIG_DIR:
        raise Denied(
            f"{WHAT}: this process uses a configuration folder of its own",
            reason="ProfileInUse",
            fix="sign in by another auth.type where a declared cloud is used too",
        )
    context = get_default_cli()
    if context.cloud.name != cloud.name:
        raise Denied(
            f"{WHAT}: it is signed in to cloud {shown(context.cloud.name, longest=64)}, not {cloud.name}",
            reason="OtherCloud",
            fix=f"run: az cloud set --name {cloud.name} && az login",
        )
    profile = Profile(cli_ctx=context)
    known = {str(one.get("id", "")).lower() for one in profile.load_cached_subscriptions()}
    if subscription.lower() in known:
        token, *_ = profile.get_raw_token(resource=audience, subscription=subscription)
    else:
        token, *_ = profile.get_raw_token(resource=audience, tenant=tenant or None)
    return token[2]


def _refused(error: Exception, cloud: Cloud) -> ProviderError:
    if type(error).__name__ in {"CLIError", "AuthenticationError", "KnackException"}:
        return Denied(
            f"{WHAT}: {shown(error)}",
            reason=SIGN_IN_REFUSED,
            fix=f"run: az cloud set --name {cloud.name} && az login   (folder: {_folder()})",
        )
    return translate(error, WHAT)


def _folder() -> str:
    return "AZURE_CONFIG_DIR" if os.environ.get("AZURE_CONFIG_DIR") else "~/.azure"
