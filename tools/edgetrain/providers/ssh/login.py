"""Signing in: to an address that was checked, past a host key that is pinned, with the declared secret only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from edgetrain.core.errors import Denied, ProviderError, Rejected, Transient
from edgetrain.core.ports import TargetSettings
from edgetrain.core.quantity import seconds_of
from edgetrain.core.secret import Secret
from edgetrain.providers.ssh import address, hostkeys, password

if TYPE_CHECKING:
    import asyncssh

KEEP_ALIVES_MISSED = 3


@dataclass(frozen=True)
class Endpoint:
    """One server to sign in to. `key` and `secret` give the declared secret each time that it is needed."""

    host: str
    port: int
    username: str
    host_keys: Sequence[str]
    networks: Sequence[str]
    key: Callable[[], Secret] | None = field(default=None, repr=False)
    secret: Callable[[], Secret] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Route:
    """The way to a target: through `jump`, if there is one. Times in seconds."""

    target: Endpoint
    jump: Endpoint | None
    connect_timeout: float
    keep_alive: float


def route(settings: TargetSettings) -> Route:
    """As the manifest's block `ssh` says."""
    block = settings.block
    jump = block.get("jumpHost")
    return Route(
        target=_endpoint(settings, block),
        jump=_endpoint(settings, jump) if jump else None,
        connect_timeout=float(seconds_of(block.get("connectTimeout", "30s"))),
        keep_alive=float(seconds_of(block.get("keepAlive", "15s"))),
    )


def _endpoint(settings: TargetSettings, block: Mapping[str, Any]) -> Endpoint:
    def secret(name: str) -> Callable[[], Secret] | None:
        return partial(settings.secret, block[name]["secret"]) if name in block else None

    return Endpoint(
        host=block["host"],
        port=block.get("port", 22),
        username=block["username"],
        host_keys=tuple(block["hostKeys"]),
        networks=settings.networks,
        key=secret("privateKey"),
        secret=secret("password"),
    )


async def sign_in(way: Route) -> list[asyncssh.SSHClientConnection]:
    """The connections, the target's last. Raises a provider error that says what failed and where."""
    found: list[asyncssh.SSHClientConnection] = []
    try:
        if way.jump:
            found.append(await _one(way, way.jump, None))
        found.append(await _one(way, way.target, found[0] if found else None))
    except BaseException:
        for connection in found:
            connection.abort()
        raise
    return found


async def _one(
    way: Route, to: Endpoint, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    loop = asyncio.get_running_loop()
    addresses = await loop.run_in_executor(None, address.resolve, to.host, to.port, to.networks)
    credentials = await loop.run_in_executor(None, _credentials, to)
    keys = hostkeys.pinned(to.host_keys, to.host)
    for place in addresses[:-1]:
        try:
            return await _connect(way, to, place, tunnel, keys, credentials)
        except Transient:  # the next address may answer
            continue
    return await _connect(way, to, addresses[-1], tunnel, keys, credentials)


def _credentials(to: Endpoint) -> dict[str, Any]:
    """What asyncssh signs in with: never an agent, a key of the runner's user, or Kerberos."""
    import asyncssh

    none = {"client_keys": None, "password": None, "public_key_auth": False, "password_auth": False}
    none |= {"kbdint_auth": False, "host_based_auth": False, "gss_auth": False, "gss_kex": False, "gss_host": None}
    if to.key is not None:
        fix = "give an unencrypted OpenSSH or PEM private key, made for this use: `ssh-keygen -t ed25519 -N ''`"
        try:
            key = asyncssh.import_private_key(to.key().reveal())
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
            if "passphrase" in str(error).lower():
                message = (
                    f"the private key for {to.host} is protected by a passphrase, and no one is there to type it"
                )
                raise Denied(message, reason="KeyHasPassphrase", fix=fix) from None
            raise Denied(f"the secret for {to.host} is not a private key", reason="InvalidKey", fix=fix) from None
        return {**none, "client_keys": [key], "public_key_auth": True}
    if to.secret is not None:
        value = to.secret()
        password.check(value, to.username, *to.host.split("."))
        return {**none, "password": value.reveal(), "password_auth": True, "kbdint_auth": True}
    raise Rejected(
        f"no way to sign in to {to.host} is declared",
        reason="NoCredential",
        fix="declare the target's ssh.privateKey",
    )


async def _connect(
    way: Route,
    to: Endpoint,
    place: str,
    tunnel: asyncssh.SSHClientConnection | None,
    keys: list[asyncssh.SSHKey],
    credentials: Mapping[str, Any],
) -> asyncssh.SSHClientConnection:
    import asyncssh

    seen: list[asyncssh.SSHKey] = []

    class Pinned(asyncssh.SSHClient):
        """Is asked only about keys that are not pinned."""

        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            """Refuse it, and keep it for the message."""
            seen.append(key)
            return False

    try:
        async with asyncio.timeout(way.connect_timeout):
            return await asyncssh.connect(
                place,
                to.port,
                tunnel=tunnel,
                config=None,
                client_factory=Pinned,
                username=to.username,
                known_hosts=(keys, [], []),
                server_host_key_algs=hostkeys.algorithms(keys),
                x509_trusted_certs=None,
                agent_path=None,
                agent_forwarding=False,
                connect_timeout=way.connect_timeout,
                login_timeout=way.connect_timeout,
                keepalive_interval=way.keep_alive,
                keepalive_count_max=KEEP_ALIVES_MISSED,
                **credentials,
            )
    except asyncssh.HostKeyNotVerifiable:
        raise hostkeys.mismatch(to.host, seen[0] if seen else None, keys) from None
    except asyncssh.PermissionDenied as error:
        raise told(error, to) from None
    except (asyncssh.DisconnectError, ConnectionResetError, BrokenPipeError) as error:
        # A server without a key of a pinned type hangs up, or we do: look which one it has, to tell it.
        shows = await _look(way, to, place, tunnel)
        if shows is not None and shows not in keys:
            raise hostkeys.mismatch(to.host, shows, keys) from None
        raise told(error, to) from None
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise told(error, to) from None


async def _look(
    way: Route, to: Endpoint, place: str, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHKey | None:
    import asyncssh

    try:
        async with asyncio.timeout(way.connect_timeout):
            return await asyncssh.get_server_host_key(place, to.port, tunnel=tunnel, config=None)
    except (asyncssh.Error, OSError, TimeoutError):
        return None


def told(error: BaseException, to: Endpoint) -> ProviderError:
    """What went wrong with the connection or a session on it, without anything secret."""
    import asyncssh

    where = f"{to.host}:{to.port}"
    if isinstance(error, asyncssh.PermissionDenied):
        return Denied(
            f"{where} refuses to let {to.username} in with the declared secret",
            reason="LoginRefused",
            fix="put the public key into the account's authorized_keys, and see that the account is not locked",
        )
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return Rejected(
            f"{where} and the runner have no algorithm in common",
            reason="NoCommonAlgorithm",
            fix="update the machine's OpenSSH, and leave its defaults",
        )
    if isinstance(error, asyncssh.ChannelOpenError):
        if error.code in (asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, asyncssh.OPEN_CONNECT_FAILED):
            return Transient(
                f"the way to {where} is not open from there ({error.reason[:80]})",
                reason="HostUnreachable",
                fix="see MaxSessions and AllowTcpForwarding in the sshd_config of the machine and its jump host",
            )
        return Transient(
            f"{where} opens no further session",
            reason="HostUnreachable",
            fix="raise MaxSessions in its sshd_config, or apply again later",
        )
    what = "does not answer in time" if isinstance(error, TimeoutError) else "can't be reached, or hung up"
    cause = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return Transient(
        f"{where} {what}{cause}",
        reason="HostUnreachable",
        fix="see that it is up, and that the runner has a route to it",
    )
