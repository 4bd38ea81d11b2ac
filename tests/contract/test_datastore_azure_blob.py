"""The blob datastore passes the contract on Azurite, in every API version that Azure Stack Hub speaks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from edgetrain.core.ports import Datastore
from edgetrain.providers.azure_blob.datastore import AzureBlobDatastore
from edgetrain.providers.table import provider
from testbed.azurite import Azurite
from tests.providers.azure_blob.stores import declared, new_container

from .datastore import DatastoreContract, Fill

pytestmark = pytest.mark.needs("azurite")


class TestAzureBlobDatastore(DatastoreContract):
    @pytest.fixture
    def fill(self, azurite: Azurite, tmp_path: Path) -> Fill:
        def fill(files: Mapping[str, bytes]) -> Datastore:
            store = provider("datastore", "azure-blob", declared(azurite, new_container(azurite, files), tmp_path))
            assert isinstance(store, AzureBlobDatastore)
            return store

        return fill


class TestBelowAPrefixInTheOldestVersion(DatastoreContract):
    @pytest.fixture
    def fill(self, azurite: Azurite, tmp_path: Path) -> Fill:
        def fill(files: Mapping[str, bytes]) -> Datastore:
            below = {f"site/ward data/{name}": data for name, data in files.items()}
            container = new_container(azurite, {**below, "site/ward data2/other": b"other", "site.csv": b"1"})
            settings = declared(azurite, container, tmp_path, prefix="site/ward data/", apiVersion="2017-11-09")
            store: Datastore = provider("datastore", "azure-blob", settings)
            return store

        return fill
