"""Whether a machine lets an account in over SSH: asked once, when it is attached."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import asyncssh

PATIENCE = 10.0


@dataclass(frozen=True)
class Probed:
    """The machine's public key as it showed it (empty if it did not come so far), and code and message of what
    went wrong, None if it let us in."""

    host_key: str
    failure: tuple[str, str] | None


def probe(host: str, port: int, username: str, password: str, private_key: str, passphrase: str) -> Probed:
    """Sign in, run nothing, and leave."""
    keys = []
    if private_key:
        try:
            keys = [asyncssh.import_private_key(private_key, passphrase or None)]
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            failure = ("InvalidPrivateKey", "The private key could not be read with the passphrase that was given.")
            return Probed("", failure)
    return asyncio.run(_probe(host, port, username, password, keys))


async def _probe(host: str, port: int, username: str, password: str, keys: list[asyncssh.SSHKey]) -> Probed:
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(PATIENCE):
            async with asyncssh.connect(
                host,
                port,
                username=username,
                password=password or None,
                client_keys=keys or None,
                # The service is told no host key either: it takes what it meets when a machine is attached.
                known_hosts=None,
                config=None,
                agent_path=None,
                gss_host=None,
            ) as connection:
                shown = connection.get_server_host_key()
        return Probed(shown.export_public_key().decode().strip() if shown else "", None)
    except asyncssh.PermissionDenied:
        message = f"The virtual machine at {where} refused user '{username}' with the credentials that were given."
        return Probed("", ("SshAuthenticationFailed", message))
    except TimeoutError:
        return Probed("", ("SshConnectionFailed", f"The virtual machine at {where} did not answer."))
    except (OSError, asyncssh.Error) as error:
        kind = "refused the connection" if isinstance(error, ConnectionRefusedError) else "could not be reached"
        return Probed("", ("SshConnectionFailed", f"The virtual machine at {where} {kind}."))
