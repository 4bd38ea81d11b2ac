"""Names to addresses, and whether these lie in the site's networks: it is the address that is then connected to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from edgetrain.core.errors import NotFound, Rejected, Transient

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check(host: str, addresses: Sequence[str], networks: Sequence[str]) -> list[str]:
    """The addresses, without doubles. Raises Rejected unless every one of them lies in `networks`."""
    if not networks:
        raise Rejected(
            f"{host} can't be used: the site declares no networks",
            reason="NetworksMissing",
            fix="list the site's networks in edgetrain.yaml, such as 10.20.0.0/16: spec.sites.<name>.networks",
        )
    allowed = [ipaddress.ip_network(network, strict=False) for network in networks]
    found = list(dict.fromkeys(_plain(address) for address in addresses))
    for address in found:
        if not any(address.version == network.version and address in network for network in allowed):
            raise Rejected(
                f"{host} has the address {address}, which lies outside the site's networks",
                reason="AddressOutside",
                fix="correct the target's host, or the site's networks in edgetrain.yaml",
            )
    return [str(address) for address in found]


def _plain(address: str) -> Address:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def resolve(host: str, port: int, networks: Sequence[str]) -> list[str]:
    """The addresses of `host`, all of them inside `networks`. Raises NotFound or Transient for a name."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        message, fix = f"the name {host} has no address here", "check the target's host, and the runner's DNS"
        if error.errno == socket.EAI_AGAIN:
            raise Transient(message, reason="NameNotResolved", fix=fix) from None
        raise NotFound(message, reason="NameNotResolved", fix=fix) from None
    except (UnicodeError, OSError):
        raise NotFound(
            f"the name {host} can't be looked up",
            reason="NameNotResolved",
            fix="check the name, and DNS on the runner",
        ) from None
    return check(host, [str(entry[4][0]) for entry in found], networks)
