"""A site of its own for each flow; what was asked of the stand-in, and answered, was as GitHub describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.github.site import GithubSite


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., GithubSite]]:
    """Makes a site of a class of sites."""
    sites: list[GithubSite] = []
    with ExitStack() as open_sites:

        def enter(kind: type[GithubSite] = GithubSite, **how: object) -> GithubSite:
            site = open_sites.enter_context(kind(tmp_path / f"site-{len(sites)}", **how))
            sites.append(site)
            return site

        yield enter
        assert [site.server.violations for site in sites] == [[] for _ in sites]


@pytest.fixture
def site(make: Callable[..., GithubSite]) -> GithubSite:
    """One with the embedded providers."""
    return make()
