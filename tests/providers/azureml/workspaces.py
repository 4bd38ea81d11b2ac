"""Azure ML workspaces of an emulated service for tests; a test module that wants the fixtures imports them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from edgetrain.core.ports import TrackedRun
from edgetrain.providers.azureml.workspace import AzuremlWorkspace
from tests.contract.workspace import RUN
from tests.providers.azureml import support

Workspaces = Callable[..., AzuremlWorkspace]


@pytest.fixture
def unique() -> str:
    """A name of this test's own: the emulator serves them all."""
    return f"m{uuid.uuid4().hex[:12]}"


@pytest.fixture
def workspaces(workspace_emulator: RunningEmulator, tmp_path: Path) -> Workspaces:
    """Makes workspaces as other processes would have them: they share nothing but the service."""

    def make(**more: Any) -> AzuremlWorkspace:
        return AzuremlWorkspace(support.session(workspace_emulator, tmp_path / "state", **more))

    return make


@pytest.fixture
def workspace(workspaces: Workspaces) -> AzuremlWorkspace:
    return workspaces()


def a_run(name: str, **changes: Any) -> TrackedRun:
    return replace(RUN, id=f"{name}-0123456789ab-1", experiment=name, **changes)


def changed(emulator: RunningEmulator) -> list[str]:
    """The writes so far."""
    kinds = ("/models", "/assets", "/runs", "/artifacts", "/computes", "/experiments")
    return [
        f"{one['method']} {one['path']}"
        for one in emulator.requests
        if one["method"] not in ("GET", "HEAD") and any(kind in one["path"] for kind in kinds)
    ]
