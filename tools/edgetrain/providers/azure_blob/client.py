"""One container over azure-storage-blob: the pinned version on the wire, its faults as ours, nothing in logs."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from edgetrain.core.errors import Conflict, NotFound, Rejected, Transient
from edgetrain.providers.azure_blob.account import HOOKED_VERSIONS, Account
from edgetrain.providers.azure_blob.faults import provider_error, service_time
from edgetrain.providers.azure_blob.sas import SLACK, container_sas, read_sas

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

BLOCK = 8 * 2**20
_READ = 4 * 2**20
PAGE = 5000  # the most that the service lists at once
_PARALLEL = 4
_SCOPE_LIFE = 300
# How the service says that a blob is there already.
_THERE = {"BlobAlreadyExists", "ConditionNotMet", "LeaseIdMissing"}


@dataclass(frozen=True)
class Blob:
    """A blob as listed or looked at: its whole name, bytes, ETag without quotes, whether it marks a folder."""

    name: str
    size: int
    etag: str
    folder: bool = False


@dataclass(frozen=True)
class Answer:
    """How the service answered a probe: its API version and its clock, as far as told."""

    version: str
    clock: datetime | None


class _Declared:
    """A bearer token that someone else renews: its secret is read again whenever the SDK asks."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def get_token(self, *_scopes: str, **_: Any) -> AccessToken:
        from azure.core.credentials import AccessToken

        return AccessToken(self._account.secret().reveal(), int(time.time()) + _SCOPE_LIFE)


class Container:
    """The container of `account`. `tokens` replaces the declared token; `retries` bounds the SDK's own policy.

    Every method raises the kinds of `faults.provider_error`.
    """

    def __init__(self, account: Account, *, tokens: TokenCredential | None = None, retries: int = 3) -> None:
        self.account = account
        self._tokens = tokens
        self._retries = retries
        secret = "" if account.kind == "token" else account.secret().reveal()
        self.given = read_sas(secret) if account.kind == "sas" else None
        self._client = self._open(secret)

    def _open(self, secret: str) -> Any:
        from azure.storage.blob import ContainerClient

        self.account.authorities_text()  # the SDK would fail on an absent file in the middle of a request
        try:
            return ContainerClient(
                self.account.endpoint,
                self.account.container,
                credential=self._credential(secret),
                **self._options(),
            )
        except ValueError as error:
            if "api version" not in str(error).lower():
                raise
            raise Rejected(
                f"no blob API version {self.account.api_version} is known",
                reason="ApiVersionUnsupported",
                fix=f"pin one of {', '.join(HOOKED_VERSIONS)}, 2019-02-02, 2019-07-07, or a later one",
            ) from None

    def _credential(self, secret: str) -> Any:
        from azure.core.credentials import AzureSasCredential

        if self.account.kind == "sas":
            return AzureSasCredential(secret)
        if self.account.kind == "accountKey":
            return {"account_name": self.account.name, "account_key": secret}
        if not self.account.secure:
            raise Rejected(
                "a token is never sent without TLS", reason="HttpsNeeded", fix="write the endpoint with https://"
            )
        return self._tokens or _Declared(self.account)

    def _options(self) -> dict[str, Any]:
        from azure.storage.blob import ExponentialRetry

        account = self.account
        hidden = logging.Logger("edgetrain.blob", logging.CRITICAL + 1)
        _quieten(account.endpoint)
        options: dict[str, Any] = {
            "api_version": account.api_version,
            "retry_policy": ExponentialRetry(1, 2, self._retries, random_jitter_range=1),
            "connection_timeout": 10,
            "read_timeout": 60,
            "connection_verify": account.authorities or True,
            "proxies": dict(account.proxies),
            "use_env_settings": False,
            "permit_redirects": False,
            "logger": hidden,  # the SDK would log URLs: they hold names of data
            "max_single_put_size": BLOCK,
            "max_block_size": BLOCK,
            "max_single_get_size": _READ,
            "max_chunk_get_size": _READ,
        }
        if account.api_version in HOOKED_VERSIONS:
            # Set before the request is signed; the SDK itself goes back to 2019-02-02 only.
            options["api_version"] = "2019-02-02"
            options["raw_request_hook"] = _pin(account.api_version)
        return options

    @contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        from azure.core.exceptions import AzureError
        from requests.exceptions import RequestException

        try:
            yield
        except (AzureError, RequestException) as error:
            raise provider_error(error, what, self.account.kind, self.given) from None

    def answer(self) -> Answer:
        """Ask the service for one name, whatever it holds."""
        seen: list[Any] = []
        with self._faults("looking at the container"):
            pages = self._client.list_blobs(
                name_starts_with=self.account.prefix or None,
                results_per_page=1,
                raw_response_hook=lambda response: seen.append(response.http_response),
            ).by_page()
            next(pages, None)
        return Answer(seen[-1].headers.get("x-ms-version", ""), service_time(seen[-1]))

    def blobs(self, prefix: str, page: int = PAGE) -> Iterator[Blob]:
        """All blobs whose names start with `prefix`, in the service's order, read a page at a time."""
        with self._faults("listing the container"):
            for found in self._client.list_blobs(
                name_starts_with=prefix or None, include=["metadata"], results_per_page=page
            ):
                yield _blob(found.name, found)

    def look(self, name: str) -> Blob | None:
        """The blob of this name, if there is one."""
        try:
            with self._faults("looking at a blob"):
                return _blob(name, self._client.get_blob_client(name).get_blob_properties())
        except NotFound as error:
            if error.reason == "ContainerMissing":
                raise
            return None

    def read(self, blob: Blob, offset: int = 0) -> Iterator[bytes]:
        """The bytes from `offset`, as long as the blob is the one that was listed.

        Raises Conflict if it has another ETag by now, NotFound if it is gone.
        """
        same = self._same(blob)
        with self._faults("reading a blob"):
            client = self._client.get_blob_client(blob.name)
            if offset >= blob.size:
                client.get_blob_properties(**same)  # nothing to read, but still to be there unchanged
                return
            got = 0
            # Without `decompress` a blob with a content encoding would come as other bytes than are stored.
            length = blob.size - offset
            for chunk in client.download_blob(offset=offset, length=length, decompress=False, **same).chunks():
                got += len(chunk)
                yield chunk
        if got != blob.size - offset:
            raise Transient("reading a blob: the answer was cut short", reason="StoreFault", fix="apply again")

    def create(self, name: str, source: BinaryIO | io.RawIOBase, size: int) -> bool:
        """Store `size` bytes as a new blob, in blocks that stay invisible until the last; False if it exists."""
        try:
            with self._faults("storing a blob"):
                self._client.get_blob_client(name).upload_blob(
                    source, length=size, overwrite=False, max_concurrency=_PARALLEL
                )
        except Conflict as error:
            if error.reason not in _THERE:
                raise
            return False
        except Rejected as error:
            # Another writer's commit throws away the blocks that it did not name.
            if error.reason != "InvalidBlockList" or self.look(name) is None:
                raise
            return False
        return True

    def delete(self, blob: Blob | str) -> None:
        """Remove, if present; a `Blob` only as it was looked at, else Conflict."""
        same = self._same(blob) if isinstance(blob, Blob) else {}
        name = blob.name if isinstance(blob, Blob) else blob
        try:
            with self._faults("deleting a blob"):
                self._client.get_blob_client(name).delete_blob(delete_snapshots="include", **same)
        except NotFound as error:
            if error.reason == "ContainerMissing":
                raise

    def lease(self, name: str, seconds: int) -> Lease:
        """Take the blob's lease. Raises Conflict with reason LeaseAlreadyPresent, NotFound."""
        with self._faults("taking a lock"):
            return Lease(self, self._client.get_blob_client(name).acquire_lease(seconds))

    def sas(self, now: datetime, lifetime: timedelta, addresses: str = "") -> str | None:
        """A short-lived signature for reading and listing this container, to be given to a target.

        None where the credential can make none: a SAS that allows more, or a service without delegation.
        """
        account = self.account
        if account.kind == "accountKey":
            return container_sas(
                account=account.name,
                container=account.container,
                key=account.secret().reveal(),
                version=account.api_version,
                now=now,
                lifetime=lifetime,
                secure=account.secure,
                addresses=addresses,
            )
        if account.kind == "sas":
            return account.secret().reveal().removeprefix("?") if self.given and self.given.reads_only else None
        return self._delegated(now, lifetime, addresses)

    def _delegated(self, now: datetime, lifetime: timedelta, addresses: str) -> str | None:
        from azure.storage.blob import BlobServiceClient, generate_container_sas

        service = BlobServiceClient(self.account.endpoint, credential=self._credential(""), **self._options())
        try:
            with self._faults("asking for a delegation key"):
                key = service.get_user_delegation_key(now - SLACK, now + lifetime)
        except (Rejected, Conflict, NotFound):  # not served here, as on Azure Stack Hub
            return None
        return generate_container_sas(
            self.account.name,
            self.account.container,
            user_delegation_key=key,
            permission="rl",
            start=now - SLACK,
            expiry=now + lifetime,
            ip=addresses or None,
            protocol="https",
        )

    @staticmethod
    def _same(blob: Blob) -> dict[str, Any]:
        from azure.core import MatchConditions

        return {"etag": f'"{blob.etag}"', "match_condition": MatchConditions.IfNotModified}


class Lease:
    """A lease that we hold. Its calls are short: a late answer is as good as none."""

    def __init__(self, container: Container, client: Any) -> None:
        self._container = container
        self._client = client

    def renew(self) -> None:
        """Begin its time anew. Raises Conflict if another holds it, NotFound."""
        with self._container._faults("renewing a lock"):
            self._client.renew(retry_total=0, connection_timeout=5, read_timeout=5)

    def release(self) -> None:
        """Give it back. Raises Conflict if it was lost."""
        with self._container._faults("releasing a lock"):
            self._client.release(retry_total=1, connection_timeout=5, read_timeout=5)


def now() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


def _blob(name: str, found: Any) -> Blob:
    marked = str((found.metadata or {}).get("hdi_isfolder", "")).lower() == "true"
    return Blob(
        name=name,
        size=found.size,
        etag=str(found.etag).strip('"'),
        folder=found.size == 0 and (marked or name.endswith("/")),
    )


def _pin(version: str) -> Callable[[Any], None]:
    def pin(request: Any) -> None:
        request.http_request.headers["x-ms-version"] = version

    return pin


class _Discreet(logging.Filter):
    """Drops urllib3's lines about our hosts, and any with a signature: they hold names and secrets."""

    hosts: set[str] = set()  # noqa: RUF012 - one for the process, as the logger is

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line may be logged."""
        # The whole line: another filter before this one may have put the values into it.
        said = record.getMessage()
        return "sig=" not in said and not any(host in said for host in self.hosts)


_DISCREET = _Discreet()


def _quieten(endpoint: str) -> None:
    from urllib.parse import urlsplit

    if host := urlsplit(endpoint).hostname:
        _Discreet.hosts.add(host)
    logging.getLogger("urllib3.connectionpool").addFilter(_DISCREET)
