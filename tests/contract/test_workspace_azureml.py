"""The workspace contract on Azure ML, over the emulator; looked at by the unmodified azureml-core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from azureml_emulator import metrics
from azureml_emulator.server import RunningEmulator
from edgetrain.core.ports import Workspace
from edgetrain.providers.azureml.tracking import PARAMETER_KEY
from edgetrain.providers.table import provider
from tests.emulator import support
from tests.emulator.fixtures import make_emulator  # noqa: F401
from tests.providers.azureml.support import settings

from .workspace import Seen, WorkspaceContract

pytestmark = pytest.mark.long(0.35)

_STATUS = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}


def seconds(time: str | None) -> float:
    return datetime.fromisoformat(time).timestamp() if time else 0.0


class TestAzuremlWorkspace(WorkspaceContract):
    @pytest.fixture(autouse=True)
    def _emulated(self, make_emulator: Callable[..., RunningEmulator]) -> None:  # noqa: F811
        self.emulator = make_emulator()

    def make(self, state: Path) -> Workspace:
        made: Workspace = provider("workspace", "azureml", settings(self.emulator, state))
        return made

    def seen(self, workspace: Workspace, experiment: str) -> Sequence[Seen]:
        from azureml.core import Experiment

        found = []
        for listed in Experiment.list(support.connect(self.emulator), experiment_name=experiment):
            for run in listed.get_runs():
                details = run.get_details()
                logged = run.get_metrics()
                found.append(
                    Seen(
                        parameters={
                            key.removeprefix(PARAMETER_KEY): value
                            for key, value in run.get_properties().items()
                            if key.startswith(PARAMETER_KEY)
                        },
                        metrics={
                            name: value[-1] if isinstance(value, list) else value for name, value in logged.items()
                        },
                        history={name: self._history(run.id, name) for name in logged},
                        tags=run.get_tags(),
                        status=_STATUS[run.get_status()],
                        started=seconds(details.get("startTimeUtc")),
                        ended=seconds(details.get("endTimeUtc")),
                    )
                )
        return found

    def _history(self, run: str, name: str) -> list[tuple[int, float]]:
        # azureml-core tells no steps.
        metric = metrics.get(self.emulator.emulator, run, name)
        assert metric is not None
        return [(row["step"], row["data"][name]) for row in metric["rows"]]
