"""Signing in to a registry: anonymous, basic, tokens whose scope grows, and ACR's exchange.

Sources: RFC 7235 and 6750 (challenges); the Distribution project's "Token Authentication Specification" and "OAuth2
Token Authentication"; Microsoft's "Azure Container Registry OAuth".

A credential goes to the registry itself, and to the realm that the registry names, if that is reached over https or
is on the registry's own machine. It goes nowhere else, and into no message.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urljoin, urlsplit

from edgetrain.core.errors import Denied, NotFound, Rejected
from edgetrain.core.secret import Secret
from edgetrain.providers.oci.transport import Answer, Transport, discard, read_json, refusal

Scopes = frozenset[str]

# The token specification's default, and how long before its end a token counts as over, in seconds.
LIFETIME = 60.0
MARGIN = 15.0
TOKENS = 50
CLIENT = "edgetrain"
_CHALLENGE = re.compile(r"\s*([A-Za-z]+)(?:\s+|\s*$)((?:[A-Za-z_]+\s*=\s*(?:\"[^\"]*\"|[^\s,\"]*)\s*,?\s*)*)")
_PARAMETER = re.compile(r"([A-Za-z_]+)\s*=\s*(?:\"([^\"]*)\"|([^\s,\"]*))")


@dataclass(frozen=True)
class Credential:
    """Who we are: a user with a password, or a token (refresh, access, or Entra's for ACR's exchange)."""

    username: str = ""
    password: Callable[[], Secret] | None = field(default=None, repr=False)
    token: Callable[[], Secret] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Challenge:
    """What a registry's WWW-Authenticate asks for; `scheme` in lower case."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""
    error: str = ""


@dataclass(frozen=True)
class _Token:
    value: Secret
    scopes: Scopes
    until: float

    def serves(self, scopes: Scopes, now: float) -> bool:
        return now < self.until and all(any(_holds(have, want) for have in self.scopes) for want in scopes)


def pull(repository: str) -> str:
    """The scope to read a repository."""
    return f"repository:{repository}:pull"


def push(repository: str) -> str:
    """The scope to write to a repository."""
    return f"repository:{repository}:pull,push"


def delete(repository: str) -> str:
    """The scope to delete in a repository."""
    return f"repository:{repository}:delete,pull"


def _holds(have: str, want: str) -> bool:
    """Whether one scope gives what the other does: of the same repository, all its actions and perhaps more."""
    (held, _, given), (named, _, wanted) = have.rpartition(":"), want.rpartition(":")
    return held == named and {*wanted.split(",")} <= {*given.split(",")}


def challenges(header: str) -> dict[str, Challenge]:
    """The challenges of a WWW-Authenticate header, by scheme."""
    found = {}
    for match in _CHALLENGE.finditer(header[:8192]):
        given = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(match[2])}
        scheme = match[1].lower()
        found[scheme] = Challenge(scheme, *(given.get(name, "") for name in ("realm", "service", "scope", "error")))
    return found


class Authenticator:
    """Knows what to send with a request; safe for many threads. `now` gives seconds on a clock that nobody sets."""

    def __init__(
        self, transport: Transport, credential: Credential | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._credential = credential
        self._now = now
        self._lock = threading.RLock()
        self._challenge: Challenge | None = None
        self._tokens: list[_Token] = []
        self._refresh: Secret | None = None
        self._grown: dict[Scopes, Scopes] = {}

    def header(self, scopes: Scopes) -> Secret | None:
        """The Authorization header for a request that needs these scopes; None as long as none was asked for.

        Raises Denied if the credential is refused, Transient if the token server does not answer.
        """
        with self._lock:
            asked = self._challenge
            if asked is None:
                return None
            if asked.scheme == "basic":
                return self._basic()
            scopes = self._grown.get(scopes, scopes)
            for token in self._tokens:
                if token.serves(scopes, self._now()):
                    return token.value
            token = self._fetch(asked, scopes)
            live = [one for one in self._tokens if self._now() < one.until]
            self._tokens = [token, *live][:TOKENS]
            return token.value

    def challenged(self, answer: Answer, sent: Secret | None, scopes: Scopes) -> bool:
        """Take in the challenge of a 401; whether to ask again. `sent` went with the request for `scopes`."""
        offered = challenges(", ".join(answer.headers.getlist("www-authenticate")))
        with self._lock:
            known = self._challenge
            chosen = offered.get("bearer") or offered.get("basic")
            if chosen is None or (chosen.scheme == "bearer" and not chosen.realm):
                return False
            self._challenge = chosen
            if sent is None or (known is not None and chosen.scheme != known.scheme):
                return True
            if chosen.scheme == "basic":
                return False
            grew = self._grow(scopes, chosen.scope)
            if chosen.error == "insufficient_scope" and not grew:
                return False
            # Another thread may have got a new token meanwhile: only the one that was refused goes.
            self._tokens = [token for token in self._tokens if token.value is not sent]
            return True

    def _grow(self, scopes: Scopes, asked: str) -> bool:
        """A registry may want other actions (ACR's `metadata_read`): of the repositories that we named, they are
        asked for too."""
        known = self._grown.get(scopes, scopes)
        names = {scope.rpartition(":")[0] for scope in scopes}
        more = {scope for scope in asked.split()[:10] if scope.rpartition(":")[0] in names}
        more = {scope for scope in more if not any(_holds(have, scope) for have in known)}
        self._grown[scopes] = known | more
        return bool(more)

    def _basic(self) -> Secret | None:
        mine = self._credential
        if mine is None or mine.password is None:
            raise Denied(
                f"{self._transport.host} asks for a user and a password",
                reason="LoginRequired",
                fix="give the registry a credential in edgetrain.yaml",
            )
        return _basic(mine.username, mine.password())

    def _fetch(self, asked: Challenge, scopes: Scopes) -> _Token:
        """A token of these scopes. Anonymous ones are asked for too: a registry may let everybody read."""
        realm = self._realm(asked)
        mine = self._credential
        if mine is not None and mine.token is not None:
            return self._of_refresh(asked, realm, scopes, mine.token)
        query = [("service", asked.service), *(("scope", scope) for scope in sorted(scopes))]
        headers = {}
        if mine is not None and mine.password is not None:
            headers["Authorization"] = _basic(mine.username, mine.password()).reveal()
            query.insert(0, ("client_id", CLIENT))
        url = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}"
        return self._token(self._transport.send("GET", url, headers=headers), scopes)

    def _of_refresh(self, asked: Challenge, realm: str, scopes: Scopes, given: Callable[[], Secret]) -> _Token:
        """By a refresh token: the one given, or what ACR exchanges it for. An access token is used as it is."""
        acr = urlsplit(realm).path.endswith("/oauth2/token")
        if self._refresh is None:
            self._refresh = self._exchanged(asked, realm, given()) if acr else given()
        form = {
            "grant_type": "refresh_token",
            "service": asked.service,
            "client_id": CLIENT,
            "scope": " ".join(sorted(scopes)),
            "refresh_token": self._refresh.reveal(),
        }
        answer = self._post(realm, form)
        if answer.status in {400, 401} and acr and self._refresh.reveal() != given().reveal():
            # The refresh token is over (three hours at ACR): exchange anew, once.
            discard(answer)
            self._refresh = self._exchanged(asked, realm, given())
            answer = self._post(realm, {**form, "refresh_token": self._refresh.reveal()})
        if answer.status in {404, 405} and not acr:
            discard(answer)
            return _Token(Secret(f"Bearer {given().reveal()}"), scopes, float("inf"))
        return self._token(answer, scopes)

    def _exchanged(self, asked: Challenge, realm: str, given: Secret) -> Secret:
        """ACR's refresh token for an Entra access token; one that is none is taken for a refresh token."""
        form = {"grant_type": "access_token", "service": asked.service, "access_token": given.reveal()}
        answer = self._post(urljoin(realm, "exchange"), form)
        if answer.status in {400, 401, 404}:
            discard(answer)
            return given
        if answer.status != 200:
            raise refusal(answer, self._transport.host, "exchange the token")
        return _text(read_json(answer), "refresh_token")

    def _post(self, url: str, form: Mapping[str, str]) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._transport.send("POST", url, headers=headers, body=urlencode(form).encode())

    def _token(self, answer: Answer, scopes: Scopes) -> _Token:
        if answer.status != 200:
            failure = refusal(answer, self._transport.host, "give a token")
            if isinstance(failure, NotFound | Rejected):
                failure = Denied(failure.message, reason="LoginRefused", fix="look at the registry's credential")
            raise failure
        got = read_json(answer)
        value = _text(got, "token" if "token" in got else "access_token")
        lifetime = got.get("expires_in", LIFETIME)
        if type(lifetime) not in {int, float} or not 0 <= lifetime < 10**9:
            lifetime = LIFETIME
        # From our own clock, which may differ from theirs: the answer's issued_at is not looked at.
        until = self._now() + max(lifetime - MARGIN, lifetime / 2)
        return _Token(Secret(f"Bearer {value.reveal()}"), scopes, until)

    def _realm(self, asked: Challenge) -> str:
        url = urljoin(self._transport.url, asked.realm)
        host = urlsplit(url).hostname
        if urlsplit(url).scheme != "https" and (
            host != urlsplit(self._transport.url).hostname or self._transport.url.startswith("https:")
        ):
            raise Denied(
                f"{self._transport.host} wants our credential sent without https",
                reason="InsecureRealm",
                fix="give the registry's token server https",
            )
        return url


def _basic(username: str, password: Secret) -> Secret:
    return Secret("Basic " + base64.b64encode(f"{username}:{password.reveal()}".encode()).decode())


def _text(got: Mapping[str, object], name: str) -> Secret:
    value = got.get(name)
    if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]{1,65536}", value):
        raise Denied("the token server gave no token", reason="NoToken", fix="look at the token server's log")
    return Secret(value)
