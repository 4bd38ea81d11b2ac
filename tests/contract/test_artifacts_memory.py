"""The in-memory artifact store passes the contract."""

from __future__ import annotations

import pytest

from .artifacts import ArtifactStoreContract
from .memory_artifacts import MemoryArtifacts


class TestMemoryArtifacts(ArtifactStoreContract):
    @pytest.fixture
    def store(self) -> MemoryArtifacts:
        return MemoryArtifacts()
