"""A staging program with a cache of its own, and a blob store that can be made to misbehave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.onsite.blob_server import BlobServer
from tests.onsite.program import Program, copied


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The staging package alone, as on a VM."""
    return copied(tmp_path_factory.mktemp("tools"))


@pytest.fixture
def program(tools: Path, tmp_path: Path) -> Program:
    """Stagings into an empty cache."""
    return Program(tools, tmp_path / "cache")


@pytest.fixture
def store() -> Iterator[BlobServer]:
    """A blob store with nothing in it."""
    with BlobServer().running() as server:
        yield server
