"""The blob artifact store passes the contract on Azurite, in the newest and oldest version of Azure Stack Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetrain.core.ports import ArtifactStore
from edgetrain.providers.azure_blob.artifacts import AzureBlobArtifacts
from edgetrain.providers.table import provider
from testbed.azurite import Azurite
from tests.providers.azure_blob.stores import declared, new_container

from .artifacts import ArtifactStoreContract

pytestmark = pytest.mark.needs("azurite")


class TestAzureBlobArtifacts(ArtifactStoreContract):
    @pytest.fixture
    def store(self, azurite: Azurite, tmp_path: Path) -> ArtifactStore:
        store = provider("artifacts", "azure-blob", declared(azurite, new_container(azurite), tmp_path / "state"))
        assert isinstance(store, AzureBlobArtifacts)
        return store


class TestBelowAPrefixInTheOldestVersion(ArtifactStoreContract):
    @pytest.fixture
    def store(self, azurite: Azurite, tmp_path: Path) -> ArtifactStore:
        container = new_container(azurite, {"blobs/sha256/" + "0" * 64: b"a neighbour's", "claims/t": b"neighbour"})
        settings = declared(azurite, container, tmp_path / "state", prefix="st-anna", apiVersion="2017-11-09")
        store: ArtifactStore = provider("artifacts", "azure-blob", settings)
        return store
