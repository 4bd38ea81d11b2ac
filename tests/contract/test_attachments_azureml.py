"""The attachments contract on Azure ML, over the emulator and a machine that is really signed in to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator import computes, datastores
from azureml_emulator.server import RunningEmulator
from edgetrain.core.ports import Attachments
from edgetrain.providers.table import provider
from tests.emulator import support
from tests.emulator.fixtures import make_emulator  # noqa: F401
from tests.providers.azureml.support import settings

from .attachments import MACHINE, SECRET, AttachmentsContract

pytestmark = pytest.mark.long(0.35)


class TestAzuremlAttachments(AttachmentsContract):
    @pytest.fixture(autouse=True)
    def _emulated(
        self,
        make_emulator: Callable[..., RunningEmulator],  # noqa: F811
        tmp_path: Path,
    ) -> Iterator[None]:
        machine = support.Machine(tmp_path, open=True)
        self.emulator = make_emulator(hosts={MACHINE: machine.address, f"{MACHINE}b": machine.address})
        yield
        machine.stop()

    def make(self, state: Path) -> Attachments:
        made: Attachments = provider("attachments", "azureml", settings(self.emulator, state))
        return made

    def writes(self) -> int:
        return sum(
            request["method"] in ("PUT", "PATCH", "POST", "DELETE")
            and any(part in request["path"] for part in ("/computes/", "/datastores"))
            for request in self.emulator.requests
        )

    def disown(self, name: str) -> None:
        computes.retag(self.emulator.emulator, name, {})

    def remove(self, name: str) -> None:
        computes.detach(self.emulator.emulator, name)

    def disown_datastore(self, name: str) -> None:
        self._edit(name, {"tags": {}})

    def give_credential(self, name: str) -> None:
        held = datastores.get(self.emulator.emulator, "localhost", name, secret=True)
        section = {**held["azureStorageSection"], "credentialType": "AccountKey", "credential": SECRET}
        self._edit(name, {"azureStorageSection": section})

    def remove_datastore(self, name: str) -> None:
        datastores.delete(self.emulator.emulator, name)

    def _edit(self, name: str, changes: dict[str, Any]) -> None:
        held = datastores.get(self.emulator.emulator, "localhost", name, secret=True)
        datastores.replace(self.emulator.emulator, name, {**held, **changes})
