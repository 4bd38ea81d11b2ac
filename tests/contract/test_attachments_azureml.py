"""The attachments contract on Azure ML, over the emulator and a machine that is really signed in to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from azureml_emulator import computes
from azureml_emulator.server import RunningEmulator
from edgetrain.core.ports import Attachments
from edgetrain.providers.table import provider
from tests.emulator import support
from tests.emulator.fixtures import make_emulator  # noqa: F401
from tests.providers.azureml.support import settings

from .attachments import MACHINE, AttachmentsContract


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
            request["method"] in ("PUT", "PATCH", "DELETE") and "/computes/" in request["path"]
            for request in self.emulator.requests
        )

    def disown(self, name: str) -> None:
        computes.retag(self.emulator.emulator, name, {})

    def remove(self, name: str) -> None:
        computes.detach(self.emulator.emulator, name)
