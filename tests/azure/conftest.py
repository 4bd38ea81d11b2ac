"""One testbed for all of a worker's tests; each repository gets an emulator of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from testbed.azure import AzureSite
from tests.azure.site import AzureRepository


@pytest.fixture(scope="package")
def azure_site() -> Iterator[AzureSite]:
    with AzureSite() as site:
        yield site


@pytest.fixture
def surroundings() -> Iterator[None]:
    """A session sets the proxy and the authorities of this process: they go with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def repository(
    azure_site: AzureSite, surroundings: None, tmp_path: Path
) -> Iterator[Callable[..., AzureRepository]]:
    """Makes a repository on an empty workspace; whatever was asked, the emulator knew how to answer."""

    numbers = count()

    def make(attached: bool = True, **ssh: object) -> AzureRepository:
        azure_site.renew()
        site = AzureRepository(tmp_path / f"site-{next(numbers)}", azure_site, attached)
        site.make(**ssh)
        return site

    yield make
    log = azure_site.emulator.emulator.log
    assert log.failures == []
    assert log.unknown_routes == []
