"""The workflows over the real parts of a site, and over Azure ML's stand-in: from a pull request to production."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from testbed.azure import AzureSite
from testbed.site import Testbed
from tests.github.site import BOT, PAT, REPOSITORY, RITA, GithubSite
from tests.github.sites import AzureGithubSite, EdgeGithubSite
from tests.github.test_end_to_end import MANIFEST, everything_once, run_records, trained

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo", "git>=2.34", "ssh-keygen"),
    pytest.mark.long(0),
    pytest.mark.xdist_group("azure"),
]


@pytest.fixture
def surroundings() -> Iterator[None]:
    """A session with Azure sets the proxy and the authorities of this process: they go with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("parts", "kind", "registry"),
    [(Testbed, EdgeGithubSite, "site"), (AzureSite, AzureGithubSite, "acr")],
    ids=["edge", "azure"],
)
def test_from_a_pull_request_to_production(
    make: Callable[..., GithubSite],
    surroundings: None,
    parts: type[Testbed],
    kind: type[EdgeGithubSite],
    registry: str,
) -> None:
    with parts() as testbed:
        site = make(kind, testbed=testbed)
        assert isinstance(site, EdgeGithubSite)
        number = site.propose(site.edited(MANIFEST, "shift: 0.5", "shift: 0.4"))
        site.settle()
        assert site.only("pull-request.yml").conclusion == "success", site.only("pull-request.yml").log
        assert "run/mean" in site.comment(number, "edgetrain:plan")
        site.approve_and_merge(number)
        site.settle()
        trained(site, 1)
        [record] = run_records(site).values()
        assert (record["outcome"], record["target"]["egress"]) == ("candidate", "enforced")
        [proposal] = site.pulls()
        assert proposal["user"]["login"] == BOT
        site.server.commit(REPOSITORY, proposal["head"]["ref"], site.pointing(1), "Use it", by=RITA)
        site.settle()
        site.approve_and_merge(proposal["number"], by=PAT)
        site.settle()
        tags = site.tags(registry)
        assert tags["production"] == tags["1"]
        everything_once(site)
