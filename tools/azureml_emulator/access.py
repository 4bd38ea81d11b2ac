"""Whether the asker may: token, audience, role, the workspace of the path, and the host that was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from azureml_emulator.message import Refused, Request
from azureml_emulator.principals import named
from azureml_emulator.routing import Route
from azureml_emulator.tokens import Tokens

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

# Which tokens open which routes. The data plane takes tokens for Resource Manager too: azureml-core has no others.
TAKEN = {"arm": {"arm"}, "aml": {"arm", "aml", "run"}, "acr": {"acr", "arm"}}
# Which of the service's own hosts serves what; hosts that are not Azure's serve everything.
SERVED = (
    ("management.azure.com", {"arm", "anyone"}),
    ("login.microsoftonline.com", {"anyone"}),
    (".api.azureml.ms", {"aml", "anyone"}),
    (".blob.core.windows.net", {"sas"}),
    (".azurecr.io", {"acr", "anyone"}),
)
CONTROL = "/_emulator/"


def authorise(emulator: Emulator, route: Route, segments: dict[str, str], request: Request) -> Request:
    """The request with its principal. Raises Refused: 401, 403, or 404 for another workspace."""
    if request.path.startswith(CONTROL):
        if not request.path.startswith(CONTROL + "github/"):
            _control(emulator, request)
        return request
    name = request.host.rpartition(":")[0] or request.host
    for suffix, audiences in SERVED:
        if name.endswith(suffix) and route.audience not in audiences:
            emulator.log.unknown(f"{request.method} {request.path} at {name}")
            raise Refused(404, "NotFound", f"{name} does not serve this path")
    if route.audience in {"anyone", "sas"}:
        _workspace(emulator, segments)
        return request
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _challenged(
            emulator, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
        )
    try:
        principal, audience = Tokens(emulator).check(token.strip())
    except Refused as refused:
        raise _challenged(emulator, refused.code, refused.message) from None
    if audience not in TAKEN[route.audience]:
        raise _challenged(
            emulator,
            "InvalidAuthenticationTokenAudience",
            "The access token has been obtained for wrong audience or resource.",
        )
    if route.writes and principal.role == "reader":
        found = named(emulator, principal.name)
        raise Refused(
            403,
            "AuthorizationFailed",
            f"The client '{found['clientId']}' with object id '{found['objectId']}' does not have authorization to "
            f"perform action '{request.method}' over scope '{request.path}' or the scope is invalid.",
        )
    _workspace(emulator, segments)
    if route.audience == "arm" and "api-version" not in {key.lower() for key in request.query}:
        raise Refused(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    return replace(request, principal=principal)


def _challenged(emulator: Emulator, code: str, message: str) -> Refused:
    where = f"https://login.microsoftonline.com/{emulator.options.tenant}"
    challenge = f'Bearer authorization_uri="{where}", error="invalid_token", error_description="{message}"'
    return Refused(401, code, message, {"WWW-Authenticate": challenge})


def _control(emulator: Emulator, request: Request) -> None:
    if request.headers.get("x-emulator-key", "") != emulator.control_key:
        raise Refused(401, "Unauthorized", "the control API wants the header X-Emulator-Key")


def _workspace(emulator: Emulator, segments: dict[str, str]) -> None:
    """Whether the path names the one subscription, group and workspace that there are."""
    options = emulator.options
    wanted = segments.get("subscription")
    if wanted is not None and wanted.lower() != options.subscription.lower():
        raise Refused(404, "SubscriptionNotFound", f"The subscription '{wanted}' could not be found.")
    wanted = segments.get("group")
    if wanted is not None and wanted.lower() != options.group.lower():
        raise Refused(404, "ResourceGroupNotFound", f"Resource group '{wanted}' could not be found.")
    wanted = segments.get("workspace")
    if wanted is not None and wanted.lower() != options.workspace.lower():
        raise Refused(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.MachineLearningServices/workspaces/{wanted}' under resource group "
            f"'{options.group}' was not found.",
        )
