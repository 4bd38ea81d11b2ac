"""What the tests of the registry provider share."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from testbed.registry import Registry
from testbed.tokens import Account


@pytest.fixture
def repository() -> str:
    """A repository of this test alone."""
    return f"tests/{secrets.token_hex(8)}"


@pytest.fixture(scope="session")
def guarded() -> Iterator[Registry]:
    """A registry with token sign-in: readers may pull, anybody may pull `public/*`."""
    accounts = {
        "pusher": Account("canary-pusher-password"),
        "reader": Account("reader-password", {"*": ("pull",)}),
    }
    with Registry("token", accounts=accounts, anonymous={"public/*": ("pull",)}) as part:
        part.password = "canary-pusher-password"
        yield part
