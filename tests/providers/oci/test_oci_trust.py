"""Whom the provider trusts and who sees a credential: realms, redirects, certificates, proxies; and doctor."""

from __future__ import annotations

import logging
import re
import secrets
import traceback

import pytest

from edgetrain.core.errors import Denied, ProviderError, Rejected, Transient
from edgetrain.core.ports import Outbound, Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.oci.auth import Credential
from edgetrain.providers.oci.provider import OciRegistry
from edgetrain.providers.table import provider
from testbed.registry import Registry

from .front import Front, Reply, Request
from .reach import no_pause, reach, user
from .samples import model_image

pytestmark = pytest.mark.needs("registry")


@pytest.mark.parametrize("realm", ["http://192.0.2.7/token", "http://registry.invalid/token"])
def test_no_credential_goes_to_a_realm_without_https_elsewhere(guarded: Registry, realm: str) -> None:
    asks = Reply(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="x"'})
    with Front(guarded, lambda _: asks) as front, pytest.raises(Denied) as caught:
        reach(guarded, front.host, plain_http=True).tags("cxr")
    assert caught.value.reason == "InsecureRealm"


def test_no_credential_goes_where_a_blob_is_kept(guarded: Registry, repository: str) -> None:
    """Neither to where a download is redirected, nor to where an upload is sent."""
    made = model_image(1000)
    digest = reach(guarded).push(repository, made)
    layer = made.layers[1]
    with layer.open() as stream:
        data = stream.read()

    def storage(one: Request) -> Reply:
        return Reply(201) if one.method == "PUT" else Reply(200, body=data)

    with Front(guarded, storage) as elsewhere:

        def rule(one: Request) -> Reply | None:
            if "authorization" not in one.headers:
                return None
            if one.method == "GET" and layer.digest in one.path:
                return Reply(307, {"Location": f"http://{elsewhere.host}/signed?sig=x"})
            if one.method == "POST":
                return Reply(202, {"Location": f"http://{elsewhere.host}/put?sig=x"})
            return None

        with Front(guarded, rule) as front:
            registry = reach(guarded, front.host, plain_http=True)
            with registry.base(f"{repository}@{digest}").layers[1].open() as stream:
                assert stream.read() == data
            with pytest.raises(ProviderError):  # The blobs lie there, not here: the manifest is refused.
                registry.push(repository, model_image(1000, seed=5))
        assert {one.method for one in elsewhere.requests} == {"GET", "PUT"}
        for one in elsewhere.requests:
            assert "authorization" not in one.headers
            assert "canary" not in str(one.headers)


def test_a_redirect_does_not_leave_https(registry_basic: Registry) -> None:
    transport = reach(registry_basic)._client.transport
    for location in ("http://storage.example/x", "ftp://storage.example/x", "file:///etc/passwd"):
        with pytest.raises(Rejected) as caught:
            transport.absolute(location, transport.url)
        assert caught.value.reason == "InsecureRedirect"
    # A registry behind a proxy that ends TLS calls itself http: that is itself, over https.
    assert transport.absolute(f"http://{transport.host}/v2/?a=b", transport.url) == f"{transport.url}/v2/?a=b"
    assert transport.absolute("https://storage.example/x", transport.url) == "https://storage.example/x"
    assert not transport.own("https://storage.example/x")


def test_redirects_have_an_end(registry_open: Registry) -> None:
    with Front(registry_open, lambda one: Reply(307, {"Location": one.path})) as front, pytest.raises(Rejected):
        reach(registry_open, front.host).tags("cxr")


def test_no_secret_is_in_any_message_or_log(
    guarded: Registry, repository: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guarded.tokens is not None
    given: list[str] = ["canary-pusher-password"]
    original = guarded.tokens.token

    def token(*arguments: object) -> str:
        given.append(original(*arguments))  # type: ignore[arg-type]
        return given[-1]

    monkeypatch.setattr(guarded.tokens, "token", token)
    said: list[str] = []
    caplog.set_level(logging.DEBUG)
    echo = b'{"errors":[{"code":"DENIED","message":"%s","detail":"%s"}]}'
    with Front(guarded) as front:
        registry = reach(guarded, front.host, plain_http=True)
        said.append(repr(vars(registry)) + repr(vars(registry._client)) + repr(vars(registry._client._auth)))
        registry.push(repository, model_image(1000))
        for status in (400, 401, 403, 404, 500):
            front.rule = lambda one, status=status: Reply(
                status, body=echo % ((one.headers.get("authorization", "").encode(),) * 2)
            )
            with pytest.raises(ProviderError) as caught:
                registry.push(repository, model_image(1000, seed=6))
            said.append(f"{caught.value!r} {caught.value} {caught.value.fix}")
            said += traceback.format_exception(caught.value)
            said += [f"{one.message} {one.fix}" for one in registry.diagnose([repository])]
        said.append(repr(registry._client._auth._tokens))
    everything = "\n".join([*said, caplog.text])
    assert len(given) > 1
    for secret in given:
        assert secret not in everything


def test_it_is_made_from_the_manifest(registry_token: Registry, tmp_path: object) -> None:
    block = {
        "type": "oci",
        "host": registry_token.name,
        "caBundle": registry_token.ca_bundle,
        "repositoryPrefix": "site/" + secrets.token_hex(8),
        "credential": {"username": registry_token.username, "password": {"secret": "registry-password"}},
    }
    given = {"registry-password": Secret(registry_token.password)}
    settings = Settings("acr", block, tmp_path, secret=lambda name: given[name])  # type: ignore[arg-type]
    registry = provider("registry", "oci", settings)
    digest = registry.push("cxr", model_image(1000))
    where = registry.where("cxr")
    assert where == f"{registry_token.name}/{block['repositoryPrefix']}/cxr"
    assert registry.base(f"cxr@{digest}").digest == digest
    assert registry.base(f"{where}@{digest}").digest == digest
    with pytest.raises(ProviderError) as caught:
        provider("registry", "oci", Settings("acr", {**block, "credential": {"workspace": True}}, tmp_path))  # type: ignore[arg-type]
    assert caught.value.reason == "NoWorkspaceSignIn"


@pytest.mark.parametrize("host", ["registry.example", "10.0.0.1:5000", "192.0.2.1"])
def test_plain_http_is_for_this_machine(host: str) -> None:
    with pytest.raises(Rejected) as caught:
        OciRegistry(host, plain_http=True)
    assert caught.value.reason == "PlainHttp"


def test_the_registry_is_found_through_a_proxy_or_past_it(registry_open: Registry) -> None:
    """To a host in noProxy directly; to others through the proxy, which here is told what to ask for."""
    with Front(registry_open, lambda one: Reply(418)) as front:
        proxy = f"http://{front.host}"
        through = OciRegistry(registry_open.name, plain_http=True, outbound=Outbound(proxy=proxy), sleep=no_pause)
        with pytest.raises(ProviderError):
            through.tags("cxr")
        assert front.requests[0].path == f"http://{registry_open.name}/v2/cxr/tags/list?n=1000"
        count = len(front.requests)
        for entry in ("127.0.0.1", "127.0.0.0/8", "*", registry_open.name.partition(":")[0]):
            past = Outbound(proxy=proxy, no_proxy=("example", entry))
            direct = OciRegistry(registry_open.name, plain_http=True, outbound=past, sleep=no_pause)
            assert direct.tags("cxr/absent") == {}
        assert len(front.requests) == count


def test_doctor_names_what_is_wrong(
    registry_open: Registry, registry_basic: Registry, tmp_path: object, repository: str
) -> None:
    def reason(registry: OciRegistry) -> str:
        return " ".join(one.reason or one.status.value for one in registry.diagnose([repository]))

    assert reason(reach(registry_open)) == "pass pass"
    assert reason(reach(registry_basic)) == "pass pass"
    assert reach(registry_open).tags(repository) == {}
    assert reason(reach(registry_basic, ca_bundle="")) == "TlsUntrusted"
    elsewhere = registry_basic.name.replace("127.0.0.1", "127.0.0.2")
    assert reason(reach(registry_basic, elsewhere)) == "TlsHostname"
    assert reason(reach(registry_basic, registry_open.name)) == "NoTls"
    assert reason(reach(registry_open, registry_basic.name)) == "RegistryRefused"
    assert reason(reach(registry_open, "127.0.0.1:1")) == "ConnectionRefused"
    assert reason(OciRegistry("registry.invalid", sleep=no_pause)) == "NameUnknown"
    assert reason(reach(registry_basic, credential=None)) == "LoginRequired"
    wrong = Credential(registry_basic.username, lambda: Secret("wrong"))
    assert reason(reach(registry_basic, credential=wrong)) == "LoginRefused"
    with Front(registry_open, lambda _: Reply(404)) as front:
        assert reason(reach(registry_open, front.host)) == "NotARegistry"
        front.rule = lambda one: Reply(503) if one.path == "/v2/" else None
        assert reason(reach(registry_open, front.host)) == "RegistryBusy"
        front.rule = lambda one: Reply(405) if one.method == "DELETE" else None
        checks = reach(registry_open, front.host).diagnose([repository])
        assert [(one.status.value, one.reason) for one in checks] == [("pass", ""), ("warn", "UploadLeft")]
    with pytest.raises(ProviderError) as caught:
        reach(registry_basic, ca_bundle=f"{tmp_path}/absent.pem")
    assert caught.value.reason == "CaBundleMissing"


def test_what_is_transient_is_only_the_network(registry_basic: Registry) -> None:
    with pytest.raises(Transient):
        reach(registry_basic, "127.0.0.1:1").tags("cxr")
    with pytest.raises(Rejected) as caught:
        reach(registry_basic, ca_bundle="").tags("cxr")
    assert re.search("caBundle", caught.value.fix)
    assert user(registry_basic) is not None
