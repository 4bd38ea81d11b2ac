"""Resource Manager: subscriptions, the workspace, its keys, and operations; and the service's discovery."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from azureml_emulator import bodies, computes, labels
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route
from azureml_emulator.tokens import Tokens

arm = partial(route, audience="arm", shape="arm")
SUBSCRIPTION = "/subscriptions/{subscription}"
GROUP = SUBSCRIPTION + "/resourceGroups/{group}"
PROVIDER = "/providers/Microsoft.MachineLearningServices"
TYPE = "Microsoft.MachineLearningServices/workspaces"
MADE = "2024-01-01T00:00:00Z"
_TOLD = ("friendlyName", "description")


def workspace_document(emulator: Emulator, request: Request) -> dict[str, Any]:
    """The workspace, as Resource Manager describes it."""
    options = emulator.options
    group = f"/subscriptions/{options.subscription}/resourceGroups/{options.group}"
    changed = emulator.store.get("emulator", "workspace") or {}
    return {
        "id": emulator.workspace_path,
        "name": options.workspace,
        "type": TYPE,
        "location": options.region,
        "tags": changed.get("tags", {}),
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": {
            "type": "SystemAssigned",
            "principalId": emulator.principal_id,
            "tenantId": options.tenant,
        },
        "properties": {
            "workspaceId": emulator.workspace_id,
            "friendlyName": changed.get("friendlyName", options.workspace),
            "description": changed.get("description", ""),
            "provisioningState": "Succeeded",
            "creationTime": MADE,
            "discoveryUrl": f"{emulator.urls_of(request).api}/discovery",
            "containerRegistry": f"{group}/providers/Microsoft.ContainerRegistry/registries/{options.acr}",
            "storageAccount": f"{group}/providers/Microsoft.Storage/storageAccounts/{options.storage}",
            "keyVault": f"{group}/providers/Microsoft.KeyVault/vaults/kv-{options.workspace}",
            "applicationInsights": f"{group}/providers/Microsoft.Insights/components/ai-{options.workspace}",
            "hbiWorkspace": False,
        },
    }


def _subscription(emulator: Emulator) -> dict[str, Any]:
    options = emulator.options
    return {
        "id": f"/subscriptions/{options.subscription}",
        "subscriptionId": options.subscription,
        "tenantId": options.tenant,
        "displayName": "Emulated subscription",
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
        "authorizationSource": "RoleBased",
    }


@arm("GET", "/subscriptions")
def subscriptions(emulator: Emulator, request: Request) -> Answer:
    """The one subscription; the client asks for the list before anything else."""
    return Answer(200, {"value": [_subscription(emulator)], "count": {"type": "Total", "value": 1}})


@arm("GET", SUBSCRIPTION)
def subscription(emulator: Emulator, request: Request) -> Answer:
    """It alone."""
    return Answer(200, _subscription(emulator))


@arm("GET", "/tenants")
def tenants(emulator: Emulator, request: Request) -> Answer:
    """The one tenant."""
    tenant = emulator.options.tenant
    return Answer(200, {"value": [{"id": f"/tenants/{tenant}", "tenantId": tenant}]})


@arm("GET", GROUP)
def resource_group(emulator: Emulator, request: Request) -> Answer:
    """The workspace's resource group."""
    options = emulator.options
    path = f"/subscriptions/{options.subscription}/resourceGroups/{options.group}"
    properties = {"provisioningState": "Succeeded"}
    return Answer(200, {"id": path, "name": options.group, "location": options.region, "properties": properties})


@arm("GET", SUBSCRIPTION + "/resources")
@arm("GET", GROUP + "/resources")
def resources(emulator: Emulator, request: Request) -> Answer:
    """Resources by type; only the workspace is one."""
    expression = request.query.get("$filter", "")
    wanted = re.search(r"resourceType\s+eq\s+'([^']*)'", expression, re.IGNORECASE)
    if expression and not wanted:
        raise Refused(400, "InvalidFilterInQueryString", f"Invalid $filter '{expression[:200]}'.")
    if wanted and wanted[1].lower() != TYPE.lower():
        return Answer(200, {"value": []})
    found = workspace_document(emulator, request)
    return Answer(200, {"value": [{key: found[key] for key in ("id", "name", "type", "location", "tags", "sku")}]})


@arm("GET", GROUP + PROVIDER + "/workspaces")
@arm("GET", SUBSCRIPTION + PROVIDER + "/workspaces")
def workspaces(emulator: Emulator, request: Request) -> Answer:
    """All workspaces."""
    return Answer(200, {"value": [workspace_document(emulator, request)]})


@arm("GET", "{WS}")
@route("GET", "/rp/workspaces{WS}", audience="aml", shape="arm")
def workspace(emulator: Emulator, request: Request) -> Answer:
    """The workspace."""
    return Answer(200, workspace_document(emulator, request))


@arm("PATCH", "{WS}")
def update_workspace(emulator: Emulator, request: Request) -> Answer:
    """Other tags (in place of all), another description or name to show. What else may be asked for is refused."""
    body = bodies.given(request)
    properties = bodies.pick(body, "properties") or {}
    known = {key.lower() for key in _TOLD}
    if not isinstance(properties, dict) or {str(key).lower() for key in properties} - known:
        raise Refused(400, "ValidationError", f"of the properties the emulator changes {' and '.join(_TOLD)} only")
    found = {key: bodies.pick(properties, key) for key in _TOLD}
    wanted: dict[str, Any] = {key: str(value)[:1000] for key, value in found.items() if value is not None}
    if bodies.pick(body, "tags") is not None:
        wanted["tags"] = labels.checked(bodies.pick(body, "tags"), "tags", strict=emulator.options.strict)
    with emulator.store.transaction():
        before = emulator.store.get("emulator", "workspace") or {}
        emulator.store.put("emulator", "workspace", {**before, **wanted})
    return Answer(200, workspace_document(emulator, request))


@arm("POST", "{WS}/resyncKeys")
def resync_keys(emulator: Emulator, request: Request) -> Answer:
    """Take up keys that changed elsewhere: there are none here."""
    return Answer(200, b"")


@arm("POST", "{WS}/listKeys")
def list_keys(emulator: Emulator, request: Request) -> Answer:
    """The workspace's keys. The registry has no admin user, as is advised; the storage has no account key here."""
    return Answer(
        200,
        {
            "userStorageKey": None,
            "userStorageResourceId": workspace_document(emulator, request)["properties"]["storageAccount"],
            "appInsightsInstrumentationKey": emulator.workspace_id,
            "containerRegistryCredentials": {
                "location": emulator.options.region,
                "username": emulator.options.acr,
                "passwords": [
                    {"name": name, "value": Tokens(emulator).sign({"aud": "registry-admin"})}
                    for name in ("password", "password2")
                ],
            },
        },
    )


@arm("GET", SUBSCRIPTION + PROVIDER + "/locations/{location}/workspaceOperationsStatus/{operation}")
def operation_status(emulator: Emulator, request: Request, location: str, operation: str) -> Answer:
    """How far an attachment or detachment is."""
    return Answer(200, computes.operation(emulator, operation))


@route("GET", "/discovery", audience="anyone")
def discovery(emulator: Emulator, request: Request) -> Answer:
    """Which service lies where; asked without a token."""
    urls = emulator.urls_of(request)
    services = ("api", "history", "experimentation", "modelmanagement", "hyperdrive", "pipelines", "metric")
    return Answer(200, {**dict.fromkeys(services, urls.api), "studio": urls.portal})
