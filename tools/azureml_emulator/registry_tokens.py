"""The registry's own tokens: a refresh token for a sign-in, an access token for scopes, and what they allow."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azureml_emulator import upstream
from azureml_emulator.message import Refused
from azureml_emulator.tokens import Tokens

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

# The user name with which a refresh token is given as a password, as `az acr login` does.
NOBODY = "00000000-0000-0000-0000-000000000000"
ADMIN = "registry-admin"
# What a role may: AcrPull, and AcrPush with AcrDelete.
ALLOWED = {
    "reader": {"pull", "metadata_read"},
    "contributor": {"pull", "push", "delete", "metadata_read", "metadata_write"},
}
_SCOPE = re.compile(rf"(repository):({upstream.NAME}):([a-z_*,]+)|(registry):(catalog):([a-z_*,]+)")
MAX_SCOPES = 100


@dataclass(frozen=True)
class Grant:
    """What somebody may: actions by type and name of a resource, and `everywhere` in all repositories."""

    subject: str
    allowed: dict[tuple[str, str], frozenset[str]]
    everywhere: frozenset[str] = frozenset()

    def allows(self, kind: str, name: str, actions: tuple[str, ...]) -> bool:
        """Whether one of the actions is allowed."""
        have = self.allowed.get((kind, name), frozenset()) | self.everywhere
        return "*" in have or not have.isdisjoint(actions)


def service(emulator: Emulator, host: str) -> str:
    """The registry's name for whoever asked by this host name."""
    return urlsplit(emulator.urls(host).registry).netloc


def exchanged(emulator: Emulator, host: str, form: dict[str, str]) -> str:
    """A refresh token for an access token of the directory. Raises Refused."""
    grant = form.get("grant_type", "")
    if grant not in ("access_token", "access_token_refresh_token"):
        raise Refused(400, "UNSUPPORTED", f"grant_type {grant[:50]!r} is not served; access_token is")
    _check_service(emulator, host, form.get("service", ""))
    principal, audience = _directory(emulator, form.get("access_token", ""))
    if audience not in ("arm", "acr") or principal.role not in ALLOWED:
        raise _unauthorised("the access token is not for the registry")
    return refresh_token(emulator, host, principal.name, principal.role)


def _directory(emulator: Emulator, token: str) -> Any:
    try:
        return Tokens(emulator).check(token)
    except Refused as refused:
        raise _unauthorised(refused.message) from None


def refresh_token(emulator: Emulator, host: str, name: str, role: str) -> str:
    """A refresh token of the registry."""
    claims = {"aud": service(emulator, host), "grant_type": "refresh_token", "sub": name, "role": role}
    return Tokens(emulator).sign(claims)


def access_token(emulator: Emulator, host: str, asked: str, refresh: str, scopes: list[str]) -> str:
    """An access token for that part of the scopes which the signed-in may have. Raises Refused."""
    _check_service(emulator, host, asked)
    claims = _ours(emulator, host, refresh, "refresh_token")
    may = ALLOWED.get(str(claims.get("role")), set())
    granted = []
    wanted = [scope for text in scopes for scope in text.split(" ") if scope]
    for scope in wanted[:MAX_SCOPES]:
        match = _SCOPE.fullmatch(scope)
        if match is None:
            raise Refused(400, "BAD_REQUEST", f"{scope[:200]!r} is not a scope")
        kind, name, actions = match[1] or match[4], match[2] or match[5], (match[3] or match[6]).split(",")
        if kind == "registry":
            have = [action for action in actions if action == "*"]
        else:
            have = sorted(may) if "*" in actions else [action for action in actions if action in may]
        if have:
            granted.append({"type": kind, "name": name, "actions": have})
    claims = {"aud": service(emulator, host), "grant_type": "access_token", "sub": claims["sub"], "access": granted}
    return Tokens(emulator).sign(claims)


def basic(emulator: Emulator, host: str, username: str, password: str) -> str:
    """The refresh token behind a user name and a password. Raises Refused."""
    if username == NOBODY:
        _ours(emulator, host, password, "refresh_token")
        return password
    if username.lower() == emulator.options.acr.lower():
        try:
            claims = Tokens(emulator).claims(password)
        except Refused:
            claims = {}
        if claims.get("aud") == ADMIN:
            return refresh_token(emulator, host, username.lower(), "contributor")
    raise _unauthorised("the user name or the password is wrong")


def basic_header(value: str) -> tuple[str, str] | None:
    """User name and password of an Authorization header, None if it holds none."""
    scheme, _, rest = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (username, password) if colon else None


def grant(emulator: Emulator, host: str, authorization: str) -> Grant | None:
    """What the Authorization header allows; None for none and for one that is not, or no longer, good."""
    signed_in = basic_header(authorization)
    scheme, _, token = authorization.partition(" ")
    try:
        if signed_in is not None:
            claims = _ours(emulator, host, basic(emulator, host, *signed_in), "refresh_token")
            catalog = {("registry", "catalog"): frozenset("*")}
            return Grant(str(claims["sub"]), catalog, frozenset(ALLOWED.get(str(claims.get("role")), ())))
        if scheme.lower() != "bearer" or not token:
            return None
        claims = _ours(emulator, host, token.strip(), "access_token")
    except Refused:
        return None
    allowed = {(item["type"], item["name"]): frozenset(item["actions"]) for item in claims["access"]}
    return Grant(str(claims["sub"]), allowed)


def challenge(emulator: Emulator, host: str, scope: str, error: str = "") -> dict[str, str]:
    """The header of a 401: where a token is to be had, and for what."""
    base = emulator.urls(host).registry
    value = f'Bearer realm="{base}/oauth2/token",service="{service(emulator, host)}"'
    value += f',scope="{scope}"' if scope else ""
    value += f',error="{error}"' if error else ""
    return {"WWW-Authenticate": value}


def allow(
    emulator: Emulator, host: str, authorization: str, need: tuple[str, str, tuple[str, ...]] | None, asks: str = ""
) -> None:
    """Raises Refused (401) unless the header allows one of the actions of `need`: type, name, actions; None asks
    only for a good token. `asks` is what the challenge names as actions, if not the first of those."""
    found = grant(emulator, host, authorization)
    scope = f"{need[0]}:{need[1]}:{asks or need[2][0]}" if need else ""
    message, error = "authentication required", "invalid_token" if authorization else ""
    if found is not None:
        if need is None or found.allows(*need):
            return
        message, error = "the token does not allow this", "insufficient_scope"
    raise Refused(401, "UNAUTHORIZED", message, challenge(emulator, host, scope, error))


def _ours(emulator: Emulator, host: str, token: str, kind: str) -> dict[str, Any]:
    try:
        claims = Tokens(emulator).claims(token)
    except Refused as refused:
        raise _unauthorised(refused.message) from None
    if claims.get("grant_type") != kind or claims["aud"] != service(emulator, host):
        raise _unauthorised(f"that is not a {kind} of this registry")
    return claims


def _check_service(emulator: Emulator, host: str, asked: str) -> None:
    if asked.lower() != service(emulator, host).lower():
        raise Refused(400, "BAD_REQUEST", f"service is {service(emulator, host)}")


def _unauthorised(message: str) -> Refused:
    return Refused(401, "UNAUTHORIZED", message)
