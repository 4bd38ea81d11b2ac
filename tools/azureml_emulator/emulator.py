"""The emulator as its parts see it: options, memory, clock, addresses, and whoever carries out runs."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from azureml_emulator.faults import Faults
from azureml_emulator.message import Request
from azureml_emulator.options import Options
from azureml_emulator.requestlog import RequestLog
from azureml_emulator.store import Store

AML_HOST = "{region}.api.azureml.ms"


@dataclass(frozen=True)
class Urls:
    """Base addresses without a trailing slash, as the asker can reach them (topology A: the service's own names;
    B: one host and port for all). `blob` takes what follows it: `/<container>/<path>?<signature>`."""

    arm: str
    api: str
    login: str
    blob: str
    registry: str
    portal: str


class Executor(Protocol):
    """Carries out submitted runs."""

    def submitted(self, run_id: str) -> None:
        """A run was submitted (its record is there, `NotStarted`). Returns at once; again changes nothing."""

    def cancel(self, run_id: str) -> None:
        """A run's cancellation was asked for (its status is `CancelRequested`). Returns at once."""

    def stop(self) -> None:
        """The emulator stops: runs go on where they are and are found again by the next."""


class Emulator:
    """One data folder's emulator. `executor` is set before the first request."""

    executor: Executor

    def __init__(self, options: Options) -> None:
        self.options = options
        self.store = Store(options.folder)
        identity = self.store.get("emulator", "identity")
        if identity is None:
            # New for each data folder: the client's caches on disk are keyed by it, and so never are of another.
            identity = {
                "workspaceId": str(uuid.uuid4()),
                "principalId": str(uuid.uuid4()),
                "controlKey": secrets.token_urlsafe(24),
            }
            self.store.put("emulator", "identity", identity)
        self.workspace_id = str(identity["workspaceId"])
        self.principal_id = str(identity["principalId"])
        # What the control API is opened with.
        self.control_key = str(identity["controlKey"])
        self.port = options.port
        self.faults = Faults()
        self.log = RequestLog(options.folder)

    @property
    def workspace_path(self) -> str:
        """The workspace's resource id."""
        o = self.options
        return (
            f"/subscriptions/{o.subscription}/resourceGroups/{o.group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{o.workspace}"
        )

    def urls(self, host: str) -> Urls:
        """The addresses for whoever asked by this host name (the request's `host`, with its port if any)."""
        o = self.options
        if host.endswith((".azureml.ms", ".azure.com", ".microsoftonline.com", ".windows.net", ".azurecr.io")):
            aml = f"https://{AML_HOST.format(region=o.region)}"
            return Urls(
                arm="https://management.azure.com",
                api=aml,
                login="https://login.microsoftonline.com",
                blob=f"https://{o.storage}.blob.core.windows.net",
                registry=f"https://{o.acr}.azurecr.io",
                portal="https://ml.azure.com",
            )
        # A run's machine may reach the emulator by another port of its own than this one.
        port = host.rpartition(":")[2]
        here = f"https://localhost:{port if port.isdigit() else self.port}"
        # The client takes account and suffix out of a blob's address and puts them together again: what stands
        # before the @ gives it these, and the connection goes to what follows.
        blob = f"https://{o.storage}.blob.x@{here.removeprefix('https://')}"
        return Urls(here, here, here, blob, here, here)

    def urls_of(self, request: Request) -> Urls:
        """The addresses for the asker of this request."""
        return self.urls(request.host)

    @staticmethod
    def now() -> float:
        """Seconds since the epoch."""
        return datetime.now(UTC).timestamp()

    @staticmethod
    def time() -> str:
        """Now, as the service writes times."""
        return datetime.now(UTC).isoformat().replace("+00:00", "Z")
