"""The provider passes the contract behind ACR's token exchange, signed in as the workspace's application."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from azureml_emulator.options import Options
from azureml_emulator.server import RunningEmulator, start
from azureml_emulator.tokens import Tokens
from edgetrain.core.secret import Secret
from edgetrain.providers.oci.auth import Credential
from edgetrain.providers.oci.provider import OciRegistry
from testbed.registry import Registry
from tests.providers.oci.reach import no_pause

from .registry import RegistryContract

pytestmark = [pytest.mark.long(0.3), pytest.mark.needs("registry")]


class TestAzure(RegistryContract):
    @pytest.fixture
    def acr(self, tmp_path: Path, registry_open: Registry) -> Iterator[RunningEmulator]:
        with start(Options(folder=tmp_path / "emulator", registry=registry_open.url)) as running:
            yield running
        assert running.emulator.log.failures == []
        assert running.emulator.log.unknown_routes == []

    @pytest.fixture
    def registry(self, acr: RunningEmulator) -> OciRegistry:
        token = Secret(Tokens(acr.emulator).issue("owner", "arm"))
        return OciRegistry(
            f"localhost:{acr.port}",
            plain_http=False,
            prefix=f"contract-{secrets.token_hex(8)}",
            ca_bundle=str(acr.certificates.authority),
            sleep=no_pause,
            credential=Credential(token=lambda: token),
        )
