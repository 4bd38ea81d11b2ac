"""Access tokens: signed with the data folder's key, for one audience, and expiring."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from azureml_emulator import principals
from azureml_emulator.certificates import write_private
from azureml_emulator.message import Principal, Refused

if TYPE_CHECKING:
    from azureml_emulator.emulator import Emulator

ALGORITHM = "RS256"
# By short name: the resources that one may ask tokens for, without a slash at the end. The first is what we issue.
AUDIENCES = {
    "arm": (
        "https://management.azure.com",
        "https://management.core.windows.net",
        "https://management.emu.test",
    ),
    "aml": ("https://ml.azure.com", "https://ml.emu.test"),
    "acr": ("https://containerregistry.azure.net",),
    "storage": ("https://storage.azure.com",),
    "graph": ("https://graph.windows.net", "https://graph.microsoft.com", "https://graph.emu.test"),
    "run": ("https://ml.azure.com/run",),
}


def audience_of(resource: str) -> str | None:
    """The short name of a resource, None for one that is not known."""
    wanted = resource.rstrip("/").lower()
    return next((short for short, known in AUDIENCES.items() if wanted in known), None)


class Tokens:
    """The tokens of one emulator."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._key = key_in(emulator.options.folder / "tokens.key")

    def issue(self, principal_name: str, audience: str, life: float | None = None, tenant: str = "") -> str:
        """An access token for a registered principal; `audience` is a short name of AUDIENCES or a resource."""
        found = principals.named(self._emulator, principal_name)
        resource = AUDIENCES[audience][0] + "/" if audience in AUDIENCES else audience
        tid = tenant or self._emulator.options.tenant
        return self.sign(
            {
                "aud": resource,
                "iss": f"https://sts.windows.net/{tid}/",
                "tid": tid,
                "appid": found["clientId"],
                "oid": found["objectId"],
                "sub": found["objectId"],
                "idtyp": "app",
                "ver": "1.0",
            },
            life,
        )

    def run(self, run_id: str, experiment_id: str) -> tuple[str, str]:
        """The token that a run speaks with, for the data plane only, and when it expires (ISO 8601)."""
        token = self.sign(
            {
                "aud": AUDIENCES["run"][0],
                "iss": "azureml",
                "tid": self._emulator.options.tenant,
                "runid": run_id,
                "expid": experiment_id,
            }
        )
        ends = int(jwt.decode(token, options={"verify_signature": False})["exp"])
        return token, datetime.fromtimestamp(ends, UTC).isoformat().replace("+00:00", "Z")

    def sign(self, claims: dict[str, Any], life: float | None = None) -> str:
        """A token with these claims and the times of one that lives so long, from now."""
        now = self._emulator.now()
        ends = int(now + (self._emulator.options.token_life if life is None else life))
        times = {"iat": int(now), "nbf": int(now), "exp": ends, "jti": str(uuid.uuid4())}
        return jwt.encode({**claims, **times}, self._key, algorithm=ALGORITHM)

    def claims(self, token: str) -> dict[str, Any]:
        """What a token of ours says, once its signature and times are checked. Raises Refused (401)."""
        try:
            found: dict[str, Any] = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=[ALGORITHM],
                options={"verify_aud": False, "verify_iat": False, "verify_nbf": False, "require": ["exp", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise Refused(401, "ExpiredAuthenticationToken", "The access token expiry UTC time is past.") from None
        except jwt.InvalidTokenError:
            raise Refused(401, "InvalidAuthenticationToken", "The access token is invalid.") from None
        return found

    def check(self, token: str) -> tuple[Principal, str]:
        """Who speaks with the token, and the short name of its audience. Raises Refused (401)."""
        claims = self.claims(token)
        audience = audience_of(str(claims["aud"]))
        if audience is None:
            raise Refused(401, "InvalidAuthenticationTokenAudience", "The access token has the wrong audience.")
        if audience == "run":
            return Principal(name=f"run {claims['runid']}", role="run", run=str(claims["runid"])), audience
        found = principals.by_client(self._emulator, str(claims.get("appid", "")))
        if found is None:
            raise Refused(401, "InvalidAuthenticationToken", "The access token's application is not known.")
        return Principal(name=found["name"], role=found["role"]), audience


@lru_cache(maxsize=64)
def key_in(path: Path) -> rsa.RSAPrivateKey:
    """The key in the file; made if there is none."""
    if not path.is_file():
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        write_private(
            path,
            made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{path.name} is not an RSA key")
    return key


def jwks(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    """The public half, as a key set."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {"keys": [{**public, "kid": kid, "use": "sig", "alg": ALGORITHM}]}
