"""Signing in, with the real registry and token server: scopes, refresh, ACR's exchange, who sees a credential."""

from __future__ import annotations

import logging
import re
import secrets
import traceback
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import pytest
import urllib3

from edgetrain.core.errors import Denied, ProviderError, Rejected, Transient
from edgetrain.core.ports import Outbound, Settings
from edgetrain.core.secret import Secret
from edgetrain.providers.oci.auth import LIFETIME, Credential, challenges
from edgetrain.providers.oci.provider import OciRegistry
from edgetrain.providers.table import provider
from testbed.registry import Registry
from testbed.tokens import Account

from .front import Front, Reply, Request
from .reach import no_pause, reach, user
from .samples import MB, model_image

pytestmark = pytest.mark.needs("registry")

READER = Account("reader-password", {"*": ("pull",)})


@pytest.fixture
def repository() -> str:
    return f"auth/{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Registry]:
    """A registry of this module's own: readers may pull, anybody may pull `public/*`."""
    accounts = {"pusher": Account("canary-pusher-password"), "reader": READER}
    with Registry("token", accounts=accounts, anonymous={"public/*": ("pull",)}) as part:
        part.password = "canary-pusher-password"
        yield part


@pytest.fixture
def asked(guarded: Registry) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """What the token server was asked in this test."""
    assert guarded.tokens is not None
    guarded.tokens.requests.clear()
    return guarded.tokens.requests


def test_the_scope_grows_from_reading_to_writing(guarded: Registry, repository: str, asked: list) -> None:
    registry = reach(guarded)
    assert registry.tags(repository) == {}
    assert [scopes for *_, scopes in asked] == [(f"repository:{repository}:pull",)]
    digest = registry.push(repository, model_image(1000))
    registry.tag(repository, "1", digest)
    assert registry.tags(repository) == {"1": digest}
    assert [scopes for *_, scopes in asked] == [
        (f"repository:{repository}:pull",),
        (f"repository:{repository}:pull,push",),
    ]


def test_a_base_of_the_same_registry_is_mounted(guarded: Registry, repository: str, asked: list) -> None:
    base = reach(guarded).push("bases/onnx", model_image(MB, seed=7))
    with Front(guarded) as front:
        registry = reach(guarded, front.host, plain_http=True)
        made = model_image(1000, seed=8, base=registry.base(f"bases/onnx@{base}"))
        assert registry.has(repository, registry.push(repository, made))
        assert front.received < 200_000
        assert len(front.of("POST", "mount=")) == 2
        assert all(one.status == 201 for one in front.of("POST", "mount=") if one.headers.get("authorization"))
    both = {"repository:bases/onnx:pull", f"repository:{repository}:pull,push"}
    assert both in [set(scopes) for *_, scopes in asked]


def test_a_base_of_another_registry_is_copied_once(
    guarded: Registry, registry_open: Registry, repository: str
) -> None:
    elsewhere = reach(registry_open)
    digest = elsewhere.push("bases/onnx", model_image(MB, seed=9))
    with Front(guarded) as front:
        registry = reach(guarded, front.host, plain_http=True)
        for seed in (10, 11):
            made = model_image(1000, seed=seed, base=elsewhere.base(f"bases/onnx@{digest}"))
            assert registry.has(repository, registry.push(repository, made))
        assert MB < front.received < 1.5 * MB
        assert front.of("POST", "mount=") == []


def test_who_may_not_read_the_base_there_gets_it_copied(guarded: Registry, repository: str) -> None:
    base = reach(guarded).push("bases/onnx", model_image(MB, seed=12))
    refused = Reply(403, body=b'{"errors":[{"code":"DENIED"}]}')
    with Front(guarded, lambda one: refused if "mount=" in one.path else None) as front:
        other = reach(guarded, front.host, plain_http=True)
        made = model_image(1000, seed=13, base=other.base(f"bases/onnx@{base}"))
        assert other.has(repository, other.push(repository, made))
        assert front.received > MB


def test_anybody_reads_what_is_public_and_no_more(guarded: Registry) -> None:
    digest = reach(guarded).push("public/onnx", model_image(1000))
    anybody = reach(guarded, credential=None)
    assert anybody.has("public/onnx", digest)
    with pytest.raises(Denied) as caught:
        anybody.push("public/onnx", model_image(1000, seed=2))
    assert caught.value.reason == "NoRight"
    with pytest.raises(Denied):
        anybody.tags("auth/other")


def test_who_may_only_read_is_told_so(guarded: Registry, repository: str) -> None:
    reach(guarded).push(repository, model_image(1000))
    reader = reach(guarded, credential=Credential("reader", lambda: Secret("reader-password")))
    assert reader.tags(repository) == {}
    with pytest.raises(Denied) as caught:
        reader.push(repository, model_image(1000, seed=3))
    assert caught.value.reason == "NoRight"
    checks = reader.diagnose([repository])
    assert [(one.name, one.status.value, one.reason) for one in checks] == [
        ("registry", "pass", ""),
        ("registry-push", "fail", "NoRight"),
    ]


@pytest.mark.parametrize("kind", ["basic", "token"])
@pytest.mark.parametrize("right", ["no", "wrong"])
def test_no_or_a_wrong_credential_is_told(request: pytest.FixtureRequest, kind: str, right: str) -> None:
    part: Registry = request.getfixturevalue(f"registry_{kind}")
    credential = None if right == "no" else Credential(part.username, lambda: Secret("wrong-canary"))
    registry = reach(part, credential=credential)
    with pytest.raises(Denied) as caught:
        registry.push("auth/never", model_image(1000))
    expected = {"basicno": "LoginRequired", "tokenno": "NoRight"}
    assert caught.value.reason == expected.get(kind + right, "LoginRefused")
    assert "canary" not in f"{caught.value} {caught.value.fix}"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_a_token_is_renewed_before_it_ends(guarded: Registry, repository: str, asked: list) -> None:
    clock = Clock()
    registry = reach(guarded, now=clock)
    registry.tags(repository)
    clock.time += 300 - LIFETIME
    registry.tags(repository)
    assert len(asked) == 1
    clock.time += LIFETIME
    registry.tags(repository)
    assert len(asked) == 2


def test_a_token_that_ends_in_the_middle_of_a_layer_is_renewed(
    guarded: Registry, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third chunk on the registry itself finds the token expired: what the token server gives is dead."""
    tokens, clock = guarded.tokens, Clock()
    assert tokens is not None
    made = model_image(MB)

    original, issue = tokens.lifetime, tokens.token

    def rule(one: Request) -> None:
        if one.method == "PATCH" and len(front.of("PATCH")) == 2:
            clock.time += 10_000
            tokens.lifetime = -3600

    def token(*arguments: object) -> str:
        if any(seen.status == 401 for seen in front.of("PATCH")):
            tokens.lifetime = original
        return issue(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tokens, "token", token)
    try:
        with Front(guarded, rule) as front:
            registry = reach(guarded, front.host, plain_http=True, chunk=256 * 1024, now=clock)
            assert registry.has(repository, registry.push(repository, made))
            assert [one.status for one in front.of("PATCH")] == [202, 202, 401, 202]
            begun = [one for one in front.of("POST", "/blobs/uploads/") if one.status == 202]
            assert len(begun) == 3  # scoring, model, config: none of them twice
    finally:
        tokens.lifetime = original


def acr(guarded: Registry) -> Callable[[Request], Reply | None]:
    """ACR's challenge: its token endpoint is another one."""
    tokens = guarded.tokens
    assert tokens is not None

    def rule(one: Request) -> Reply | None:
        if "authorization" in one.headers:
            return None
        asks = f'Bearer realm="{tokens.url}/oauth2/token",service="{tokens.service}"'
        return Reply(401, {"WWW-Authenticate": asks}, b'{"errors":[{"code":"UNAUTHORIZED"}]}')

    return rule


def test_an_entra_token_is_exchanged_as_acr_does(guarded: Registry, repository: str, asked: list) -> None:
    assert guarded.tokens is not None
    guarded.tokens.entra["canary-entra-token"] = "pusher"
    clock = Clock()
    with Front(guarded, acr(guarded)) as front:
        registry = reach(
            guarded,
            front.host,
            plain_http=True,
            now=clock,
            credential=Credential(token=lambda: Secret("canary-entra-token")),
            ca_bundle=guarded.ca_bundle,
            outbound=Outbound(ca_bundle=guarded.ca_bundle),
        )
        digest = registry.push(repository, model_image(1000))
        registry.tag(repository, "1", digest)
        ways = [(method, path) for method, path, *_ in asked]
        assert ways[0] == ("POST", "/oauth2/exchange")
        assert set(ways[1:]) == {("POST", "/oauth2/token")}
        # Hours later the refresh token is over: exchanged anew.
        guarded.tokens.revoke()
        clock.time += 20_000
        assert registry.tags(repository) == {"1": digest}
        assert [path for _, path, *_ in asked].count("/oauth2/exchange") == 2


def test_an_entra_token_that_is_refused_is_told(guarded: Registry) -> None:
    with Front(guarded, acr(guarded)) as front:
        registry = reach(
            guarded, front.host, plain_http=True, credential=Credential(token=lambda: Secret("canary-made-up"))
        )
        with pytest.raises(Denied) as caught:
            registry.tags("cxr")
        assert caught.value.reason == "LoginRefused"


def refresh_token(guarded: Registry) -> str:
    """An offline token, as `docker login` keeps it."""
    assert guarded.tokens is not None
    form = {
        "grant_type": "password",
        "service": guarded.tokens.service,
        "access_type": "offline",
        "username": guarded.username,
        "password": guarded.password,
    }
    http = urllib3.PoolManager(ca_certs=guarded.ca_bundle)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = http.request("POST", f"{guarded.tokens.url}/token", body=urlencode(form), headers=kind)
    token = answer.json()["refresh_token"]
    assert isinstance(token, str)
    return token


@pytest.mark.parametrize("way", ["distribution", "acr"])
def test_a_refresh_token_is_taken_as_it_is(guarded: Registry, repository: str, way: str) -> None:
    token = refresh_token(guarded)
    with Front(guarded, acr(guarded) if way == "acr" else None) as front:
        registry = reach(guarded, front.host, plain_http=True, credential=Credential(token=lambda: Secret(token)))
        assert registry.has(repository, registry.push(repository, model_image(1000)))


def test_an_access_token_is_sent_where_nothing_refreshes_one(guarded: Registry, repository: str) -> None:
    assert guarded.tokens is not None
    token = guarded.tokens.token("pusher", [f"repository:{repository}:pull,push"])
    nowhere = Reply(401, {"WWW-Authenticate": 'Bearer realm="/nowhere",service="x"'})

    def rule(one: Request) -> Reply | None:
        if one.path.startswith("/nowhere"):
            return Reply(404)
        return None if "authorization" in one.headers else nowhere

    with Front(guarded, rule) as front:
        registry = reach(guarded, front.host, plain_http=True, credential=Credential(token=lambda: Secret(token)))
        assert registry.has(repository, registry.push(repository, model_image(1000)))


def test_a_scope_of_the_registrys_own_is_asked_for_once_it_is_named(
    guarded: Registry, repository: str, asked: list
) -> None:
    """As ACR wants `metadata_read` for the list of tags; of another repository nothing is asked for."""
    tokens = guarded.tokens
    assert tokens is not None
    wanted = f"repository:{repository}:metadata_read"
    named = f'Bearer realm="{tokens.url}/token",service="{tokens.service}",scope="{wanted} repository:other:delete"'

    def rule(one: Request) -> Reply | None:
        if "/tags/list" in one.path and not any(wanted in scopes for *_, scopes in asked):
            return Reply(401, {"WWW-Authenticate": named + ',error="insufficient_scope"'})
        return None

    with Front(guarded, rule) as front:
        registry = reach(guarded, front.host, plain_http=True)
        registry.push(repository, model_image(1000))
        assert registry.tags(repository) == {}
        count = len(asked)
        assert registry.tags(repository) == {}
        assert len(asked) == count
    assert not any("other" in scope for *_, scopes in asked for scope in scopes)


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


def test_a_challenge_is_read_in_all_its_forms() -> None:
    header = (
        'Basic realm="a, b", Bearer realm="https://x/token",service=reg , scope="repository:a:pull,push",'
        'error="insufficient_scope", Negotiate'
    )
    found = challenges(header)
    assert set(found) == {"basic", "bearer", "negotiate"}
    bearer = found["bearer"]
    assert (bearer.realm, bearer.service) == ("https://x/token", "reg")
    assert (bearer.scope, bearer.error) == ("repository:a:pull,push", "insufficient_scope")
    assert challenges("") == challenges(", ,=") == {}
    assert len(challenges("Bearer " + "a=" * 100_000)) <= 1


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
