"""What a failure of the blob service means. Messages hold no URL, no blob's name and no secret."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from edgetrain.core.errors import Conflict, Denied, NotFound, ProviderError, Rejected, Transient
from edgetrain.providers.azure_blob.sas import Given

_CODE = re.compile(r"[A-Za-z0-9]{1,64}")
# The service refuses requests signed more than 15 minutes from its own time.
_SKEW = timedelta(minutes=15)
_LATER = "try again later; edgetrain doctor says whether the store answers"
_ADDRESS = {"AuthorizationSourceIPMismatch", "IpAuthorizationError"}
_RIGHTS = {
    "AuthorizationPermissionMismatch",
    "AuthorizationResourceTypeMismatch",
    "AuthorizationServiceMismatch",
    "InsufficientAccountPermissions",
    "UnauthorizedBlobOverwrite",
}
_WRONG = {
    "accountKey": ("KeyRefused", "put the account's present key into the secret, and check the store's firewall"),
    "sas": ("SasRefused", "sign a new SAS for this container and put it into the secret"),
    "token": ("TokenRefused", "put a fresh token for https://storage.azure.com/ into the secret"),
}


def provider_error(error: Any, what: str, kind: str, given: Given | None = None) -> ProviderError:
    """The provider error of the SDK's `error` while doing `what`, with a credential of `kind` (`given`: the
    SAS used, if it is one)."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
    if status is None:
        return _unanswered(error, what)
    code = _code(error, response)
    message = f"{what}: the blob store answered {status}{' ' if code else ''}{code}"
    if status in {401, 403} or code in {"InvalidAuthenticationInfo", "AuthenticationFailed"}:
        return _denied(message, code, kind, given, response)
    if status == 404:
        if code == "ContainerNotFound":
            return NotFound(message, reason="ContainerMissing", fix="create the container, or correct its name")
        return NotFound(message, reason="BlobMissing", fix="check that what is named is still in the store")
    if code in {"BlobArchived", "BlobBeingRehydrated"}:
        return Rejected(message, reason=code, fix="bring the data back from the archive tier, then apply again")
    if status in {409, 412}:
        reason = code or ("ConditionNotMet" if status == 412 else "Conflict")
        return Conflict(message, reason=reason, fix="apply again")
    if status in {408, 429} or status >= 500:
        return Transient(message, reason="StoreBusy" if status in {429, 503} else "StoreFault", fix=_LATER)
    about = f"{getattr(error, 'additional_info', {}).get('headername', '')} {error}".lower()
    if code == "InvalidHeaderValue" and "version" in about:
        return Rejected(
            f"{what}: the blob store does not speak the pinned API version",
            reason="ApiVersionRefused",
            fix="pin apiVersion in edgetrain.yaml to one that the store speaks, such as 2019-07-07 or 2017-11-09",
        )
    return Rejected(message, reason=code or "StoreRefused", fix="check the store's declaration in edgetrain.yaml")


def service_time(response: Any) -> datetime | None:
    """The service's clock, from an answer's Date header."""
    try:
        moment: datetime = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _code(error: Any, response: Any) -> str:
    found = getattr(error, "error_code", None) or getattr(response, "headers", {}).get("x-ms-error-code", "")
    code = str(getattr(found, "value", found) or "")
    return code if _CODE.fullmatch(code) else ""


def _denied(message: str, code: str, kind: str, given: Given | None, response: Any) -> Denied:
    now = datetime.now(UTC)
    there = service_time(response) or now
    if given and given.expiry and given.expiry <= there:
        return Denied(message, reason="SasExpired", fix="sign a new SAS and put it into the secret")
    if (given and given.start and given.start > there) or abs(there - now) > _SKEW:
        minutes = round(abs(there - now).total_seconds() / 60)
        return Denied(
            f"{message}; its clock and ours differ by {minutes} min",
            reason="ClockSkew",
            fix="set the clock of the runner's host (NTP), and that of the store",
        )
    if code in _ADDRESS:
        return Denied(message, reason="AddressRefused", fix="allow the runner's address in the SAS or the firewall")
    if code == "AuthorizationProtocolMismatch":
        return Denied(message, reason="HttpsNeeded", fix="write the endpoint with https://")
    if code == "AccountIsDisabled":
        return Denied(message, reason="AccountDisabled", fix="enable the storage account")
    if code in _RIGHTS:
        return Denied(message, reason="RightMissing", fix="give the credential the right that this needs")
    reason, fix = _WRONG[kind]
    return Denied(message, reason=reason, fix=fix)


def _unanswered(error: Any, what: str) -> ProviderError:
    """No answer came, or none that could be read."""
    from azure.core.exceptions import ClientAuthenticationError, DecodeError
    from requests.exceptions import SSLError

    if isinstance(getattr(error, "inner_exception", None), SSLError):
        return Rejected(
            f"{what}: the blob store's certificate is not trusted",
            reason="CertificateUntrusted",
            fix="give the PEM file of the authority that signed it as caBundle, and check the endpoint's host name",
        )
    if isinstance(error, ClientAuthenticationError):  # the SDK could not even sign
        return Denied(
            f"{what}: the credential can't sign",
            reason="KeyMalformed",
            fix="put the storage account's key, as the portal shows it, into the secret",
        )
    if isinstance(error, DecodeError):
        return Transient(f"{what}: the blob store's answer is garbled", reason="StoreFault", fix=_LATER)
    return Transient(f"{what}: the blob store does not answer", reason="StoreUnreachable", fix=_LATER)
