"""The workspace contract on the in-memory provider: the port asks for nothing that only MLflow has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from edgetrain.core.ports import Workspace

from .memory_workspace import MemoryWorkspace
from .workspace import Seen, WorkspaceContract

_STATUS = {"candidate": "FINISHED", "not_better": "FINISHED", "cancelled": "KILLED"}


class TestMemoryWorkspace(WorkspaceContract):
    @pytest.fixture(autouse=True)
    def _places(self) -> None:
        self.places: dict[Path, MemoryWorkspace] = {}

    def make(self, state: Path) -> Workspace:
        return self.places.setdefault(state, MemoryWorkspace())

    def seen(self, workspace: Workspace, experiment: str) -> Sequence[Seen]:
        assert isinstance(workspace, MemoryWorkspace)
        found = []
        for run in workspace.runs.values():
            if run.experiment != experiment:
                continue
            history: dict[str, list[tuple[int, float]]] = {}
            for point in run.history:
                history.setdefault(point.name, []).append((point.step, point.value))
            for name, value in run.metrics.items():
                points = history.setdefault(name, [])
                if not points or points[-1][1] != value:
                    points.append((len(points), value))
            found.append(
                Seen(
                    parameters=run.parameters,
                    metrics=run.metrics,
                    history=history,
                    tags={**run.tags, "edgetrain.run": run.id, "edgetrain.outcome": run.outcome},
                    status=_STATUS.get(run.outcome, "FAILED"),
                    started=datetime.fromisoformat(run.started).timestamp() if run.started else 0.0,
                    ended=datetime.fromisoformat(run.ended).timestamp() if run.ended else 0.0,
                )
            )
        return found
