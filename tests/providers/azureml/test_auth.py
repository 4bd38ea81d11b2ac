"""Signing in by secret, certificate, GitHub's token and machine identity; renewal, and refusals without secrets."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from azureml_emulator import principals
from azureml_emulator.faults import ALWAYS
from azureml_emulator.server import RunningEmulator
from edgetrain.core.errors import Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.core.ports import CheckStatus, Outbound
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.auth import Source, Token, Tokens
from edgetrain.providers.azureml.auth.tokens import LEAST, MARGIN
from edgetrain.providers.azureml.edge import diagnose
from edgetrain.providers.azureml.errors import Busy
from edgetrain.providers.azureml.session import Session
from tests.providers.azureml.support import CLOUD, asked, by_secret, session, settings, sign_ins

pytestmark = pytest.mark.long(0.3)

FORMS = ("secret", "certificate", "oidc", "managed-identity")


@pytest.fixture(scope="session")
def certificate() -> str:
    """A self-signed certificate with its key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgetrain")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (secret + made.public_bytes(serialization.Encoding.PEM)).decode()


@pytest.fixture
def signed(
    workspace_emulator: RunningEmulator, tmp_path: Path, certificate: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Session]:
    """Makes a session that signs in by one of FORMS."""
    emulator = workspace_emulator
    owner = emulator.principal("owner")
    who = {"tenant": emulator.emulator.options.tenant, "clientId": owner["clientId"]}

    def make(form: str, topology: str = "A", **more: Any) -> Session:
        if form == "secret":
            return session(emulator, tmp_path, topology, **more)
        if form == "certificate":
            public = certificate[certificate.index("-----BEGIN CERTIFICATE") :]
            principals.trust_certificate(emulator.emulator, "owner", public)
            auth = {"type": "service-principal", **who, "certificate": {"secret": "certificate"}}
            return session(emulator, tmp_path, topology, auth=auth, secrets={"certificate": certificate}, **more)
        if form == "oidc":
            # GitHub's own address: reached as the workspace's are, so here by a name of the emulator.
            monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", emulator.emulator.control_key)
            monkeypatch.setenv(
                "ACTIONS_ID_TOKEN_REQUEST_URL", f"{host(emulator, topology)}/_emulator/github/token?v=1"
            )
            return session(emulator, tmp_path, topology, auth={"type": "oidc", **who}, **more)
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.url)
        return session(
            emulator, tmp_path, topology, auth={"type": "managed-identity", **more.pop("auth", {})}, **more
        )

    return make


def host(emulator: RunningEmulator, topology: str) -> str:
    """An address of the emulator in a topology."""
    return "https://management.azure.com" if topology == "A" else emulator.url


def claims(token: Secret) -> dict[str, Any]:
    """What a token says."""
    found: dict[str, Any] = jwt.decode(token.reveal(), options={"verify_signature": False})
    return found


@pytest.mark.parametrize("form", FORMS)
def test_each_way_to_sign_in_opens_the_workspace(
    workspace_emulator: RunningEmulator, signed: Callable[..., Session], form: str, topology: str
) -> None:
    one = signed(form, topology)
    assert one.workspace.name == workspace_emulator.emulator.options.workspace
    told = claims(one.tokens.get(one.cloud.audience))
    assert told["appid"] == workspace_emulator.principal("owner")["clientId"]
    assert told["aud"] == one.cloud.audience


def test_a_user_assigned_identity_is_named(
    workspace_emulator: RunningEmulator, signed: Callable[..., Session]
) -> None:
    reader = workspace_emulator.principal("reader")["clientId"]
    one = signed("managed-identity", auth={"clientId": reader})
    assert claims(one.tokens.get(one.cloud.audience))["appid"] == reader


def test_each_exchange_gets_an_assertion_of_its_own(
    workspace_emulator: RunningEmulator, signed: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs last longer than an assertion: one that is over is never sent again."""
    one = signed("oidc", "B")
    url = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"]
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{url}&life=-60")
    with pytest.raises(Denied) as caught:
        one.tokens.get(one.cloud.audience)
    assert "AADSTS700024" in caught.value.message
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", url)
    first = one.tokens.get(one.cloud.audience)
    one.tokens.drop()
    assert one.tokens.get(one.cloud.audience).reveal() != first.reveal()
    assert sign_ins(workspace_emulator) == 3


def test_a_job_without_the_permission_is_told(
    workspace_emulator: RunningEmulator, signed: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = signed("oidc")
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    with pytest.raises(NotFound) as caught:
        one.tokens.get(one.cloud.audience)
    assert caught.value.reason == "NoJobIdentity"
    assert "id-token: write" in caught.value.fix
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong-request-token")
    with pytest.raises(Denied) as refused:
        one.tokens.get(one.cloud.audience)
    assert "wrong-request-token" not in refused.value.message
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://github.test/token")
    with pytest.raises(Rejected, match="not https"):
        one.tokens.get(one.cloud.audience)


def test_adfs_by_secret_and_by_certificate(
    workspace_emulator: RunningEmulator, signed: Callable[..., Session]
) -> None:
    for form in ("secret", "certificate"):
        one = signed(
            form,
            "B",
            activeDirectory=f"{workspace_emulator.url}/adfs",
            activeDirectoryResourceId="https://management.emu.test/",
            validateAuthority=False,
        )
        assert one.cloud.adfs
        assert claims(one.tokens.get(one.cloud.audience))["tid"] == "adfs"
        assert one.workspace.name == workspace_emulator.emulator.options.workspace
    assert asked(workspace_emulator, "POST /adfs/oauth2/")
    assert not asked(workspace_emulator, "/discovery/instance")


def test_the_edge_is_another_cloud(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    """One sign-in, two clouds: the workspace's by its public names, the edge's ADFS by its own."""
    given = settings(workspace_emulator, tmp_path, "A")
    edge = {
        "resourceManager": workspace_emulator.url,
        "activeDirectory": f"{workspace_emulator.url}/adfs",
        "activeDirectoryResourceId": "https://management.emu.test/",
        "profile": "2020-09-01-hybrid",
    }
    outbound = Outbound(given.outbound.proxy, ("localhost",), given.outbound.ca_bundle)
    one = Session(type(given)(**{**vars(given), "clouds": {"hub": edge}, "outbound": outbound}))
    token = claims(one.edge_token("hub"))
    assert (token["tid"], token["aud"]) == ("adfs", "https://management.emu.test/")
    assert claims(one.edge_token("hub", "https://storage.azure.com/"))["aud"] == "https://storage.azure.com/"
    home = claims(one.tokens.get(one.cloud.audience))
    assert home["tid"] == workspace_emulator.emulator.options.tenant
    assert [(check.name, check.status) for check in diagnose(one, "hub")] == [
        ("cloud-sign-in", CheckStatus.PASS),
        ("cloud", CheckStatus.PASS),
    ]
    assert [(check.status, check.reason) for check in diagnose(one, "nowhere")] == [
        (CheckStatus.WARN, "CloudUnknown")
    ]
    from azure.cli.core._config import GLOBAL_CONFIG_DIR

    assert f"endpoint_resource_manager = {workspace_emulator.url}" in (
        Path(GLOBAL_CONFIG_DIR) / "clouds.config"
    ).read_text("utf-8")


def test_a_wrong_secret_is_refused_and_not_told(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    one = session(workspace_emulator, tmp_path, secrets={"sp": "not-the-secret-at-all"})
    with pytest.raises(Denied) as caught:
        one.get("arm", "{WS}", {"api-version": "2022-05-01"})
    assert caught.value.reason == "SignInRefused"
    assert "AADSTS7000215" in caught.value.message
    assert "not-the-secret-at-all" not in caught.value.message
    assert sign_ins(workspace_emulator) == 1


def test_an_unknown_tenant_names_the_manifest(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    auth = {**by_secret(workspace_emulator), "tenant": "11111111-2222-4333-8444-555555555555"}
    one = session(workspace_emulator, tmp_path, auth=auth)
    with pytest.raises(ProviderError) as caught:
        one.tokens.get(one.cloud.audience)
    assert not isinstance(caught.value, Transient)
    assert "auth.tenant" in caught.value.fix


@pytest.mark.parametrize("text", ["nothing", "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----"])
def test_a_malformed_certificate_is_not_told(
    workspace_emulator: RunningEmulator, tmp_path: Path, text: str
) -> None:
    auth = {**by_secret(workspace_emulator), "certificate": {"secret": "certificate"}}
    one = session(workspace_emulator, tmp_path, auth=auth, secrets={"certificate": text})
    with pytest.raises(Rejected) as caught:
        one.tokens.get(one.cloud.audience)
    assert caught.value.reason == "CertificateMalformed"
    assert text not in caught.value.message


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_authority_is_waited_for(workspace_emulator: RunningEmulator, tmp_path: Path, status: int) -> None:
    waits: list[float] = []
    one = session(workspace_emulator, tmp_path, sleep=waits.append)
    workspace_emulator.fault("POST /.*/token", status, count=2, headers={"Retry-After": "9"})
    assert one.document["name"]
    assert waits == [9.0, 9.0]
    workspace_emulator.fault("POST /.*/token", status, count=ALWAYS, headers={"Retry-After": "9"})
    one.tokens.drop()
    with pytest.raises(Busy) as caught:
        one.tokens.get(one.cloud.audience)
    assert caught.value.after == 9.0


@pytest.mark.parametrize("match", ["POST /.*/token", "GET /.*/openid-configuration"])
def test_an_authority_that_breaks_off_is_transient(
    workspace_emulator: RunningEmulator, tmp_path: Path, match: str
) -> None:
    one = session(workspace_emulator, tmp_path)
    workspace_emulator.fault(match, reset=True)
    with pytest.raises(Transient):
        one.tokens.get(one.cloud.audience)
    assert one.tokens.get(one.cloud.audience).reveal()


def test_an_untrusted_authority_gets_no_secret(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    given = settings(workspace_emulator, tmp_path, "B")
    one = Session(type(given)(**{**vars(given), "outbound": Outbound()}), sleep=lambda seconds: None)
    with pytest.raises(Rejected) as caught:
        one.get("arm", "{WS}")
    assert caught.value.reason == "CertificateUntrusted"
    assert workspace_emulator.requests == []


def test_other_bundles_of_a_cloud_are_trusted(workspace_emulator: RunningEmulator, tmp_path: Path) -> None:
    given = settings(workspace_emulator, tmp_path, "B")
    clouds = {CLOUD: {**given.clouds[CLOUD], "caBundle": given.outbound.ca_bundle}}
    one = Session(type(given)(**{**vars(given), "outbound": Outbound(), "clouds": clouds}))
    assert one.document["name"]
    bundle = Path(os.environ["REQUESTS_CA_BUNDLE"])
    assert bundle.parent == tmp_path / "azureml"
    assert bundle.read_text().count("BEGIN CERTIFICATE") > 50  # beside those that anybody trusts


class Clock:
    """A source of tokens and a clock, both by hand."""

    def __init__(self, life: float = 3600.0) -> None:
        self.time, self.life, self.count = 1000.0, life, 0
        self.failure: ProviderError | None = None

    def __call__(self, audience: str) -> Token:
        if self.failure:
            raise self.failure
        self.count += 1
        return Token(Secret(f"{audience}#{self.count}"), self.life)

    def tokens(self) -> Tokens:
        source: Source = self
        return Tokens(source, lambda: self.time)


def test_a_token_is_renewed_before_its_end() -> None:
    clock = Clock()
    tokens = clock.tokens()
    assert [tokens("a"), tokens("a"), tokens("b")] == ["a#1", "a#1", "b#2"]
    clock.time += 3600 - MARGIN - 1
    assert tokens("a") == "a#1"
    clock.time += 2
    assert tokens("a") == "a#3"


def test_a_short_token_is_renewed_at_half_its_life() -> None:
    clock = Clock(life=60)
    tokens = clock.tokens()
    tokens("a")
    clock.time += 29
    assert tokens("a") == "a#1"
    clock.time += 2
    assert tokens("a") == "a#2"


def test_a_token_serves_on_while_its_renewal_fails() -> None:
    clock = Clock()
    tokens = clock.tokens()
    tokens("a")
    clock.failure = Transient("away")
    clock.time += 3600 - MARGIN + 1
    assert tokens("a") == "a#1"
    clock.time += MARGIN - LEAST
    with pytest.raises(Transient):
        tokens("a")
    clock.failure = Denied("no")
    with pytest.raises(Denied):
        tokens("a")


def test_many_threads_get_one_token() -> None:
    clock = Clock()
    tokens = clock.tokens()
    gate = threading.Barrier(16)

    def act(number: int) -> str:
        gate.wait()
        return tokens("a")

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(act, range(16))) == {"a#1"}
    assert clock.count == 1
    tokens.drop()
    assert tokens("a") == "a#2"
    assert [secret.reveal() for secret in tokens.secrets()] == ["a#2"]
