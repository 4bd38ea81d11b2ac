"""The provider passes the contract with Docker distribution: open, by password, by token, in chunks."""

from __future__ import annotations

import secrets

import pytest

from edgetrain.providers.oci.provider import OciRegistry
from testbed.registry import Registry
from tests.providers.oci.reach import reach

from .registry import RegistryContract

pytestmark = pytest.mark.needs("registry")


def empty(part: Registry, chunk: int = 2**20) -> OciRegistry:
    """The registry as if nobody had pushed to it: under a prefix of its own."""
    return reach(part, prefix=f"contract-{secrets.token_hex(8)}", chunk=chunk)


class TestOpen(RegistryContract):
    @pytest.fixture
    def registry(self, registry_open: Registry) -> OciRegistry:
        return empty(registry_open)


class TestBasic(RegistryContract):
    @pytest.fixture
    def registry(self, registry_basic: Registry) -> OciRegistry:
        return empty(registry_basic)


class TestToken(RegistryContract):
    @pytest.fixture
    def registry(self, registry_token: Registry) -> OciRegistry:
        return empty(registry_token)


class TestInChunks(RegistryContract):
    """Layers of the contract's images are tens of kilobytes: here each takes several chunks."""

    @pytest.fixture
    def registry(self, registry_token: Registry) -> OciRegistry:
        return empty(registry_token, chunk=7000)
