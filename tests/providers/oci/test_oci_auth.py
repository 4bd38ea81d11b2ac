"""Signing in, with the real registry and token server: scopes, refresh, ACR's exchange, who sees a credential."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import pytest
import urllib3

from edgetrain.core.errors import Denied
from edgetrain.core.ports import Outbound
from edgetrain.core.secret import Secret
from edgetrain.providers.oci.auth import LIFETIME, Credential, challenges
from testbed.registry import Registry

from .front import Front, Reply, Request
from .reach import reach
from .samples import MB, model_image

pytestmark = pytest.mark.needs("registry")


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
