"""Who asks, and what they may: tokens of users, of jobs and of Apps, and the Apps' own signed assertions."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from testbed.github.store import ACTIONS_BOT, Record, Store

LEVELS = {"read": 1, "write": 2, "admin": 3}
ROLES = {"read": 1, "triage": 2, "write": 3, "maintain": 4, "admin": 5}
TOKEN_LIFE = {"hours": 1}
LONGEST_ASSERTION = 600  # seconds
SKEW = 60
# What everybody may read of a public repository.
PUBLIC = {"metadata", "contents", "issues", "pull_requests", "checks", "actions", "statuses"}


class BadCredentials(Exception):
    """The request is answered with 401; the message is GitHub's."""


@dataclass(frozen=True)
class Actor:
    """Who asks. `kind` is `anonymous`, `user`, `installation` (of an App), `job` (GITHUB_TOKEN) or `app` (its own
    assertion). `permissions` None means: as the account's role in the repository says."""

    kind: str = "anonymous"
    account: int = 0
    login: str = ""
    permissions: Mapping[str, str] | None = None
    repositories: tuple[int, ...] | None = None
    app: int = 0
    installation: int = 0
    token: str = ""

    @property
    def machine(self) -> bool:
        """Whether its rights are those of a token, not of a person."""
        return self.kind in ("installation", "job")


ANONYMOUS = Actor()


def role(store: Store, repository: Record, login: str) -> int:
    """The rank of the account's role there; 0 for none."""
    if login.lower() == repository["owner"].lower():
        return ROLES["admin"]
    found = [repository["roles"].get(login.lower(), "")]
    for name, team in store.state["teams"].items():
        if login.lower() in team["members"]:
            found.append(repository["roles"].get(f"@{name}", ""))
    return max(ROLES.get(one, 0) for one in found)


def visible(store: Store, actor: Actor, repository: Record) -> bool:
    """Whether the actor may know that the repository exists."""
    if actor.repositories is not None and repository["id"] not in actor.repositories:
        return not repository["private"]
    if not repository["private"]:
        return True
    if actor.machine:
        return True
    return actor.kind == "user" and role(store, repository, actor.login) > 0


def may(store: Store, actor: Actor, repository: Record, permission: str, level: str, rank: str) -> bool:
    """Whether the actor has the permission there (any of those, with `|` between); `rank` is the role a person
    needs."""
    inside = actor.repositories is None or repository["id"] in actor.repositories
    if level == "read" and not repository["private"] and set(permission.split("|")) & PUBLIC:
        return True
    if actor.kind in ("anonymous", "app") or not inside:
        return False
    if actor.permissions is not None:
        held = {"metadata": "read", **actor.permissions}
        if all(LEVELS.get(held.get(one, ""), 0) < LEVELS[level] for one in permission.split("|")):
            return False
    if actor.machine:
        return True
    needed = 0 if not repository["private"] and rank == "read" else ROLES[rank]
    return role(store, repository, actor.login) >= needed


def identify(store: Store, authorization: str) -> Actor:
    """Who sends this header (`Bearer`, `token` or `Basic` was already taken off by `credential`). Raises
    BadCredentials."""
    if not authorization:
        return ANONYMOUS
    if authorization.count(".") == 2:
        return _assertion(store, authorization)
    record = store.state["tokens"].get(authorization)
    if record is None or (record["expires_at"] and record["expires_at"] <= store.now()):
        raise BadCredentials("Bad credentials")
    account = store.account_of(record["account"])
    repositories = record["repositories"]
    if record["installation"] and repositories is None:
        repositories = installed_on(store, store.state["installations"][str(record["installation"])])
    return Actor(
        record["kind"],
        account["id"],
        account["login"],
        record["permissions"],
        None if repositories is None else tuple(repositories),
        record["app"],
        record["installation"],
        authorization,
    )


def _assertion(store: Store, token: str) -> Actor:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        record = find_app(store, str(claims.get("iss", "")))
        if record is None:
            raise BadCredentials("Integration not found")
        jwt.decode(
            token,
            record["public_key"],
            algorithms=["RS256"],
            options={"verify_exp": False, "verify_iat": False, "verify_aud": False},
        )
    except jwt.InvalidTokenError:
        raise BadCredentials("A JSON web token could not be decoded") from None
    now, issued, expires = time.time(), claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int) or issued > now:
        raise BadCredentials(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
        )
    if not isinstance(expires, int) or expires <= now:
        raise BadCredentials(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the "
            "assertion expires"
        )
    if expires > now + LONGEST_ASSERTION + SKEW:
        raise BadCredentials("'Expiration time' claim ('exp') is too far in the future")
    bot = store.account(f"{record['slug']}[bot]", kind="Bot")
    return Actor("app", bot["id"], bot["login"], {}, (), record["id"])


def find_app(store: Store, name: str) -> Record | None:
    """An App by its number or client id."""
    found = [one for one in store.state["apps"].values() if name in (str(one["id"]), one["client_id"])]
    return found[0] if found else None


def installation_of(store: Store, app: int, repository: Record) -> Record | None:
    """The App's installation that covers the repository; None if there is none."""
    for installation in store.state["installations"].values():
        if installation["app"] == app and repository["id"] in installed_on(store, installation):
            found: Record = installation
            return found
    return None


def installed_on(store: Store, installation: Mapping[str, Any]) -> list[int]:
    """The numbers of the repositories that an installation covers."""
    if installation["repositories"] is not None:
        return list(installation["repositories"])
    owner = store.account_of(installation["account"])["login"]
    return [one["id"] for one in store.state["repositories"].values() if one["owner"] == owner]


def new_token(
    store: Store,
    kind: str,
    account: int,
    *,
    permissions: Mapping[str, str] | None = None,
    repositories: Sequence[int] | None = None,
    app: int = 0,
    installation: int = 0,
    expires: bool = False,
) -> str:
    """Make a token and remember it."""
    token = ("ghp_" if kind == "user" else "ghs_") + secrets.token_hex(18)
    store.state["tokens"][token] = {
        "kind": kind,
        "account": account,
        "permissions": None if permissions is None else dict(permissions),
        "repositories": None if repositories is None else list(repositories),
        "app": app,
        "installation": installation,
        "expires_at": store.later(**TOKEN_LIFE) if expires else "",
    }
    return token


def job_token(store: Store, repository: Record, permissions: Mapping[str, str]) -> str:
    """What a job has as GITHUB_TOKEN."""
    return new_token(
        store,
        "job",
        store.account(ACTIONS_BOT)["id"],
        permissions={name: level for name, level in permissions.items() if name != "workflows"},
        repositories=[repository["id"]],
        expires=True,
    )
