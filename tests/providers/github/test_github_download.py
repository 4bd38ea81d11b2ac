"""What the client follows and trusts: redirects, downloads, proxies, certificates; and what no log may hold."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import NotFound, Rejected, Transient
from edgetrain.core.ports import Outbound
from testbed.ca import Authority

from .scripted import REPO, USER_TOKEN, Pauses, Reply, Request, Rule, Scripted, with_token
from .test_github_client import FOUND, PULL, RUN, at_first, fails

# Redirects, downloads


def test_a_redirect_at_home_is_followed_and_one_elsewhere_is_not() -> None:
    with Scripted(lambda _: Reply(body=FOUND)) as elsewhere, Scripted() as server:
        server.rule = at_first(1, Reply(301, {}, {"Location": "/repositories/1/runs/5"}), Reply(), RUN)
        usual = server.rule
        server.rule = lambda one: Reply(body=FOUND) if one.path == "/repositories/1/runs/5" else usual(one)
        assert with_token(server.url).workflow_run(5).id == 5
        server.rule = lambda _: Reply(302, {}, {"Location": f"{elsewhere.url}{RUN}"})
        assert fails(server).reason == "Moved"
        server.rule = lambda _: Reply(302, {}, {"Location": RUN})
        assert fails(server).reason == "Moved"
        server.rule = lambda one: (
            Reply(307, {}, {"Location": "/elsewhere"}) if one.method == "PATCH" else Reply(body=PULL)
        )
        assert fails(server, lambda forge: forge.close(3)).reason == "Moved"
        assert not elsewhere.requests


def artifacts(size: int, to: str) -> Rule:
    """An artifact of that size, whose bytes are elsewhere."""

    def rule(request: Request) -> Reply | None:
        if request.path.startswith(f"{RUN}/artifacts"):
            one = {"id": 8, "name": "edgetrain-report", "size_in_bytes": size, "expired": False}
            return Reply(body={"total_count": 1, "artifacts": [one, {**one, "id": 9, "expired": True}]})
        if request.path == f"{REPO}/actions/artifacts/8/zip":
            return Reply(302, {}, {"Location": to})
        return None

    return rule


def report(forge: Any) -> bytes:
    """What is asked for."""
    found: bytes = forge.artifact(5, "edgetrain-report", 100)
    return found


def test_a_download_elsewhere_sees_no_credential() -> None:
    with Scripted(lambda _: Reply(body=b"PK..")) as elsewhere, Scripted() as server:
        server.rule = artifacts(4, f"{elsewhere.url}/signed?sig=secret")
        assert report(with_token(server.url)) == b"PK.."
        (request,) = elsewhere.requests
    assert request.path == "/signed?sig=secret"
    assert USER_TOKEN not in repr(request)
    assert "authorization" not in request.headers


def test_a_download_is_bounded_whatever_was_said_of_its_size() -> None:
    with Scripted(lambda _: Reply(body=b"x" * 101)) as elsewhere, Scripted() as server:
        server.rule = artifacts(4, f"{elsewhere.url}/signed")
        assert fails(server, report).reason == "TooLarge"
        server.rule = artifacts(101, f"{elsewhere.url}/signed")
        assert fails(server, report).reason == "TooLarge"
        assert len(elsewhere.requests) == 1


def test_a_download_by_plain_http_or_in_circles_is_refused() -> None:
    with Scripted() as server:
        server.rule = artifacts(4, "http://storage.example/signed?sig=hidden-signature")
        error = fails(server, report)
        assert error.reason == "PlainHttp"
        assert "hidden-signature" not in str(error)
        server.rule = lambda one: artifacts(4, "/around")(one) or Reply(302, {}, {"Location": "/around"})
        assert fails(server, report).reason == "Moved"


def test_a_broken_download_begins_again() -> None:
    at = at_first(1, Reply(body=b"PK..", cut=2), Reply(body=b"PK.."), "/signed")
    with Scripted(at) as elsewhere, Scripted() as server:
        server.rule = artifacts(4, f"{elsewhere.url}/signed")
        assert report(with_token(server.url)) == b"PK.."


# The way there


def test_the_proxy_is_used_but_for_who_needs_none(tmp_path: Path) -> None:
    with Scripted(lambda _: Reply(body=FOUND)) as proxy, Scripted(lambda _: Reply(body=FOUND)) as server:
        by = Outbound(proxy=proxy.url)
        with_token(server.url, outbound=by).workflow_run(5)
        assert [one.path for one in proxy.requests] == [f"{server.url}{RUN}"]
        with_token(server.url, outbound=Outbound(proxy.url, ("127.0.0.0/8",))).workflow_run(5)
        assert len(server.requests) == len(proxy.requests) == 1
        pauses = Pauses()
        with pytest.raises(Transient) as caught:
            forge = with_token(
                "https://api.hosp.example", outbound=Outbound(f"http://user:pass-word@{proxy.url[7:]}")
            )
            proxy.rule = lambda _: Reply(403)
            forge.client.sleep = pauses
            forge.workflow_run(5)
    assert caught.value.reason == "ProxyFailed"
    assert "pass-word" not in str(caught.value)
    assert proxy.requests[-1].method == "CONNECT"


def test_only_trusted_certificates_are_taken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    right, wrong = authority.issue("127.0.0.1"), authority.issue("other.example", name="wrong")
    by = Outbound(ca_bundle=str(authority.bundle))
    with Scripted(lambda _: Reply(body=FOUND), right) as server:
        assert with_token(server.url, outbound=by).workflow_run(5).id == 5
        assert fails(server).reason == "TlsUntrusted"
        assert len(server.requests) == 1
    with Scripted(lambda _: Reply(body=FOUND), wrong) as server, pytest.raises(Rejected) as caught:
        with_token(server.url, outbound=by).workflow_run(5)
    assert caught.value.reason == "TlsHostname"
    with pytest.raises(NotFound) as missing:
        with_token("https://api.example", outbound=Outbound(ca_bundle=f"{tmp_path}/none.pem"))
    assert missing.value.reason == "CaBundleMissing"


def test_nothing_listens_or_speaks_tls() -> None:
    with Scripted() as gone:
        pass
    with pytest.raises(Transient) as caught:
        with_token(gone.url).workflow_run(5)
    assert caught.value.reason == "NotReached"
    with Scripted() as server, pytest.raises(Rejected) as rejected:
        with_token(server.url.replace("http:", "https:")).workflow_run(5)
    assert rejected.value.reason == "NoTls"


def test_the_environment_and_a_netrc_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login someone password else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    cookie = {"Set-Cookie": "session=1; Path=/"}
    with Scripted(lambda _: Reply(body=FOUND, headers=cookie)) as server:
        forge = with_token(server.url)
        forge.workflow_run(5)
        forge.workflow_run(5)
    assert {one.headers["authorization"] for one in server.requests} == {f"Bearer {USER_TOKEN}"}
    assert not any("cookie" in one.headers for one in server.requests)


def test_no_log_holds_a_token_or_a_signed_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Scripted(lambda _: Reply(body=b"PK..")) as elsewhere, Scripted() as server:
        server.rule = artifacts(4, f"{elsewhere.url}/signed?sig=hidden-signature")
        report(with_token(server.url))
    assert USER_TOKEN not in caplog.text
    assert "hidden-signature" not in caplog.text


def test_names_cannot_leave_their_place_in_an_address() -> None:
    with Scripted() as server:
        forge = with_token(server.url)
        for call in (lambda: forge.checks("../../../user?x="), lambda: forge.artifact(5, "a&name=b#", 10)):
            with pytest.raises(NotFound):
                call()
    first, second = (one.path for one in server.requests)
    assert first.startswith(f"{REPO}/commits/..%2F..%2F..%2Fuser%3Fx%3D/check-runs?")
    assert "name=a%26name%3Db%23" in second
