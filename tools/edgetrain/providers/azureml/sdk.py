"""azureml-core's workspace over our own tokens. Imported only where the SDK is open."""

from __future__ import annotations

from typing import Any

from azureml.core import Workspace
from azureml.core.authentication import Audience, TokenAuthentication, _SubscriptionInfo

from edgetrain.providers.azureml.auth import Tokens
from edgetrain.providers.azureml.clouds import Cloud, sdk_cloud


class _Authentication(TokenAuthentication):  # type: ignore[misc]
    """The SDK asks the token callback for almost every request; the tokens are held there."""

    def __init__(self, tokens: Tokens, cloud: Cloud, sdk_cloud: Any, subscription: str) -> None:
        super().__init__(tokens, cloud="AzureCloud")
        # A declared cloud is in no table of the SDK: see `clouds.sdk_cloud`.
        self._cloud_type = sdk_cloud
        self._cloud = cloud
        self._tokens = tokens
        self._subscription = subscription

    def __deepcopy__(self, memo: dict[int, Any]) -> _Authentication:
        return self  # it holds locks, and the tokens are meant to be shared

    def _get_aad_token(self, resource: Audience = Audience.ARM) -> str:
        return self._tokens(self._cloud.ml_audience if resource is Audience.AZUREML else self._cloud.audience)

    def _get_all_subscription_ids(self) -> tuple[list[Any], str]:
        # The SDK lists all subscriptions before each client it makes, to word an error better, and takes the tenant
        # out of the token, where ADFS may put none. Resource Manager says as well whether ours is there.
        return [_SubscriptionInfo(self._subscription, self._subscription)], ""


def open_workspace(tokens: Tokens, cloud: Cloud, subscription: str, group: str, name: str) -> Workspace:
    """The SDK's workspace, asked for at Resource Manager."""
    auth = _Authentication(tokens, cloud, sdk_cloud(cloud), subscription)
    opened = Workspace(subscription, group, name, auth=auth)
    if cloud.discovery:
        opened._workspace_autorest_object.discovery_url = cloud.discovery
    return opened
