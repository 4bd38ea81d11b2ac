"""The real parts of a site as fixtures, one of each for a test session (for each worker), started at first use.

Tests share them, so each takes names of its own: a container, a repository. A test that breaks a part starts its
own: the classes in `tools/testbed` are context managers.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.azurite import Azurite
from testbed.base_image import Base, base
from testbed.registry import Registry
from testbed.vm import Vm

ANYWHERE = "0.0.0.0"  # VMs reach the parts at their `host_address`


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """A blob store; from a VM it is at `azurite.endpoint_at(vm.host_address)`. Needs "azurite"."""
    with Azurite(bind=ANYWHERE) as part:
        yield part


@pytest.fixture(scope="session")
def registry_open() -> Iterator[Registry]:
    """A registry with plain http and no sign-in. Needs "registry"."""
    with Registry("open", bind=ANYWHERE) as part:
        yield part


@pytest.fixture(scope="session")
def registry_basic() -> Iterator[Registry]:
    """A registry with https and a password. Needs "registry"."""
    with Registry("basic", bind=ANYWHERE) as part:
        yield part


@pytest.fixture(scope="session")
def registry_token() -> Iterator[Registry]:
    """A registry with https and a token server, `registry_token.tokens`. Needs "registry"."""
    with Registry("token") as part:
        yield part


@pytest.fixture(scope="session")
def vm() -> Iterator[Vm]:
    """An edge VM with sshd, Python and podman, where this machine is at `vm.host_address`. Needs "vm"."""
    with Vm() as part:
        yield part


@pytest.fixture(scope="session")
def base_image() -> Base:
    """The training base with Python 3.11: `push(registry)`, `pull(vm, registry)`. Needs "mmdebstrap", "skopeo"."""
    return base("train")


@pytest.fixture(scope="session")
def serve_image() -> Base:
    """The serving base, with NumPy and ONNX Runtime. Needs "mmdebstrap", "skopeo"."""
    return base("serve")
