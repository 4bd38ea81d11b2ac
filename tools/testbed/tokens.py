"""A token server: stands for ACR's and for the distribution specification's token endpoint.

`GET /token` and `POST /token` are those of the Distribution project's "Token Authentication Specification" and
"OAuth2 Token Authentication"; `POST /oauth2/exchange` and `GET|POST /oauth2/token` those of Azure Container
Registry ("Azure Container Registry OAuth"). Tokens are JWTs with RS256, for the granted actions only.
"""

from __future__ import annotations

import base64
import datetime
import hmac
import json
import secrets
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from testbed.ca import Certificate

ISSUER = "edgetrain-testbed"
LARGEST_FORM = 64 * 1024  # bytes
# ACR's name for a sign-in by refresh token instead of a password.
ACR_TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105


@dataclass(frozen=True)
class Account:
    """Who may do what: `grants` maps repository patterns (fnmatch) to actions such as "pull" and "push"."""

    password: str = field(repr=False)
    grants: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"*": ("pull", "push", "delete")})


class _Refused(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


class TokenServer:
    """Answers token requests on `host`, a free port. `lifetime` is in seconds and may be changed at any time.

    `requests` lists what was asked: (method, path, user or "", scopes). `entra` holds the Entra access tokens that
    `/oauth2/exchange` accepts and the accounts that they stand for. `anonymous` are the grants without a user.
    """

    def __init__(
        self,
        folder: Path,
        *,
        service: str,
        tls: Certificate | None,
        host: str = "127.0.0.1",
        bind: str = "127.0.0.1",
        accounts: Mapping[str, Account],
        lifetime: int = 300,
        anonymous: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.service = service
        self.accounts = dict(accounts)
        self.lifetime = lifetime
        self.anonymous = dict(anonymous or {})
        self.entra: dict[str, str] = {}
        self.requests: list[tuple[str, str, str, tuple[str, ...]]] = []
        self._refresh: dict[str, str] = {}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = _self_signed(self._key)
        self.root = folder / "token-root.pem"
        self.root.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._server = ThreadingHTTPServer((bind, 0), _handler(self))
        self._server.daemon_threads = True
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(tls.certificate, tls.key)
            # The handshake runs in the request's own thread: a stalled client must not hold up the others.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'https' if tls else 'http'}://{host}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def revoke(self) -> None:
        """Forget all refresh tokens."""
        self._refresh.clear()

    def token(self, user: str, scopes: Sequence[str]) -> str:
        """An access token with the actions that the user has of those asked for."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": user,
            "aud": self.service,
            "iat": now,
            # Registries allow a minute of skew; for short lives "not before" must not lie after "expires".
            "nbf": now - 10,
            "exp": now + self.lifetime,
            "jti": secrets.token_hex(8),
            "access": self._granted(user, scopes),
        }
        chain = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        signed = f"{_part({'typ': 'JWT', 'alg': 'RS256', 'x5c': [chain]})}.{_part(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_url64(signature)}"

    def _granted(self, user: str, scopes: Sequence[str]) -> list[dict[str, Any]]:
        grants = self.accounts[user].grants if user else self.anonymous
        granted = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            allowed = {action for pattern, mine in grants.items() if fnmatchcase(name, pattern) for action in mine}
            got = sorted(allowed & set(actions.split(",")))
            if kind == "repository" and got:
                granted.append({"type": kind, "name": name, "actions": got})
        return granted

    def answer(self, method: str, path: str, header: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """The JSON answer to one request; `query` is the query or the form."""
        one = {name: values[0] for name, values in query.items()}
        scopes = tuple(scope for value in query.get("scope", []) for scope in value.split())
        if path == "/oauth2/exchange":
            if method != "POST" or one.get("grant_type") != "access_token":
                raise _Refused(400, "unsupported_grant_type")
            self._for_us(one)
            user = self.entra.get(one.get("access_token", ""))
            self.requests.append((method, path, user or "", ()))
            if user is None:
                raise _Refused(401, "unauthorized")
            return {"refresh_token": self._new_refresh(user)}
        if path not in ("/token", "/oauth2/token"):
            raise _Refused(404, "not_found")
        self._for_us(one)
        user = self._form_user(one) if method == "POST" else self._basic_user(header)
        self.requests.append((method, path, user, scopes))
        token = self.token(user, scopes)
        if path == "/oauth2/token":
            return {"access_token": token}
        issued = datetime.datetime.now(datetime.UTC).isoformat()
        body: dict[str, Any] = {"access_token": token, "expires_in": self.lifetime, "issued_at": issued}
        if method == "GET":
            body["token"] = token
        offline = one.get("offline_token") == "true" or one.get("access_type") == "offline"
        if user and offline:
            body["refresh_token"] = self._new_refresh(user)
        return body

    def _for_us(self, one: Mapping[str, str]) -> None:
        if one.get("service") != self.service:
            raise _Refused(400, "invalid_service")

    def _basic_user(self, header: str) -> str:
        if not header:
            return ""
        scheme, _, value = header.partition(" ")
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            raise _Refused(401, "unauthorized") from None
        if scheme.lower() != "basic":
            raise _Refused(401, "unauthorized")
        if user == ACR_TOKEN_USER and password in self._refresh:
            return self._refresh[password]
        return self._checked(user, password)

    def _form_user(self, one: Mapping[str, str]) -> str:
        if one.get("grant_type") == "password":
            return self._checked(one.get("username", ""), one.get("password", ""))
        if one.get("grant_type") == "refresh_token":
            user = self._refresh.get(one.get("refresh_token", ""))
            if user is None:
                raise _Refused(401, "invalid_grant")
            return user
        raise _Refused(400, "unsupported_grant_type")

    def _checked(self, user: str, password: str) -> str:
        account = self.accounts.get(user)
        if account is None or not hmac.compare_digest(account.password.encode(), password.encode()):
            raise _Refused(401, "unauthorized")
        return user

    def _new_refresh(self, user: str) -> str:
        token = secrets.token_urlsafe(32)
        self._refresh[token] = user
        return token


def _handler(tokens: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > LARGEST_FORM:
                self.send_error(413)
                return
            self._answer(self.rfile.read(length).decode("ascii", "replace"))

        def _answer(self, query: str) -> None:
            try:
                body = tokens.answer(
                    self.command,
                    urlsplit(self.path).path,
                    self.headers.get("Authorization", ""),
                    parse_qs(query),
                )
                status = 200
            except _Refused as refused:
                status = refused.status
                body = {"errors": [{"code": refused.code.upper(), "message": refused.code}]}
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status == 401:
                self.send_header("WWW-Authenticate", f'Basic realm="{ISSUER}"')
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent: `requests` keeps what tests ask about."""

    return Handler


def _self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _part(value: Mapping[str, Any]) -> str:
    return _url64(json.dumps(value, separators=(",", ":")).encode())


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
