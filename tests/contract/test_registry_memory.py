"""The in-memory registry passes the contract."""

from __future__ import annotations

import pytest

from .memory_registry import MemoryRegistry
from .registry import RegistryContract


class TestMemoryRegistry(RegistryContract):
    @pytest.fixture
    def registry(self) -> MemoryRegistry:
        return MemoryRegistry()
