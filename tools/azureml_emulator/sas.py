"""Signed addresses of blobs: one blob or one container, some permissions, for some time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from azureml_emulator.emulator import Emulator
from azureml_emulator.message import Refused, Request

VERSION = "2019-07-07"
_ORDER = "racwdl"
_SKEW = 900.0


def sign(emulator: Emulator, container: str, path: str, permissions: str = "r", life: float | None = None) -> str:
    """The query string (without `?`) that allows this on one blob, or on the whole container if `path` is empty.

    Permissions: r(ead), a(dd: append), c(reate), w(rite), d(elete), l(ist). `life` in seconds; unless said, that of
    the options.
    """
    now = emulator.now()
    fields = {
        "sv": VERSION,
        "sr": "b" if path else "c",
        "st": _time(now - _SKEW),
        "se": _time(now + (emulator.options.sas_life if life is None else life)),
        "sp": "".join(letter for letter in _ORDER if letter in permissions),
    }
    fields["sig"] = _signature(emulator, fields, container, path)
    return urlencode(fields)


def address(emulator: Emulator, host: str, container: str, path: str, permissions: str = "r") -> str:
    """The whole signed address of a blob, for whoever asked by this host name."""
    signed = sign(emulator, container, path, permissions)
    # Blanks and letters of any script stand as they are: the client quotes what it finds, once more.
    return f"{emulator.urls(host).blob}/{container}/{path.replace('?', '%3F').replace('#', '%23')}?{signed}"


def located(address: str) -> tuple[str, str]:
    """Container and path of an address as `address` writes them."""
    container, _, path = urlsplit(address).path.lstrip("/").partition("/")
    return container, path.replace("%3F", "?").replace("%23", "#")


def check(emulator: Emulator, request: Request, container: str, path: str, permission: str) -> None:
    """Raises Refused unless the request's signature covers one of the letters of `permission` on this blob, now.

    An empty `path` asks for the container.
    """
    given = {key: request.query.get(key, "") for key in ("sv", "sr", "st", "se", "sp", "sig")}
    if not given["sig"]:
        raise Refused(403, "AuthenticationFailed", "the request is not signed")
    covered = path if given["sr"] == "b" else ""
    if not hmac.compare_digest(_signature(emulator, given, container, covered).encode(), given["sig"].encode()):
        raise Refused(403, "AuthenticationFailed", "the signature does not match")
    try:
        start, end = _seconds(given["st"]), _seconds(given["se"])
    except ValueError:
        raise Refused(403, "AuthenticationFailed", "the signature's times can't be read") from None
    if not start <= emulator.now() < end:
        raise Refused(403, "AuthenticationFailed", f"signed for {given['st']} to {given['se']} only")
    if not path and given["sr"] != "c":
        raise Refused(403, "AuthorizationResourceTypeMismatch", "the signature is for one blob")
    if not set(permission) & set(given["sp"]):
        raise Refused(403, "AuthorizationPermissionMismatch", "the signature does not allow this")


def _signature(emulator: Emulator, fields: dict[str, str], container: str, path: str) -> str:
    signed = "\n".join((*(fields[key] for key in ("sp", "st", "se", "sr", "sv")), f"/blob/{container}/{path}"))
    return base64.b64encode(hmac.new(_key(emulator), signed.encode(), hashlib.sha256).digest()).decode()


def _key(emulator: Emulator) -> bytes:
    with emulator.store.transaction():
        kept = emulator.store.get("emulator", "sas-key")
        if kept is None:
            kept = {"key": secrets.token_hex(32)}
            emulator.store.put("emulator", "sas-key", kept)
    return bytes.fromhex(kept["key"])


def _time(seconds: float) -> str:
    # A fraction is kept: lives in tests are shorter than a second.
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
