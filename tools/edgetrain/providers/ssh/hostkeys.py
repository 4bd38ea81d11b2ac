"""Host keys: only those that the manifest pins are taken; a refusal shows what was seen and what is expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgetrain.core.errors import Denied, Rejected
from edgetrain.core.problem import shown

if TYPE_CHECKING:
    import asyncssh

FIX = (
    "find out why before anything else: ask who runs the machine for its keys (`ssh-keygen -lf "
    "/etc/ssh/ssh_host_ed25519_key.pub`, read on its console); if it really has new ones, pin them under hostKeys"
)


def pinned(lines: Sequence[str], host: str) -> list[asyncssh.SSHKey]:
    """The manifest's keys. Raises Rejected for a line that is no public key, or if there is none."""
    import asyncssh

    keys = []
    for line in lines:
        try:
            keys.append(asyncssh.import_public_key(line))
        except (asyncssh.KeyImportError, ValueError):
            raise Rejected(
                f"a pinned host key of {host} is no public key: {shown(line, 40)}",
                reason="InvalidHostKey",
                fix="write it as `ssh-keyscan` prints it, without the host: `ssh-ed25519 AAAA...`",
            ) from None
    if not keys:
        raise Rejected(
            f"no host key of {host} is pinned",
            reason="InvalidHostKey",
            fix="list its keys under ssh.hostKeys: ssh-keyscan prints them, compare with the machine's own",
        )
    return keys


def algorithms(keys: Sequence[asyncssh.SSHKey]) -> list[str]:
    """The signature algorithms that these keys can answer with, best first; SHA-1 is not among them."""
    found = [name.decode("ascii") for key in keys for name in key.sig_algorithms]
    return [name for name in dict.fromkeys(found) if name.startswith(("ssh-ed25519", "ecdsa-sha2-", "rsa-sha2-"))]


def mismatch(host: str, seen: asyncssh.SSHKey | None, expected: Sequence[asyncssh.SSHKey]) -> Denied:
    """The refusal of a server that shows another key; `seen` None if it shows none of the pinned types."""
    shows = f"shows {told(seen)}" if seen else "shows no host key of a pinned type"
    wanted = " or ".join(told(key) for key in expected)
    return Denied(f"{host} {shows}; expected: {wanted}", reason="HostKeyMismatch", fix=FIX)


def told(key: asyncssh.SSHKey) -> str:
    """Such as `ssh-ed25519 SHA256:...`."""
    return f"{key.get_algorithm()} {key.get_fingerprint('sha256')}"
