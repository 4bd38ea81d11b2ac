"""The in-memory datastore passes the contract."""

from __future__ import annotations

import pytest

from .datastore import DatastoreContract, Fill
from .memory_datastore import MemoryDatastore


class TestMemoryDatastore(DatastoreContract):
    @pytest.fixture
    def fill(self) -> Fill:
        return MemoryDatastore
