"""Azurite: a blob store that speaks Azure's protocol. It stands for a site's Azure Stack Hub storage account."""

from __future__ import annotations

import base64
import contextlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.ca import Certificate
from testbed.install import azurite_folder
from testbed.part import Part, Process, serve

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

API_VERSION = "2019-07-07"  # the newest that Azure Stack Hub speaks
MAIN = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")


def installed() -> bool:
    """Whether `tests/parts` has installed it and node is there."""
    return shutil.which("node") is not None and (azurite_folder() / MAIN).is_file()


class Azurite(Part):
    """One blob store with one account.

    `bind` is the address that it listens on; "0.0.0.0" makes it reachable from VMs at their `host_address`.
    With `tls` it speaks https. `port` pins the port; else a free one is taken at the first start, and kept.
    """

    def __init__(
        self,
        *,
        bind: str = "127.0.0.1",
        port: int | None = None,
        account: str = "edgeblobs",
        tls: Certificate | None = None,
        ca_bundle: Path | None = None,
    ) -> None:
        super().__init__("azurite")
        self.bind = bind
        self.port = port or 0
        self.account = account
        self.key = base64.b64encode(secrets.token_bytes(64)).decode()
        self.tls = tls
        self.ca_bundle = ca_bundle
        self.log = self.folder / "azurite.log"
        self._process: Process | None = None

    @property
    def near(self) -> str:
        """The address at which this machine reaches it."""
        return "127.0.0.1" if self.bind == "0.0.0.0" else self.bind  # noqa: S104

    @property
    def endpoint(self) -> str:
        """The account's URL, path style, as seen from this machine."""
        return self.endpoint_at(self.near)

    def endpoint_at(self, host: str) -> str:
        """The account's URL as seen from where `host` is this machine, such as a VM's `host_address`."""
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/{self.account}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        self._process, self.port = serve(self._launch, self.near, self.port or None)

    def stop(self) -> None:
        """Stop by SIGTERM: SIGKILL would lose the last blobs."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def restart(self) -> None:
        """Stop and start on the same port, with the same blobs."""
        self.stop()
        self.start()

    def _launch(self, port: int) -> Process:
        command = ["node", str(azurite_folder() / MAIN), "--blobHost", self.bind, "--blobPort", str(port)]
        command += ["-l", str(self.folder / "blobs"), "--disableTelemetry"]
        if self.tls is not None:
            command += ["--cert", str(self.tls.certificate), "--key", str(self.tls.key)]
        return Process(command, self.log, {"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"})

    def client(self, endpoint: str | None = None) -> BlobServiceClient:
        """The SDK's client with the account key."""
        from azure.storage.blob import BlobServiceClient

        trust: dict[str, Any] = {"connection_verify": str(self.ca_bundle)} if self.ca_bundle else {}
        return BlobServiceClient(
            endpoint or self.endpoint,
            credential={"account_name": self.account, "account_key": self.key},
            api_version=API_VERSION,
            **trust,
        )

    def put(self, container: str, blobs: Mapping[str, bytes]) -> None:
        """Put blobs by name into a container, which is made where it is absent."""
        from azure.core.exceptions import ResourceExistsError

        with self.client() as service:
            there = service.get_container_client(container)
            with contextlib.suppress(ResourceExistsError):
                there.create_container()
            for name, content in blobs.items():
                there.upload_blob(name, content, overwrite=True)

    def put_folder(self, container: str, folder: Path, prefix: str = "") -> None:
        """Put all files of a folder, named by their paths below it after `prefix`."""
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        self.put(container, {prefix + file.relative_to(folder).as_posix(): file.read_bytes() for file in files})
