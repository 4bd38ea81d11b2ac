"""The in-memory compute target passes the contract."""

from __future__ import annotations

import pytest

from edgetrain.core.ports import Compute, RunPhase, RunState

from .compute import ComputeContract, Target
from .memory_compute import PYTHON, MemoryCompute, World


class MemoryTarget:
    """A world in memory."""

    python = PYTHON
    image = None

    def __init__(self) -> None:
        self.world = World()

    def connect(self) -> Compute:
        return MemoryCompute(self.world)

    def crash(self, run_id: str) -> None:
        self.world[run_id].become(RunState(RunPhase.LOST))
        self.world[run_id].stop.set()

    def alive(self, run_id: str) -> bool:
        thread = self.world[run_id].thread
        return thread is not None and thread.is_alive()


class TestMemoryCompute(ComputeContract):
    @pytest.fixture
    def target(self) -> Target:
        return MemoryTarget()
