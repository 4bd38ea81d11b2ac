"""What holds for every HTTP call of the providers: proxy, trusted certificates, and what is this machine."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

from edgetrain.core.errors import NotFound, Rejected
from edgetrain.core.ports import Outbound

# OpenSSL's X509_V_ERR_*: what is wrong, and what to do.
_CERTIFICATE = {
    10: ("TlsExpired", "its certificate has expired", "have it renewed, and look at the runner's clock"),
    9: ("TlsExpired", "its certificate is not valid yet", "look at the runner's clock"),
    62: ("TlsHostname", "its certificate is for another name", "use the name that stands in the certificate"),
    64: ("TlsHostname", "its certificate is for another address", "use the name that stands in the certificate"),
}
_UNTRUSTED = ("TlsUntrusted", "no authority that we trust signed its certificate", "set caBundle in edgetrain.yaml")


def proxy_for(outbound: Outbound, host: str) -> str:
    """The proxy by which the host is reached; empty for none."""
    return "" if any(_named(host.lower(), one.strip().lower()) for one in outbound.no_proxy) else outbound.proxy


def _named(host: str, entry: str) -> bool:
    """Whether an entry of noProxy means the host: a name, a suffix, an address or a network."""
    if entry in {"*", host} or host.endswith("." + entry.lstrip("*").lstrip(".")):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def loopback(host: str) -> bool:
    """Whether the host (without a port) is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bundles(*paths: str) -> None:
    """Raises NotFound if one of the files (or empty) is not there."""
    for path in filter(None, paths):
        if not Path(path).expanduser().is_file():
            raise NotFound(
                f"no CA bundle at {path}", reason="CaBundleMissing", fix="correct caBundle in edgetrain.yaml"
            )


def trust(instead: str, beside: str = "") -> ssl.SSLContext:
    """The machine's authorities, or those of the file `instead`; and those of the file `beside`."""
    try:
        context = ssl.create_default_context(cafile=str(Path(instead).expanduser()) if instead else None)
        if beside:
            context.load_verify_locations(str(Path(beside).expanduser()))
    except ssl.SSLError:
        raise Rejected(
            "a CA bundle is no PEM file", reason="CaBundleBroken", fix="put PEM certificates there"
        ) from None
    return context


def untrusted(error: ssl.SSLCertVerificationError, host: str) -> Rejected:
    """What is wrong with the certificate of the host."""
    reason, what, fix = _CERTIFICATE.get(error.verify_code, _UNTRUSTED)
    return Rejected(f"{host}: {what}", reason=reason, fix=fix)
