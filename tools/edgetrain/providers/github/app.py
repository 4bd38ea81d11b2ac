"""Credentials: tokens of a GitHub App, made when needed and no stronger than asked; or one token that is given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgetrain.core.errors import Denied, NotFound
from edgetrain.core.ports import Account
from edgetrain.core.secret import Secret
from edgetrain.providers.github.client import Client, path
from edgetrain.providers.github.reading import account, count, mapping, read, text
from edgetrain.providers.github.transport import Transport

# What calls need; never `workflows`: nobody who gets such a token may change what runs.
CALLS = {
    "actions": "read",
    "checks": "read",
    "contents": "read",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
}
PUSH = {"contents": "write", "metadata": "read"}
# What lets the repository's settings be looked at; used where the App has it.
LOOK = (
    "actions",
    "actions_variables",
    "administration",
    "contents",
    "environments",
    "organization_self_hosted_runners",
    "secrets",
    "variables",
)
LIFE = 540  # seconds of a signature; GitHub takes at most 600
SKEW = 60
EARLY = 300.0  # seconds before its end a token is replaced
ACTIONS = "github-actions[bot]"


@dataclass(frozen=True)
class Token:
    """A token and when it ends, in seconds since 1970."""

    secret: Secret
    ends: float


@dataclass(frozen=True)
class Installation:
    """The App where the repository's owner has installed it: its number, and the rights that it was given."""

    id: int
    permissions: Mapping[str, str]


class Given:
    """A token that somebody else made: a workflow's, or a person's."""

    def __init__(self, token: Secret) -> None:
        self._token = token

    def token(self) -> Secret:
        """It."""
        return self._token

    def renew(self, refused: Secret) -> bool:
        """There is no other."""
        return False


class Signature:
    """The App's own signature, a JWT of a few minutes. Raises Denied for a key that is none."""

    def __init__(self, app: str, key: Secret, now: Callable[[], float]) -> None:
        self._app, self._key, self._now = app, key, now

    def token(self) -> Secret:
        """Signed now: the clock of the forge may be a minute behind."""
        import jwt

        now = int(self._now())
        claims = {"iat": now - SKEW, "exp": now + LIFE, "iss": self._app}
        try:
            return Secret(jwt.encode(claims, self._key.reveal(), algorithm="RS256"))
        except (ValueError, TypeError, jwt.PyJWTError):
            raise Denied(
                "the App's private key is no RSA key in PEM form",
                reason="AppKeyBroken",
                fix="make a new private key on the App's page and put the whole file where the secret is read",
            ) from None

    def renew(self, refused: Secret) -> bool:
        """Another one would be refused too."""
        return False


class App:
    """The App as installed on one repository. `now` tells the time in seconds since 1970."""

    def __init__(
        self,
        transport: Transport,
        app: str,
        key: Secret,
        repository: str,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = Client(transport, Signature(app, key, now), sleep)
        self._repository, self.now = repository, now
        self._installation: Installation | None = None

    def about(self) -> tuple[int, str]:
        """The App's number and its name in addresses."""
        found = self._client.get("/app", "sign in as the App")
        return read(self._client.host, lambda one: (count(one["id"]), text(one["slug"], 100)), found)

    def installation(self) -> Installation:
        """Where it is installed. Raises Denied if that is not on this repository."""
        if self._installation is None:
            where = path("repos", *self._repository.split("/"), "installation")
            try:
                found = self._client.get(where, "see the App's installation")
            except NotFound:
                raise Denied(
                    f"the App is not installed on {self._repository}",
                    reason="AppNotInstalled",
                    fix=f"install it from the App's page, for {self._repository}",
                ) from None
            self._installation = read(self._client.host, _installation, found)
        return self._installation

    def mint(self, permissions: Mapping[str, str]) -> Token:
        """A new token for this repository alone, with these rights and no more. Raises Denied."""
        installation = self.installation()
        lacking = missing(permissions, installation.permissions)
        if lacking:
            self._installation = None  # rights may be accepted while we run
            raise Denied(
                f"the App has not the right to {', '.join(lacking)}",
                reason="AppPermissions",
                fix="give the App these rights, and accept them where it is installed",
            )
        found = self._client.send(
            "POST",
            path("app", "installations", installation.id, "access_tokens"),
            "make a token",
            {"repositories": [self._repository.partition("/")[2]], "permissions": dict(permissions)},
            harmless=True,
        )
        token, given = read(self._client.host, _token, found)
        if "workflows" in given:
            raise Denied(
                "the forge made a token that may change workflows, which was not asked for",
                reason="TokenTooStrong",
                fix="take the right to workflows from the App",
            )
        return token


class Minted:
    """Tokens of an App with some rights, one after the other."""

    def __init__(self, app: App, permissions: Callable[[], Mapping[str, str]]) -> None:
        self._app, self._permissions = app, permissions
        self._token: Token | None = None
        self._lock = threading.Lock()

    def token(self) -> Secret:
        """One that lasts for some minutes yet."""
        with self._lock:
            if self._token is None or self._token.ends - EARLY <= self._app.now():
                self._token = self._app.mint(self._permissions())
            return self._token.secret

    def renew(self, refused: Secret) -> bool:
        """Make a new one at the next call."""
        with self._lock:
            if self._token is not None and self._token.secret is refused:
                self._token = None
        return True


def missing(wanted: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """The wanted rights that are not given, as `name: read`."""
    return [
        f"{name}: {level}"
        for name, level in sorted(wanted.items())
        if given.get(name) not in ({"read", "write", "admin"} if level == "read" else {"write", "admin"})
    ]


def own_account(client: Client, credential: object, app: App | None) -> Account:
    """Whose the credential is: what it writes carries this account's number."""
    if app is not None:
        login = f"{app.about()[1]}[bot]"
    elif isinstance(credential, Given) and credential.token().reveal().startswith("ghs_"):
        login = ACTIONS  # a workflow's token may not ask who it is
    else:
        return read(client.host, account, client.get("/user", "see whose the token is"))
    return read(client.host, account, client.get(path("users", login), f"see the account {login}"))


def _installation(value: Any) -> Installation:
    permissions = mapping(value["permissions"])
    if value.get("suspended_at"):
        raise Denied(
            "the App is suspended where it is installed",
            reason="AppSuspended",
            fix="ask the owner of the repository to unsuspend it",
        )
    return Installation(count(value["id"]), {text(k, 100): text(v, 20) for k, v in permissions.items()})


def _token(value: Any) -> tuple[Token, Mapping[str, Any]]:
    ends = datetime.fromisoformat(text(value["expires_at"], 40))
    secret = text(value["token"], 1000)
    if len(secret) < 20 or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ValueError("token")
    return Token(Secret(secret), ends.timestamp()), mapping(value.get("permissions", {}))
