"""The local compute target passes the contract, with its sandbox and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from .compute import ComputeContract, Target
from .local_target import LocalTarget


@pytest.mark.needs("bubblewrap")
class TestSandboxedLocalCompute(ComputeContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return LocalTarget(tmp_path / "state of site")


class TestPlainLocalCompute(ComputeContract):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        return LocalTarget(tmp_path / "state of site", sandbox=False)
