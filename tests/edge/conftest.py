"""Fixtures of the edge: a machine with a base image, and an index that is a folder."""

from __future__ import annotations

import pytest

from testbed.base_image import Base
from testbed.vm import Vm
from tests.providers.local.test_local_environment import index  # noqa: F401 - the fixture

from .machine import Machine


@pytest.fixture(scope="session")
def machine(vm: Vm, base_image: Base) -> Machine:
    """A VM that has the training base, by podman. Needs "vm", "mmdebstrap", "skopeo"."""
    return Machine(vm, base_image)
