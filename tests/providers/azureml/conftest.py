"""An emulated workspace for the tests of this folder."""

from __future__ import annotations

from tests.cli.conftest import repository  # noqa: F401
from tests.providers.azureml.fixtures import (  # noqa: F401
    _running,
    own_environment,
    topology,
    workspace_emulator,
)
from tests.providers.azureml.workspaces import unique, workspace, workspaces  # noqa: F401
