"""Fixtures around an emulated workspace; a conftest that wants them imports them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from azureml_emulator.server import RunningEmulator
from tests.providers.azureml import support

_NAMES = ("ARM_CLOUD_METADATA_URL", "AZUREML_CURRENT_CLOUD", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
_PREFIXES = ("ACTIONS_ID_TOKEN", "IDENTITY_", "MSI_")


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path) -> Iterator[None]:
    """Proxy, authorities and configuration are a session's to set; afterwards all is as it was."""
    before = dict(os.environ)
    for name in before:
        if name in _NAMES or "proxy" in name.lower() or name.startswith(_PREFIXES):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with support.begin(tmp_path_factory.mktemp("azureml") / "emulator") as running:
        yield running


@pytest.fixture
def workspace_emulator(_running: RunningEmulator) -> Iterator[RunningEmulator]:
    """The emulator of all tests of a worker, without faults and with an empty log. The test fails if a route was
    asked for that it does not have."""
    before = _running.emulator.options
    _running.emulator.log.clear()
    yield _running
    _running.emulator.faults.clear()
    _running.emulator.options = before
    support.check(_running)


@pytest.fixture(params=support.TOPOLOGIES)
def topology(request: pytest.FixtureRequest) -> str:
    """How the client reaches the workspace."""
    return str(request.param)
