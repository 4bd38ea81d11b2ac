"""What failures become: each status in both shapes of bodies, what SDKs raise, and never a secret in a message."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient, Unavailable
from edgetrain.core.secret import Secret
from edgetrain.providers.azureml.errors import LONGEST, Busy, refusal, shown, translate, wait_of, words
from tests.walk import examples

KINDS = {
    301: Rejected,
    307: Rejected,
    400: Rejected,
    401: Denied,
    402: Rejected,
    403: Denied,
    404: NotFound,
    405: Rejected,
    408: Transient,
    409: Conflict,
    410: NotFound,
    412: Conflict,
    413: Rejected,
    422: Rejected,
    423: Conflict,
    425: Transient,
    429: Transient,
    500: Transient,
    501: Rejected,
    502: Transient,
    503: Transient,
    504: Transient,
    530: Transient,
}
# Made up, each of the form that the real one has.
ACCOUNT_KEY = base64.b64encode(bytes(range(64))).decode()
TOKEN = "eyJ" + "hbGciOiJSUzI1NiJ9" + ".eyJzdWIiOiJ4In0." + "c2lnbmF0dXJl"
PEM = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEow/abc\nxyz==\n-----END RSA PRIVATE KEY-----"
SIGNATURE = "sig=" + "a%2Bb%2Fc%3D"
SECRETS = {
    "account key": (f'{{"accountKey": "{ACCOUNT_KEY}"}}', ACCOUNT_KEY),
    "connection": (f"AccountName=x;AccountKey={ACCOUNT_KEY};EndpointSuffix=y", ACCOUNT_KEY),
    "token": (f"the token {TOKEN} is not valid", TOKEN),
    "bearer": ("Authorization: Bearer short-opaque-1", "short-opaque-1"),
    "key": (PEM, "MIIEow"),
    "key cut off": (PEM[:60], "MIIEow"),
    "key in JSON": (json.dumps({"privateKeyData": PEM}), "MIIEow"),
    "key in JSON in JSON": (json.dumps(json.dumps({"privateKeyData": "opaque-value-17"})), "opaque-value-17"),
    "sas": (f"https://x.blob.core.windows.net/c/b?sv=2019-07-07&sr=b&{SIGNATURE}&se=2030", "a%2Bb"),
    "sas alone": (f"no access with {SIGNATURE}", "a%2Bb"),
    "sas in XML": (f"<Uri>https://x/c?sp=r&amp;{SIGNATURE}</Uri>", "a%2Bb"),
    "password": ('{"administratorAccount": {"username": "u", "password": "hunter2-17"}}', "hunter2-17"),
    "form": ("client_id=1&client_secret=hunter2-17&scope=x", "hunter2-17"),
    "userinfo": ("git said https://u:hunter2-17@host/x", "hunter2-17"),
    "python's repr": ("{'sasToken': 'hunter2-17', 'a': 1}", "hunter2-17"),
}


def bodies(code: str, message: str) -> list[bytes]:
    """The same refusal in the shapes of the services."""
    history = {
        "error": {"code": "UserError", "message": message, "details": [], "innerError": {"code": code}},
        "correlation": {"operation": "1"},
        "componentName": "run-history",
    }
    arm = {"error": {"code": code, "message": message}}
    models = {"code": code, "statusCode": 400, "message": message, "details": []}
    return [json.dumps(body).encode() for body in (history, arm, models)]


class Answer(requests.Response):
    """A response as requests has it."""

    def __init__(self, status: int, body: bytes = b"", **headers: str) -> None:
        super().__init__()
        self.status_code = status
        self._content = body
        self.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        self.url = f"https://x.test/?{SIGNATURE}"


@pytest.mark.parametrize("status", sorted(KINDS))
def test_each_status_has_its_kind_in_each_shape(status: int) -> None:
    for body in [*bodies("SomeCode", "some words"), b"", b"<html>", b'"text"', b"[]", b"\xff\xfe"]:
        error = refusal(status, "doing it", body=body)
        assert isinstance(error, KINDS[status])
        assert isinstance(error, Transient) == (KINDS[status] is Transient)
        assert error.message.startswith(f"doing it: the service answered {status}")
        assert error.fix
        assert error.reason.isidentifier()


def test_code_and_words_come_from_each_shape() -> None:
    for body in bodies("AlreadyThere", "it is there"):
        assert words(body) == ("AlreadyThere", "it is there")
        error = refusal(409, "doing it", body=body)
        assert error.reason == "AlreadyThere"
        assert "it is there" in error.message
    assert words(b'{"error": "invalid_client", "error_description": "AADSTS1: no"}') == (
        "invalid_client",
        "AADSTS1: no",
    )
    assert words(b"[" * 100_000) == ("", "")


@pytest.mark.parametrize("status", [403, 409])
def test_a_quota_is_not_tried_again_and_named(status: int) -> None:
    for body in bodies("QuotaExceeded", "no more cores"):
        error = refusal(status, "doing it", body=body)
        assert (type(error), error.reason) == (Rejected, "QuotaExceeded")


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_no_secret_of_a_body_is_in_a_message(name: str) -> None:
    said, secret = SECRETS[name]
    assert secret in said or secret in json.loads(said)
    for body in [*bodies("C", said), said.encode()]:
        for status in KINDS:
            assert secret not in refusal(status, "doing it", body=body).message
            assert secret not in translate(raised(status, body), "doing it").message
    assert secret not in translate(ValueError(said), "doing it").message
    assert secret not in translate(RuntimeError("x", RuntimeError(said)), "doing it").message
    assert secret not in refusal(500, "doing it", text=said).message
    assert secret not in shown(said)


def raised(status: int, body: bytes) -> Exception:
    """requests' own error."""
    return requests.HTTPError("failed", response=Answer(status, body))


def test_known_secrets_go_whatever_they_look_like() -> None:
    mine = Secret("blue horse")
    assert "blue horse" not in translate(ValueError("a blue horse came"), "x", [mine]).message
    for body in bodies("C", "a blue horse came"):
        assert "blue horse" not in refusal(400, "x", body=body, secrets=[mine]).message


@given(text=st.text(max_size=300), status=st.sampled_from(sorted(KINDS)))
@settings(max_examples=examples(150), deadline=None)
def test_any_words_make_one_bounded_line(text: str, status: int) -> None:
    for body in [*bodies("C", text), text.encode("utf-8", "replace")]:
        message = refusal(status, "doing it", body=body).message
        assert message.isprintable()
        assert len(message) < LONGEST + 200


@given(body=st.binary(max_size=400), status=st.integers(300, 599))
@settings(max_examples=examples(150), deadline=None)
def test_any_answer_is_understood_somehow(body: bytes, status: int) -> None:
    assert isinstance(refusal(status, "doing it", body=body), ProviderError)
    assert isinstance(translate(raised(status, body), "doing it"), ProviderError)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "innerError", "details", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(document=json_values)
@settings(max_examples=examples(200), deadline=None)
def test_any_document_is_understood_somehow(document: Any) -> None:
    code, said = words(json.dumps(document))
    assert isinstance(code, str)
    assert isinstance(said, str)


@given(
    before=st.sampled_from(["", "no: ", "x=1&", '{"a": 1, ', "https://h/p?v=1&", "'"]),
    secret=st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/%-_.", min_size=8, max_size=80),
    after=st.sampled_from(["", "&se=2030", '"', " and more", "\n"]),
    form=st.sampled_from(
        ["sig={}", "AccountKey={}", '"accountKey": "{}"', "Bearer {}", '"password":"{}"', "?sig={}"]
    ),
)
@settings(max_examples=examples(300), deadline=None)
def test_whatever_a_secret_is_made_of_it_goes(before: str, secret: str, after: str, form: str) -> None:
    assume(secret not in form)  # a secret that is named as its field is
    said = f"{before} {form.format(secret)}{after}"
    assert secret not in shown(said)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "999999999"}, 3600.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 99 Foo 2020 00:00:00 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
        (None, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str] | None, seconds: float | None) -> None:
    assert wait_of(headers) == seconds


def test_a_date_to_wait_for() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    found = wait_of({"Retry-After": then})
    assert found is not None
    assert 0 < found <= 600


def test_the_wait_travels_with_the_failure() -> None:
    error = translate(requests.HTTPError("x", response=Answer(429, b"", Retry_After="11")), "doing it")
    assert isinstance(error, Busy)
    assert error.after == 11.0


class Untold(Exception):
    """Fails when it is looked at."""

    def __str__(self) -> str:
        raise TypeError("no text")

    @property
    def message(self) -> str:
        raise KeyError("no message")


def chained(outer: Exception, inner: Exception) -> Exception:
    """The outer one, raised while the inner was handled."""
    try:
        try:
            raise inner
        except Exception:
            raise outer  # noqa: B904 - as SDKs do
    except Exception as error:
        return error


def cyclic() -> Exception:
    """Causes that go round."""
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (requests.ConnectionError(ConnectionResetError(104, "reset")), Transient, "Unreachable"),
        (requests.ReadTimeout("x"), Transient, "Unreachable"),
        (requests.exceptions.ChunkedEncodingError("x"), Transient, "Unreachable"),
        (requests.exceptions.ProxyError("x"), Transient, "ProxyFault"),
        (requests.exceptions.SSLError("certificate verify failed"), Rejected, "CertificateUntrusted"),
        (requests.exceptions.SSLError("UNEXPECTED_EOF_WHILE_READING"), Transient, "Unreachable"),
        (ssl.SSLCertVerificationError("x"), Rejected, "CertificateUntrusted"),
        (socket.gaierror(-2, "unknown name"), Transient, "Unreachable"),
        (TimeoutError(), Transient, "Unreachable"),
        (OSError(28, "No space left on device"), Unavailable, "StateUnusable"),
        (ModuleNotFoundError("no", name="azureml"), Unavailable, "PackageMissing"),
        (KeyError("containerRegistry"), Rejected, "AnswerNotUnderstood"),
        (Untold(), Rejected, "Refused"),
        (cyclic(), Rejected, "AnswerNotUnderstood"),
        (chained(RuntimeError("Operation returned an invalid status"), raised(403, b"")), Denied, "RightMissing"),
        (chained(Untold(), raised(409, b"")), Conflict, "Conflict"),
        (chained(RuntimeError(), Denied("ours", reason="Ours")), Denied, "Ours"),
        (RuntimeError("Received bad response:\nResponse Code: 404\nHeaders: {}"), NotFound, "NotFound"),
        (RuntimeError('{"error_details": {}, "status_code": 503}'), Transient, "ServiceFault"),
        (RuntimeError("status_code: 2000"), Rejected, "Refused"),
        (RuntimeError('Error uploading snapshot files. Code: 429\n: {"error": {}}'), Transient, "Throttled"),
        (RuntimeError("Error retrieving the environment definition. Code: 503\n: "), Transient, "ServiceFault"),
        (RuntimeError("It has no Code: 429 of its own"), Rejected, "Refused"),
    ],
)
def test_what_is_raised_has_its_kind(error: Exception, kind: type[ProviderError], reason: str) -> None:
    found = translate(error, "doing it")
    assert isinstance(found, kind)
    assert found.reason == reason
    assert found.message.isprintable()
