"""Emulators for tests, and the unmodified azureml-core talking to them: here by topology A, elsewhere by both.

azureml-core fixes its table of clouds when it is imported, so one process knows one topology: in this one it is A,
whose hosts are the service's own. What is to be seen by topology B runs in a process of its own (`outside`).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from ssl import create_default_context
from typing import Any
from urllib.error import HTTPError

import asyncssh
import pytest

from azureml_emulator.options import Options
from azureml_emulator.server import RunningEmulator, start
from edgetrain.providers.azureml import process

ROOT = Path(__file__).parents[2]
PATIENCE = 120
# azureml-core waits so long between its own tries; it reads these when it is imported.
IMPATIENT = {
    "AZUREML_DEFAULT_BACKOFF": "1",
    "AZUREML_DEFAULT_500_BACKOFF": "1",
    "AZUREML_DEFAULT_503_BACKOFF": "1",
}
TROUBLESOME = (
    "ARM_CLOUD_METADATA_URL",
    "AZUREML_CURRENT_CLOUD",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
)

_PRELUDE = """
import json, sys
given = json.loads(sys.stdin.read())

def connect(tenant=None):
    from azureml.core import Workspace
    if given["topology"] == "A" or tenant == "adfs":
        from azureml.core.authentication import ServicePrincipalAuthentication
        cloud = "AzureCloud" if given["topology"] == "A" else "EmulatedAzure"
        auth = ServicePrincipalAuthentication(
            tenant or given["tenant"], given["clientId"], given["clientSecret"], cloud=cloud)
    else:
        import requests
        from azureml.core.authentication import TokenAuthentication
        def token(audience):
            form = {"grant_type": "client_credentials", "client_id": given["clientId"],
                    "client_secret": given["clientSecret"], "scope": audience + "/.default"}
            answer = requests.post(f"{given['url']}/{given['tenant']}/oauth2/v2.0/token", data=form, timeout=30)
            answer.raise_for_status()
            return answer.json()["access_token"]
        auth = TokenAuthentication(token, cloud="EmulatedAzure")
    return Workspace(given["subscription"], given["group"], given["workspace"], auth=auth)

answer = None
"""
_EPILOGUE = """
print()
print("ANSWER " + json.dumps(answer))
"""


def environment(emulator: RunningEmulator, topology: str, home: Path) -> dict[str, str]:
    """What a client's process needs, with a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    config = home / f"azure-{topology}-{emulator.port}"
    return {**emulator.environment(topology, config), "HOME": str(home), **IMPATIENT}


def enter(emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Point azureml-core of this process at the emulator, by topology A."""
    for name in TROUBLESOME:
        monkeypatch.delenv(name, raising=False)
    # Tests of edgetrain in the same process adapt the client; here it is as it comes.
    for owner, name, before in process.adapted:
        monkeypatch.setattr(owner, name, before)
    for name, value in environment(emulator, "A", home).items():
        monkeypatch.setenv(name, value)


def authentication(emulator: RunningEmulator, principal: str = "owner") -> Any:
    """A service principal's sign-in, by topology A."""
    from azureml.core.authentication import ServicePrincipalAuthentication

    who = emulator.principal(principal)
    return ServicePrincipalAuthentication(
        emulator.emulator.options.tenant, who["clientId"], who["clientSecret"], cloud="AzureCloud"
    )


def connect(emulator: RunningEmulator, principal: str = "owner") -> Any:
    """azureml-core's Workspace, opened here by topology A (see `enter`)."""
    from azureml.core import Workspace

    options = emulator.emulator.options
    auth = authentication(emulator, principal)
    return Workspace(options.subscription, options.group, options.workspace, auth=auth)


def outside(
    emulator: RunningEmulator,
    topology: str,
    code: str,
    home: Path,
    principal: str = "owner",
    variables: Mapping[str, str] | None = None,
    **values: Any,
) -> Any:
    """Run code in a process of its own and give what it puts into `answer` (JSON).

    The code finds `connect(tenant=None)`, which opens the Workspace by the topology, and `values` in `given`.
    """
    options = emulator.emulator.options
    given = {
        **values,
        **{key: emulator.principal(principal)[key] for key in ("clientId", "clientSecret")},
        "topology": topology,
        "url": emulator.url,
        "tenant": options.tenant,
        "subscription": options.subscription,
        "group": options.group,
        "workspace": options.workspace,
    }
    kept = {
        key: value for key, value in os.environ.items() if key not in TROUBLESOME and "PROXY" not in key.upper()
    }
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code + _EPILOGUE],
        input=json.dumps(given),
        env={**kept, **environment(emulator, topology, home), **(variables or {})},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.rpartition("ANSWER ")[2])


def ask(
    emulator: RunningEmulator,
    method: str,
    path: str,
    body: Any = None,
    token: str = "",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any, dict[str, str]]:
    """One plain request by topology B, without the client: status, JSON (or bytes), headers in lower case."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    own = {"Content-Type": "application/json"} if data is not None else {}
    if token:
        own["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(emulator.url + path, data, {**own, **(headers or {})}, method=method)
    context = create_default_context(cafile=str(emulator.certificates.authority))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            status, said, got = answer.status, answer.read(), answer.headers
    except HTTPError as error:
        status, said, got = error.code, error.read(), error.headers
    lowered = {name.lower(): value for name, value in got.items()}
    is_json = "json" in lowered.get("content-type", "")
    return status, json.loads(said) if is_json and said else said, lowered


def check(emulator: RunningEmulator) -> None:
    """Nothing was asked that the emulator does not serve, nothing else was asked of the network, nothing broke."""
    log = emulator.emulator.log
    assert log.failures == []
    assert log.unknown_routes == []
    assert log.refused_hosts == [], log.refused_hosts


@contextmanager
def emulators(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunningEmulator]]:
    """A function that starts emulators (options as keywords; `folder` for one that was there before) and points
    this process at the last; all are stopped and checked at the end."""
    started: list[RunningEmulator] = []

    def make(**options: Any) -> RunningEmulator:
        options.setdefault("folder", folder / f"emulator-{len(started)}")
        running = start(Options(**options))
        started.append(running)
        enter(running, monkeypatch, folder / "home")
        return running

    try:
        yield make
    finally:
        for running in started:
            running.stop()
    for running in started:
        check(running)


class Machine:
    """A real SSH server on loopback that lets `key` in as anybody (any key, if it is `open`), and runs nothing."""

    def __init__(self, folder: Path, open: bool = False) -> None:
        self.key = folder / "machine_key"
        own = asyncssh.generate_private_key("ssh-ed25519")
        own.write_private_key(str(self.key))
        allowed = own.convert_to_public()

        class Door(asyncssh.SSHServer):
            def begin_auth(self, username: str) -> bool:
                return True

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                return open or key == allowed

        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def listen() -> asyncssh.SSHAcceptor:
            return await asyncssh.listen("127.0.0.1", 0, server_host_keys=[self.host_key], server_factory=Door)

        self._acceptor = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(PATIENCE)
        self.port = self._acceptor.get_port()
        self.address = f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """No more connections."""

        async def close() -> None:
            self._acceptor.close()
            await self._acceptor.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
