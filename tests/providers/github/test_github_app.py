"""Who we are there: the App's signature, its tokens and their rights, given tokens, and what git gets."""

from __future__ import annotations

import base64
import time

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edgetrain.core.errors import Denied, Rejected
from edgetrain.core.ports import CheckStatus, Outbound
from edgetrain.providers.github.app import CALLS, PUSH

from .scripted import APP, REPO, TOKEN, USER_TOKEN, Reply, Request, Scripted, forge_at, private_key, with_token

MINT = "POST /app/installations/7/access_tokens"


def basic(settings: dict[str, str]) -> str:
    """The token in the settings of a push."""
    header = settings["http.https://github.com/.extraheader"]
    assert header.startswith("AUTHORIZATION: basic ")
    user, _, token = base64.b64decode(header.rpartition(" ")[2]).decode().partition(":")
    assert user == "x-access-token"
    return token


def test_the_app_signs_for_a_few_minutes() -> None:
    with Scripted() as server:
        forge_at(server.url).diagnose()
    request, _ = server.asked("installation")
    public = load_pem_private_key(private_key().encode(), None).public_key()
    claims = jwt.decode(request.token, public, algorithms=["RS256"])  # type: ignore[arg-type]
    assert claims["iss"] == "4242"
    assert claims["iat"] <= time.time()
    assert claims["exp"] - claims["iat"] <= 600
    assert set(claims) == {"iss", "iat", "exp"}


def test_calls_use_one_token_for_this_repository_without_the_right_to_push() -> None:
    with Scripted() as server:
        forge = forge_at(server.url)
        forge.diagnose()
        forge.diagnose()
    (request,) = server.asked(MINT)
    assert request.body == {"repositories": ["models"], "permissions": CALLS}
    assert CALLS["contents"] == "read"
    assert {one.token for one in server.asked(f"GET {REPO}") if "installation" not in one.path} == set(
        server.minted
    )


def test_each_push_has_a_new_token_that_can_push_and_nothing_else() -> None:
    with Scripted() as server:
        forge = forge_at(server.url)
        tokens = [basic(dict(forge.push_settings())) for _ in range(2)]
    assert tokens == server.minted
    assert [one.body["permissions"] for one in server.asked(MINT)] == [PUSH, PUSH]
    assert PUSH == {"contents": "write", "metadata": "read"}


def test_no_token_is_asked_for_with_a_right_to_workflows() -> None:
    assert "workflows" not in {**CALLS, **PUSH}

    def strong(request: Request) -> Reply | None:
        if MINT.endswith(request.path):
            given = {**request.body["permissions"], "workflows": "write"}
            return Reply(
                201, {"token": "ghs_" + "s" * 30, "expires_at": "2999-01-01T00:00:00Z", "permissions": given}
            )
        return None

    with Scripted(strong) as server, pytest.raises(Denied) as caught:
        forge_at(server.url).push_settings()
    assert caught.value.reason == "TokenTooStrong"


def test_a_token_is_replaced_before_it_ends() -> None:
    clock = [time.time()]
    with Scripted() as server:
        forge = forge_at(server.url, now=lambda: clock[0])
        forge.diagnose()
        clock[0] += 3600 - 301
        forge.diagnose()
        assert len(server.minted) == 1
        clock[0] += 2
        forge.diagnose()
    assert len(server.minted) == 2
    assert server.requests[-1].token == server.minted[1]


def test_a_token_that_is_refused_is_replaced_once() -> None:
    refused: list[str] = []

    def rule(request: Request) -> Reply | None:
        if request.path == REPO and (not refused or request.token in refused):
            refused.append(request.token)
            return Reply(401, {"message": "Bad credentials"})
        return None

    with Scripted(rule) as server:
        assert forge_at(server.url).diagnose()[0].status is CheckStatus.PASS
        assert len(server.minted) == 2
        server.rule = lambda one: Reply(401, {"message": "Bad credentials"}) if one.path == REPO else None
        server.requests.clear()
        (check,) = forge_at(server.url).diagnose()
    assert (check.status, check.reason) == (CheckStatus.FAIL, "LoginRefused")
    assert len(server.asked(f"GET {REPO}")) == 3  # the installation, and the repository twice


@pytest.mark.parametrize("lacking", ["pull_requests", "contents"])
def test_a_lacking_right_is_named_before_anything_is_asked(lacking: str) -> None:
    with Scripted() as server:
        server.permissions[lacking] = "read"
        forge = forge_at(server.url)
        with pytest.raises(Denied) as caught:
            forge.push_settings() if lacking == "contents" else forge.pull_request(1)
    assert caught.value.reason == "AppPermissions"
    assert f"{lacking}: write" in caught.value.message
    assert not server.minted


def test_rights_that_are_accepted_meanwhile_are_seen() -> None:
    with Scripted() as server:
        server.permissions["contents"] = "read"
        forge = forge_at(server.url)
        with pytest.raises(Denied):
            forge.push_settings()
        server.permissions["contents"] = "write"
        assert basic(dict(forge.push_settings())) == server.minted[0]


def test_an_app_that_is_not_installed_or_suspended_is_told() -> None:
    found = {"id": 7, "permissions": {}, "suspended_at": "2026-10-01T00:00:00Z"}
    for reply, reason in (
        (Reply(404, {"message": "Not Found"}), "AppNotInstalled"),
        (Reply(body=found), "AppSuspended"),
        (Reply(401, {"message": "A JSON web token could not be decoded"}), "LoginRefused"),
    ):
        with Scripted(lambda one, reply=reply: reply if "installation" in one.path else None) as server:
            (check,) = forge_at(server.url).diagnose()
        assert check.reason == reason
        assert check.fix


@pytest.mark.parametrize(
    "key", ["no key", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"]
)
def test_a_broken_key_is_told_without_showing_it(key: str) -> None:
    with Scripted() as server:
        (check,) = forge_at(server.url, secrets={"app-key": key}).diagnose()
        assert not server.requests
    assert check.reason == "AppKeyBroken"
    assert "AAAA" not in str(check)


def test_a_clock_that_is_wrong_is_named() -> None:
    def rule(request: Request) -> Reply | None:
        if "installation" in request.path:
            headers = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
            return Reply(401, {"message": "'Expiration time' claim ('exp') is too far in the future"}, headers)
        return None

    with Scripted(rule) as server:
        (check,) = forge_at(server.url).diagnose()
    assert check.reason == "ClockSkew"


# Which credential


def test_the_token_serves_where_the_apps_key_is_not() -> None:
    def rule(request: Request) -> Reply | None:
        return Reply(body={"id": 5, "login": "ada", "type": "User"}) if request.path == "/user" else None

    with Scripted(rule) as server:
        forge = forge_at(server.url, block={**APP, **TOKEN}, secrets={"token": USER_TOKEN})
        assert forge.us().login == "ada"
        assert basic(dict(forge.push_settings())) == USER_TOKEN
    assert {one.token for one in server.requests} == {USER_TOKEN}


def test_without_any_credential_it_is_said_what_to_do() -> None:
    for block in ({}, APP, {**APP, **TOKEN}):
        forge = forge_at("https://api.example", block=block, secrets={})
        with pytest.raises(Denied) as caught:
            forge.pull_request(1)
        assert caught.value.reason == "NoCredential"
        assert "secret" in caught.value.fix
        assert [check.reason for check in forge.diagnose()] == ["NoCredential"]
        assert [check.reason for check in forge.settings()] == ["NoCredential"]


@pytest.mark.parametrize(
    ("token", "login", "asked"),
    [
        (USER_TOKEN, "ada", "/user"),
        ("ghs_" + "w" * 36, "github-actions[bot]", "/users/github-actions%5Bbot%5D"),
    ],
)
def test_whose_a_given_token_is(token: str, login: str, asked: str) -> None:
    found = {"id": 41898282, "login": login, "type": "Bot" if "[" in login else "User"}
    with Scripted(lambda one: Reply(body=found) if one.path == asked else None) as server:
        us = with_token(server.url, token).us()
    assert (us.id, us.login, us.bot) == (41898282, login, "[" in login)


def test_the_apps_own_account_is_its_bot() -> None:
    with Scripted() as server:
        us = forge_at(server.url).us()
    assert (us.id, us.login, us.bot) == (99, "edgetrain-app[bot]", True)


# What git gets


def test_a_remote_with_a_key_of_its_own_gets_nothing() -> None:
    forge = forge_at("https://api.example", block={**APP, "push": "origin"})
    assert forge.push_settings() == {}
    assert forge_at("https://api.example", block=TOKEN).push_settings() == {}


def test_git_gets_the_servers_address_and_proxy() -> None:
    block = {**APP, "server": "https://git.hosp.example"}
    with Scripted() as server:
        outbound = Outbound("http://proxy.hosp.example:3128", ("127.0.0.1",), "")
        found = forge_at(server.url, block=block, outbound=outbound).push_settings()
    keys = ("extraheader", "followRedirects", "proxy")
    assert set(found) == {f"http.https://git.hosp.example/.{key}" for key in keys}
    assert found["http.https://git.hosp.example/.proxy"] == "http://proxy.hosp.example:3128"


@pytest.mark.parametrize("key", ["api", "server"])
def test_plain_http_is_for_this_machine_only(key: str) -> None:
    with pytest.raises(Rejected) as caught:
        forge_at("https://api.example", block={**APP, key: "http://git.hosp.example"})
    assert caught.value.reason == "PlainHttp"
