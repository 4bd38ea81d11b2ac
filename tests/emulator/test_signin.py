"""Signing in to the emulator: what is accepted, what is refused, and how the service words it."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from azureml_emulator import assertions, principals
from azureml_emulator.server import RunningEmulator
from azureml_emulator.tokens import AUDIENCES, Tokens
from tests.emulator import support

pytestmark = pytest.mark.long(0.3)

ARM = "https://management.azure.com/.default"
BEARER = assertions.BEARER


def sign_in(emulator: RunningEmulator, tenant: str = "", path: str = "oauth2/v2.0/token", **form: str) -> Any:
    """Ask for a token: status and JSON."""
    given = {"grant_type": "client_credentials", "scope": ARM, "client_id": emulator.principal()["clientId"]}
    data = urllib.parse.urlencode({**given, **form}).encode()
    where = f"/{tenant or emulator.emulator.options.tenant}/{path}"
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    status, said, _ = support.ask(emulator, "POST", where, data, headers=kind)
    return status, said


def subscriptions(emulator: RunningEmulator, token: str) -> Any:
    return support.ask(emulator, "GET", "/subscriptions?api-version=2022-12-01", None, token)


def test_secret_opens_resource_manager(emulator: RunningEmulator) -> None:
    status, said = sign_in(emulator, client_secret=emulator.principal()["clientSecret"])
    assert (status, said["token_type"]) == (200, "Bearer")
    claims = jwt.decode(said["access_token"], options={"verify_signature": False})
    assert claims["tid"] == emulator.emulator.options.tenant
    assert claims["exp"] - claims["iat"] == 3600
    assert subscriptions(emulator, said["access_token"])[0] == 200


@pytest.mark.parametrize(
    ("tenant", "form", "status", "code"),
    [
        ("", {"client_secret": "wrong"}, 401, "AADSTS7000215"),
        ("", {"client_id": "nobody", "client_secret": "x"}, 400, "AADSTS700016"),
        ("nowhere", {"client_secret": "x"}, 400, "AADSTS90002"),
        ("", {"grant_type": "password"}, 400, "AADSTS70003"),
        ("", {"scope": "https://management.azure.com/"}, 400, "AADSTS1002012"),
        ("", {"scope": "https://elsewhere.example/.default"}, 400, "AADSTS500011"),
        ("", {"scope": AUDIENCES["run"][0] + "/.default"}, 400, "AADSTS500011"),
        ("", {"client_assertion": "x", "client_assertion_type": BEARER}, 401, "AADSTS50027"),
        ("", {"client_assertion": "x"}, 400, "AADSTS900144"),
    ],
)
def test_refusals(emulator: RunningEmulator, tenant: str, form: dict[str, str], status: int, code: str) -> None:
    got, said = sign_in(emulator, tenant, **form)
    assert got == status
    assert said["error_description"].startswith(code)


@pytest.mark.parametrize("audience", ["graph", "storage", "acr", "aml"])
def test_token_for_another_resource_does_not_open_resource_manager(
    emulator: RunningEmulator, audience: str
) -> None:
    form = {"scope": AUDIENCES[audience][0] + "/.default", "client_secret": emulator.principal()["clientSecret"]}
    status, said = sign_in(emulator, **form)
    assert status == 200
    status, refused, headers = subscriptions(emulator, said["access_token"])
    assert (status, refused["error"]["code"]) == (401, "InvalidAuthenticationTokenAudience")
    assert headers["www-authenticate"].startswith("Bearer authorization_uri=")


def test_tokens_expire(emulator: RunningEmulator) -> None:
    tokens = Tokens(emulator.emulator)
    assert subscriptions(emulator, tokens.issue("owner", "arm", life=60))[0] == 200
    status, said, _ = subscriptions(emulator, tokens.issue("owner", "arm", life=-1))
    assert (status, said["error"]["code"]) == (401, "ExpiredAuthenticationToken")


def test_tokens_of_others_are_refused(
    emulator: RunningEmulator, make_emulator: Callable[..., RunningEmulator]
) -> None:
    other = make_emulator()
    for token in (Tokens(other.emulator).issue("owner", "arm"), "nonsense", ""):
        assert subscriptions(emulator, token)[0] == 401
    unsigned = jwt.encode({"aud": AUDIENCES["arm"][0], "exp": 4102444800}, "", algorithm="none")
    assert subscriptions(emulator, unsigned)[0] == 401


def test_run_token_opens_the_data_plane_only(emulator: RunningEmulator) -> None:
    token, expires = Tokens(emulator.emulator).run("run-1", "experiment-1")
    assert datetime.fromisoformat(expires) > datetime.now(UTC)
    principal, audience = Tokens(emulator.emulator).check(token)
    assert (principal.role, principal.run, audience) == ("run", "run-1", "run")
    assert subscriptions(emulator, token)[0] == 401
    computes = f"/rp/workspaces{emulator.emulator.workspace_path}/computes"
    assert support.ask(emulator, "GET", computes, None, token)[0] == 200


def test_job_token_is_exchanged(emulator: RunningEmulator) -> None:
    assertion = github(emulator, "api://AzureADTokenExchange")[1]["value"]
    status, said = sign_in(emulator, client_assertion=assertion, client_assertion_type=BEARER)
    assert status == 200
    assert subscriptions(emulator, said["access_token"])[0] == 200


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"audience": "https://github.com/edge"}, "AADSTS700212"),
        ({"subject": "repo:edge/site:ref:refs/heads/main"}, "AADSTS700213"),
        ({"life": "-3600"}, "AADSTS700024"),
    ],
)
def test_job_token_of_another_job_is_refused(emulator: RunningEmulator, changes: dict[str, str], code: str) -> None:
    asked = {"audience": "api://AzureADTokenExchange", **changes}
    assertion = github(emulator, **asked)[1]["value"]
    status, said = sign_in(emulator, client_assertion=assertion, client_assertion_type=BEARER)
    assert status == 401
    assert said["error_description"].startswith(code)


def test_job_token_is_for_the_job_alone(emulator: RunningEmulator) -> None:
    assert github(emulator, "x", key="guess")[0] == 401


def github(emulator: RunningEmulator, audience: str, key: str = "", **more: str) -> Any:
    query = urllib.parse.urlencode({"api-version": "2.0", "audience": audience, **more})
    status, said, _ = support.ask(
        emulator, "GET", f"/_emulator/github/token?{query}", None, key or emulator.emulator.control_key
    )
    return status, said


def test_certificate_signs_in(emulator: RunningEmulator, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "runner")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    principals.trust_certificate(emulator.emulator, "owner", pem)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    thumbprint = hashlib.sha1(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    from msal import ConfidentialClientApplication

    credential = {"private_key": private, "thumbprint": thumbprint, "public_certificate": pem}
    app = ConfidentialClientApplication(
        emulator.principal()["clientId"],
        client_credential=credential,
        authority=f"https://login.microsoftonline.com/{emulator.emulator.options.tenant}",
    )
    said = app.acquire_token_for_client([ARM])
    assert subscriptions(emulator, said["access_token"])[0] == 200
    stranger = ConfidentialClientApplication(
        emulator.principal("reader")["clientId"],
        client_credential=credential,
        authority=f"https://login.microsoftonline.com/{emulator.emulator.options.tenant}",
    )
    assert "AADSTS700027" in stranger.acquire_token_for_client([ARM])["error_description"]


def test_managed_identity(emulator: RunningEmulator) -> None:
    query = "api-version=2018-02-01&resource=" + urllib.parse.quote("https://management.azure.com/")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": emulator.proxy_url}))
    for address in ("http://169.254.169.254", emulator.proxy_url):
        request = urllib.request.Request(
            f"{address}/metadata/identity/oauth2/token?{query}", headers={"Metadata": "true"}
        )
        with opener.open(request, timeout=support.PATIENCE) as answer:
            said = json.loads(answer.read())
        assert said["client_id"] == emulator.principal()["clientId"]
        assert int(said["expires_on"]) > datetime.now(UTC).timestamp()
        assert subscriptions(emulator, said["access_token"])[0] == 200
    bare = support.ask(emulator, "GET", f"/metadata/identity/oauth2/token?{query}")
    assert bare[0] == 400


def test_adfs_signs_in_with_its_own_tenant(emulator: RunningEmulator) -> None:
    status, said = sign_in(emulator, "adfs", "oauth2/token", client_secret=emulator.principal()["clientSecret"])
    assert status == 200
    assert jwt.decode(said["access_token"], options={"verify_signature": False})["tid"] == "adfs"
    _, found, _ = support.ask(emulator, "GET", "/adfs/.well-known/openid-configuration")
    assert found["token_endpoint"] == f"{emulator.url}/adfs/oauth2/token"


def test_cloud_describes_itself_in_both_forms(emulator: RunningEmulator) -> None:
    new = support.ask(emulator, "GET", "/metadata/endpoints?api-version=2019-05-01")[1]
    old = support.ask(emulator, "GET", "/metadata/endpoints?api-version=2015-01-01")[1]
    assert [cloud["name"] for cloud in new] == ["EmulatedAzure"]
    assert new[0]["authentication"]["loginEndpoint"] == old["authentication"]["loginEndpoint"]
    assert old["portalEndpoint"].rstrip("/") == new[0]["portal"]


def test_keys_of_the_tenant_verify_its_tokens(emulator: RunningEmulator) -> None:
    tenant = emulator.emulator.options.tenant
    _, found, _ = support.ask(emulator, "GET", f"/{tenant}/discovery/v2.0/keys")
    key = jwt.PyJWK.from_dict(found["keys"][0])
    token = Tokens(emulator.emulator).issue("reader", "arm")
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="https://management.azure.com/")
    assert claims["appid"] == emulator.principal("reader")["clientId"]


@pytest.mark.parametrize(("topology", "tenant"), [("A", None), ("B", None), ("B", "adfs")])
def test_client_opens_the_workspace(
    emulator: RunningEmulator, tmp_path: Path, topology: str, tenant: str | None
) -> None:
    code = 'ws = connect(given["as"]); answer = [ws.name, ws.location]'
    told = support.outside(emulator, topology, code, tmp_path / "home", **{"as": tenant})
    assert told == ["ws-edge", "local"]


def test_client_lists_and_describes_the_workspace_here(emulator: RunningEmulator) -> None:
    from azureml.core import Workspace

    options = emulator.emulator.options
    auth = support.authentication(emulator)
    assert list(Workspace.list(options.subscription, auth=auth)) == ["ws-edge"]
    assert list(Workspace.list(options.subscription, auth=auth, resource_group=options.group)) == ["ws-edge"]
    details = support.connect(emulator).get_details()
    assert details["workspaceid"] == emulator.emulator.workspace_id
    assert details["containerRegistry"].endswith("/registries/emuacr")


def test_wrong_secret_stops_the_client(emulator: RunningEmulator) -> None:
    from azureml._vendor.azure_cli_core.azclierror import AuthenticationError
    from azureml.core import Workspace
    from azureml.core.authentication import ServicePrincipalAuthentication

    options = emulator.emulator.options
    auth = ServicePrincipalAuthentication(options.tenant, emulator.principal()["clientId"], "wrong")
    with pytest.raises(AuthenticationError, match="AADSTS7000215"):
        Workspace(options.subscription, options.group, options.workspace, auth=auth)


def test_client_is_told_of_a_workspace_that_is_not_there(emulator: RunningEmulator) -> None:
    from azureml.core import Workspace
    from azureml.exceptions import ProjectSystemException, UserErrorException

    options = emulator.emulator.options
    auth = support.authentication(emulator)
    with pytest.raises(ProjectSystemException, match="not found"):
        Workspace(options.subscription, options.group, "other", auth=auth)
    with pytest.raises(UserErrorException, match="subscription"):
        Workspace("00000000-0000-4000-8000-00000000ffff", options.group, options.workspace, auth=auth)


def test_azure_cli_profile_signs_in(emulator: RunningEmulator, tmp_path: Path) -> None:
    code = """
from azure.cli.core import get_default_cli
from azure.cli.core._profile import Profile
from azure.cli.core.cloud import switch_active_cloud
cli = get_default_cli()
cli.config.set_value("core", "instance_discovery", "false")
switch_active_cloud(cli, "EmulatedAzure")
secret = {"client_secret": given["clientSecret"]}
Profile(cli_ctx=cli).login(False, given["clientId"], secret, True, given["tenant"])
from azureml.core import Workspace
from azureml.core.authentication import AzureCliAuthentication
auth = AzureCliAuthentication(cloud="EmulatedAzure")
answer = Workspace(given["subscription"], given["group"], given["workspace"], auth=auth).name
"""
    assert support.outside(emulator, "B", code, tmp_path / "home") == "ws-edge"
