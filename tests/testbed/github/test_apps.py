"""Apps: signed assertions, installations, and tokens with no more than was asked for."""

from __future__ import annotations

import time

import httpx
import jwt
import pytest

from testbed.github import GithubServer
from tests.testbed.github.conftest import REPOSITORY, Client

REPO = f"/repos/{REPOSITORY}"


def assertion(app: object, key: str, *, issued: int = -30, expires: int = 300, algorithm: str = "RS256") -> str:
    """What an App signs; the times are from now."""
    now = int(time.time())
    claims = {"iss": str(app), "iat": now + issued, "exp": now + expires}
    return jwt.encode(claims, key, algorithm=algorithm)


def token(
    signed: httpx.Client, asks: dict[str, object] | None = None, repository: str = REPOSITORY
) -> httpx.Response:
    """The answer to asking for a token."""
    installation = signed.get(f"/repos/{repository}/installation").json()["id"]
    return signed.post(f"/app/installations/{installation}/access_tokens", json=asks)


def test_a_token_has_what_was_asked_for(server: GithubServer, client: Client) -> None:
    server.create_repository("hosp/other", files={"a": "a"})
    app, key = server.app(repositories=[REPOSITORY, "hosp/other"])
    signed = client(assertion(app, key))
    assert signed.get("/app").json()["slug"] == "edgetrain"
    found = signed.get(f"{REPO}/installation").json()
    assert (found["app_id"], found["repository_selection"]) == (app, "selected")

    whole = token(signed).json()
    assert whole["permissions"]["contents"] == "write"
    assert {one["name"] for one in whole["repositories"]} == {"models", "other"}
    narrow = token(signed, {"permissions": {"issues": "write"}, "repositories": ["models"]}).json()
    assert narrow["permissions"] == {"metadata": "read", "issues": "write"}
    own = client(narrow["token"])
    assert own.post(f"{REPO}/issues", json={"title": "T"}).status_code == 201
    assert own.get(REPO).status_code == 200
    refused = own.get(f"{REPO}/pulls")
    assert (refused.status_code, refused.json()["message"]) == (403, "Resource not accessible by integration")
    # What the token is not for is not there.
    assert own.get("/repos/hosp/other").status_code == 404
    assert own.get("/user").status_code == 403
    assert [one["full_name"] for one in own.get("/installation/repositories").json()["repositories"]] == [
        REPOSITORY
    ]


def test_a_token_never_has_more_than_the_installation(server: GithubServer, client: Client) -> None:
    server.create_repository("hosp/other")
    app, key = server.app(repositories=[REPOSITORY], permissions={"contents": "read"})
    signed = client(assertion(app, key))
    more = token(signed, {"permissions": {"contents": "write"}})
    assert (more.status_code, more.json()["message"]) == (
        422,
        "The permissions requested are not granted to this installation.",
    )
    elsewhere = token(signed, {"repositories": ["other"]})
    assert elsewhere.status_code == 422
    assert "not accessible to the parent installation" in elsewhere.json()["message"]
    assert signed.get("/repos/hosp/other/installation").status_code == 404
    other, _ = server.app("other", repositories=[REPOSITORY])
    number = server.store.state["installations"]
    foreign = next(one["id"] for one in number.values() if one["app"] == other)
    assert signed.post(f"/app/installations/{foreign}/access_tokens").status_code == 404


def test_an_app_on_all_repositories_sees_the_new_ones(server: GithubServer, client: Client) -> None:
    app, key = server.app(repositories=None)
    signed = client(assertion(app, key))
    own = client(token(signed).json()["token"])
    server.create_repository("hosp/later", files={"a": "a"})
    server.create_repository("elsewhere/models", files={"a": "a"})
    assert own.get("/repos/hosp/later").status_code == 200
    assert own.get("/repos/elsewhere/models").status_code == 404


def test_tokens_expire_and_are_revoked(server: GithubServer, client: Client) -> None:
    app, key = server.app(repositories=[REPOSITORY])
    signed = client(assertion(app, key))
    first, second = (client(token(signed).json()["token"]) for _ in range(2))
    assert first.delete("/installation/token").status_code == 204
    assert first.get(REPO).status_code == 401
    assert second.get(REPO).status_code == 200
    server.expire_tokens()
    answer = second.get(REPO)
    assert (answer.status_code, answer.json()["message"]) == (401, "Bad credentials")
    # People's tokens do not expire here.
    assert client("ada").get(REPO).status_code == 200


@pytest.mark.parametrize(
    ("issued", "expires", "told"),
    [
        (120, 300, "'Issued at' claim"),
        (-30, -1, "'Expiration time' claim"),
        (-30, 3600, "too far in the future"),
    ],
)
def test_a_wrong_time_is_refused(
    server: GithubServer, client: Client, issued: int, expires: int, told: str
) -> None:
    app, key = server.app(repositories=[REPOSITORY])
    answer = client(assertion(app, key, issued=issued, expires=expires)).get("/app")
    assert answer.status_code == 401
    assert told in answer.json()["message"]


def test_a_wrong_key_or_app_is_refused(server: GithubServer, client: Client) -> None:
    app, key = server.app(repositories=[REPOSITORY])
    _, other = server.app("other", repositories=[REPOSITORY])
    client_id = server.store.state["apps"][str(app)]["client_id"]
    assert client(assertion(client_id, key)).get("/app").status_code == 200
    for signed in (
        assertion(app, other),
        assertion(7, key),
        assertion(app, "secret" * 8, algorithm="HS256"),
        "a.b.c",
    ):
        assert client(signed).get("/app").status_code == 401
    # An assertion is for the App's own calls, and they take nothing else.
    assert client(assertion(app, key)).get(REPO).status_code == 403
    assert client("ada").get("/app").status_code == 401


def test_credentials_come_as_bearer_token_or_password(server: GithubServer, client: Client) -> None:
    ada = server.user("ada")
    for header, status in (
        (f"Bearer {ada}", 200),
        (f"token {ada}", 200),
        (httpx.BasicAuth("x-access-token", ada)._auth_header, 200),
        ("Basic !", 401),
        ("Digest x", 401),
        ("Bearer ghp_unknown", 401),
    ):
        assert client().get("/user", headers={"authorization": header}).status_code == status
    assert client().get("/user").json()["message"] == "Requires authentication"


def test_a_narrow_token_of_a_person(server: GithubServer, client: Client) -> None:
    narrow = client(server.user("ada", permissions={"issues": "write"}))
    assert narrow.post(f"{REPO}/issues", json={"title": "T"}).status_code == 201
    refused = narrow.get(f"{REPO}/pulls")
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "Resource not accessible by personal access token",
    )
