"""Sign-in: the table of clouds, OpenID configuration, the token endpoints of AAD and ADFS, managed identities."""

from __future__ import annotations

from functools import partial

from azureml_emulator import assertions, principals
from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Answer, Refused, Request
from azureml_emulator.routing import route
from azureml_emulator.settings import CLOUD
from azureml_emulator.tokens import Tokens, audience_of, jwks, key_in

anyone = partial(route, audience="anyone", shape="oauth", writes=False)
ADFS = "adfs"
HUB_VERSIONS = {"1.0", "2015-01-01", "2015-11-01"}


@anyone("GET", "/metadata/endpoints")
def clouds(emulator: Emulator, request: Request) -> Answer:
    """The clouds there are: this one. Old versions are answered as an Azure Stack Hub does."""
    here = f"https://localhost:{emulator.port}"
    if request.query.get("api-version") in HUB_VERSIONS:
        return Answer(
            200,
            {
                "galleryEndpoint": "https://gallery.emu.test/",
                "graphEndpoint": "https://graph.emu.test/",
                "portalEndpoint": "https://portal.emu.test/",
                "authentication": {
                    "loginEndpoint": f"{here}/",
                    "audiences": ["https://management.emu.test/"],
                },
            },
        )
    return Answer(
        200,
        [
            {
                "name": CLOUD,
                "portal": "https://portal.emu.test",
                "resourceManager": here,
                "authentication": {
                    "loginEndpoint": f"{here}/",
                    "audiences": ["https://management.emu.test/", "https://management.core.windows.net/"],
                    "tenant": "common",
                    "identityProvider": "AAD",
                },
                "graph": "https://graph.emu.test/",
                "graphAudience": "https://graph.emu.test/",
                "gallery": "https://gallery.emu.test/",
                "batch": "https://batch.emu.test/",
                "media": "https://rest.media.emu.test",
                "sqlManagement": "https://management.emu.test:8443/",
                "vmImageAliasDoc": "https://images.emu.test/aliases.json",
                "suffixes": {
                    "storage": "emu.test",
                    "acrLoginServer": "acr.emu.test",
                    "keyVaultDns": "vault.emu.test",
                    "sqlServerHostname": "database.emu.test",
                },
            }
        ],
    )


def _tenant(emulator: Emulator, tenant: str) -> str:
    """The tenant's id. Raises Refused for one that is not there."""
    known = {emulator.options.tenant.lower(), "common", "organizations", ADFS}
    if tenant.lower() not in known:
        raise Refused(
            400,
            "invalid_tenant",
            f"AADSTS90002: Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID.",
        )
    return ADFS if tenant.lower() == ADFS else emulator.options.tenant


@anyone("GET", "/{tenant}/v2.0/.well-known/openid-configuration")
@anyone("GET", "/{tenant}/.well-known/openid-configuration")
def openid(emulator: Emulator, request: Request, tenant: str) -> Answer:
    """Where the tenant's endpoints lie."""
    found = _tenant(emulator, tenant)
    base = f"{emulator.urls_of(request).login}/{found}"
    flavour = "oauth2" if found == ADFS else "oauth2/v2.0"
    return Answer(
        200,
        {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/{flavour}/authorize",
            "token_endpoint": f"{base}/{flavour}/token",
            "jwks_uri": f"{base}/discovery/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code", "token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        },
    )


@anyone("GET", "/{tenant}/discovery/keys")
@anyone("GET", "/{tenant}/discovery/v2.0/keys")
def keys(emulator: Emulator, request: Request, tenant: str) -> Answer:
    """What the tenant signs with."""
    _tenant(emulator, tenant)
    return Answer(200, jwks(key_in(emulator.options.folder / "tokens.key"), "tokens"))


@anyone("GET", "/common/discovery/instance")
def instance(emulator: Emulator, request: Request) -> Answer:
    """Whether a login host is one of the public ones."""
    wanted = request.query.get("authorization_endpoint", "")
    if not wanted.startswith("https://login.microsoftonline.com/"):
        raise Refused(400, "invalid_instance", "AADSTS50049: Unknown or invalid instance.")
    tenant = wanted.removeprefix("https://login.microsoftonline.com/").partition("/")[0]
    where = f"https://login.microsoftonline.com/{tenant}/v2.0/.well-known/openid-configuration"
    hosts = ["login.microsoftonline.com", "login.windows.net"]
    metadata = {"preferred_network": hosts[0], "preferred_cache": hosts[1], "aliases": hosts}
    return Answer(200, {"tenant_discovery_endpoint": where, "api-version": "1.1", "metadata": [metadata]})


@anyone("POST", "/{tenant}/oauth2/v2.0/token")
@anyone("POST", "/{tenant}/oauth2/token")
def token(emulator: Emulator, request: Request, tenant: str) -> Answer:
    """An application's token, for its secret, its certificate, or the token of an issuer that it trusts."""
    found = _tenant(emulator, tenant)
    form = request.form()
    if form.get("grant_type") != "client_credentials":
        raise Refused(400, "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
    resource = form.get("resource") or form.get("scope", "").removesuffix("/.default")
    if form.get("scope") and not form.get("resource") and not form["scope"].endswith("/.default"):
        raise Refused(400, "invalid_scope", "AADSTS1002012: The scope must end with /.default.")
    audience = audience_of(resource)
    if audience in {None, "run"}:
        raise Refused(
            400,
            "invalid_resource",
            f"AADSTS500011: The resource principal named {resource[:200]} was not found in the tenant {found}.",
        )
    application = principals.by_client(emulator, form.get("client_id", ""))
    if application is None:
        raise Refused(
            400,
            "unauthorized_client",
            f"AADSTS700016: Application with identifier '{form.get('client_id', '')[:64]}' was not found.",
        )
    if "client_assertion" in form:
        assertions.check(emulator, application, form)
    elif form.get("client_secret") != application["clientSecret"]:
        raise Refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
    life = int(emulator.options.token_life)
    signed = Tokens(emulator).issue(application["name"], resource, tenant=found)
    body = {"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": signed}
    return Answer(200, body, {"Cache-Control": "no-store"})


@anyone("GET", "/metadata/identity/oauth2/token")
def managed_identity(emulator: Emulator, request: Request) -> Answer:
    """The token of the VM's identity, which is the owner's unless a client id names another."""
    if request.headers.get("metadata", "").lower() != "true":
        raise Refused(400, "invalid_request", "Required metadata header not specified")
    if "x-forwarded-for" in request.headers:
        raise Refused(400, "invalid_request", "a request that was forwarded is not served")
    resource = request.query.get("resource", "")
    if audience_of(resource) in {None, "run"}:
        raise Refused(400, "invalid_resource", f"AADSTS500011: The resource {resource[:200]!r} was not found.")
    client = request.query.get("client_id", "")
    application = principals.by_client(emulator, client) if client else principals.named(emulator, "owner")
    if application is None:
        raise Refused(400, "invalid_request", "Identity not found")
    life = int(emulator.options.token_life)
    now = int(emulator.now())
    return Answer(
        200,
        {
            "access_token": Tokens(emulator).issue(application["name"], resource),
            "client_id": application["clientId"],
            "expires_in": str(life),
            "ext_expires_in": str(life),
            "expires_on": str(now + life),
            "not_before": str(now),
            "resource": resource,
            "token_type": "Bearer",
        },
    )
