"""What a declared blob store says: endpoint, container, pinned version, authorities, proxy, credential."""

from __future__ import annotations

import ipaddress
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgetrain.core.errors import Rejected, Unavailable
from edgetrain.core.ports import Settings
from edgetrain.core.problem import shown
from edgetrain.core.secret import Secret

API_VERSION = "2019-07-07"
# Azure Stack Hub's older versions, which the SDK does not offer itself.
HOOKED_VERSIONS = ("2017-11-09", "2018-11-09")


@dataclass(frozen=True)
class Account:
    """One container of one account. `kind` is `sas`, `accountKey` or `token`; `secret` reads its value anew.

    `prefix` is empty or ends with a slash; `authorities` is a PEM file's path or empty.
    """

    endpoint: str
    name: str
    container: str
    prefix: str
    api_version: str
    authorities: str
    proxies: Mapping[str, str]
    kind: str
    secret: Callable[[], Secret] = field(repr=False, compare=False)

    @property
    def url(self) -> str:
        """The container's URL, without any access."""
        return f"{self.endpoint}/{self.container}"

    @property
    def secure(self) -> bool:
        """Whether requests go over TLS."""
        return self.endpoint.startswith("https://")

    def authorities_text(self) -> str:
        """The private authorities as PEM text, for a reader elsewhere. Raises Unavailable."""
        if not self.authorities:
            return ""
        try:
            return Path(self.authorities).read_text("ascii")
        except (OSError, UnicodeDecodeError):
            raise Unavailable(
                "the file of private certification authorities can't be read",
                reason="CaBundleMissing",
                fix="put the PEM file where caBundle in edgetrain.yaml says",
            ) from None


def account_of(settings: Settings) -> Account:
    """The account of a declared datastore or artifact store. Raises Rejected for an unfit endpoint."""
    block = settings.block
    endpoint = str(block["endpoint"]).rstrip("/")
    prefix = "/".join(part for part in str(block.get("prefix", "")).split("/") if part not in {"", "."})
    (kind, reference), *_ = block["credential"].items()
    bundle = str(block.get("caBundle", "") or settings.outbound.ca_bundle)
    return Account(
        endpoint=endpoint,
        name=_account_name(endpoint),
        container=str(block["container"]),
        prefix=f"{prefix}/" if prefix else "",
        api_version=str(block.get("apiVersion", API_VERSION)),
        authorities=str(Path(bundle).expanduser()) if bundle else "",
        proxies=_proxies(endpoint, settings),
        kind=kind,
        secret=lambda: settings.secret(reference["secret"]),
    )


def _account_name(endpoint: str) -> str:
    """Azure and Azure Stack Hub put the account first in the host, Azurite first in the path."""
    parts = urllib.parse.urlsplit(endpoint)
    path = [part for part in parts.path.split("/") if part]
    if len(path) == 1:
        return path[0]
    host = parts.hostname or ""
    if path or "." not in host or _is_address(host):
        raise Rejected(
            f"the endpoint {shown(endpoint, 200)} names no storage account",
            reason="EndpointWithoutAccount",
            fix="write https://<account>.blob.<region>.<domain>, or for Azurite http://<host>:<port>/<account>",
        )
    return host.partition(".")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _proxies(endpoint: str, settings: Settings) -> dict[str, str]:
    """The declared proxy, or else the environment's, unless this host needs none."""
    parts = urllib.parse.urlsplit(endpoint)
    host = parts.hostname or ""
    outbound = settings.outbound
    if outbound.proxy:
        needless = any(
            host == name.lstrip("*.") or host.endswith("." + name.lstrip("*.")) for name in outbound.no_proxy
        )
        return {} if needless else {"http": outbound.proxy, "https": outbound.proxy}
    found = urllib.request.getproxies()
    if urllib.request.proxy_bypass(host):
        return {}
    return {scheme: found[scheme] for scheme in ("http", "https") if scheme in found}
