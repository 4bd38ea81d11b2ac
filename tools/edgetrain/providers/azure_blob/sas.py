"""Shared access signatures of one container: made by hand, for the SDK signs for its newest version only.

Layouts of the string to sign: Microsoft's "Create a service SAS",
https://learn.microsoft.com/rest/api/storageservices/create-service-sas
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import urllib.parse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from edgetrain.core.errors import Denied

# The runner's clock may be ahead of the service's.
SLACK = timedelta(minutes=5)
READ_AND_LIST = "rl"


def container_sas(
    *,
    account: str,
    container: str,
    key: str,
    version: str,
    now: datetime,
    lifetime: timedelta,
    secure: bool = True,
    addresses: str = "",
) -> str:
    """A query string that allows reading and listing the container from five minutes ago for `lifetime`.

    `key` is the account's key in base64; `addresses` an IP address or range (`a-b`) that it is good for;
    without `secure` it is good over plain HTTP too (Azurite). Raises Denied if the key is no base64.
    """
    start, expiry = _stamp(now - SLACK), _stamp(now + lifetime)
    protocol = "https" if secure else "https,http"
    fields = [READ_AND_LIST, start, expiry, f"/blob/{account}/{container}", "", addresses, protocol, version]
    if version >= "2018-11-09":
        fields += ["c", ""]  # resource and snapshot time
    if version >= "2020-12-06":
        fields += [""]  # encryption scope
    fields += [""] * 5  # headers that the answer should carry instead of the blob's own
    query = {"sv": version, "sr": "c", "sp": READ_AND_LIST, "st": start, "se": expiry, "spr": protocol}
    if addresses:
        query["sip"] = addresses
    query["sig"] = sign(key, "\n".join(fields))
    return urllib.parse.urlencode(query, quote_via=urllib.parse.quote, safe="")


def sign(key: str, text: str) -> str:
    """HMAC-SHA256 in base64. Raises Denied if the key is no base64."""
    try:
        secret = base64.b64decode(key, validate=True)
    except binascii.Error:
        raise Denied(
            "the account key is not in base64",
            reason="KeyMalformed",
            fix="put the storage account's key, as the portal shows it, into the secret",
        ) from None
    return base64.b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).decode()


@dataclass(frozen=True)
class Given:
    """What a signature given as a credential says of itself. `expiry` is None where a stored policy holds it."""

    start: datetime | None
    expiry: datetime | None
    reads_only: bool


def read_sas(text: str) -> Given:
    """Look at a signature's own words. Raises Denied if it is none.

    `reads_only`: it is for one container, allows no more than read and list, and says so itself.
    """
    query = dict(urllib.parse.parse_qsl(text.removeprefix("?")))
    if "sig" not in query or "sv" not in query or "://" in text:
        raise Denied(
            "the secret holds no shared access signature",
            reason="SasMalformed",
            fix="put the query part (sv=...&sig=...) of the signed URL into the secret, without the URL before it",
        )
    permissions = query.get("sp", "")
    reads_only = query.get("sr") == "c" and set(permissions) == set(READ_AND_LIST) and "si" not in query
    return Given(_moment(query.get("st", "")), _moment(query.get("se", "")), reads_only)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
