"""The same flows over the real parts of a site, and over Azure ML's stand-in: all of them in `make test-all`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from testbed.azure import AzureSite
from testbed.site import Testbed
from tests.github import test_end_to_end as flows
from tests.github.site import GithubSite
from tests.github.sites import AzureGithubSite, EdgeGithubSite
from tests.github.test_by_dispatch import cancelled_and_tried_again

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo", "git>=2.34", "ssh-keygen"),
    pytest.mark.long(0),
    pytest.mark.xdist_group("azure"),
]
FLOWS = (
    flows.test_a_pull_request_becomes_a_model_in_production_and_is_taken_back,
    flows.test_queued_merges_and_a_killed_runner_leave_everything_done_once,
    flows.test_drift_keeps_one_issue_and_changed_data_one_pull_request,
    cancelled_and_tried_again,
)


def test_every_flow_is_here() -> None:
    assert {flow.__name__ for flow in FLOWS} >= {name for name in vars(flows) if name.startswith("test_")}


@pytest.fixture
def surroundings() -> Iterator[None]:
    """A session with Azure sets the proxy and the authorities of this process: they go with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(
    scope="module", params=[(Testbed, EdgeGithubSite), (AzureSite, AzureGithubSite)], ids=["edge", "azure"]
)
def parts(request: pytest.FixtureRequest) -> Iterator[tuple[Testbed, type[EdgeGithubSite]]]:
    """The parts, which the flows share, and the site that is made of them."""
    bed, kind = request.param
    with bed() as testbed:
        yield testbed, kind


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__.removeprefix("test_"))
def test_flow(
    flow: Callable[[GithubSite], None],
    parts: tuple[Testbed, type[EdgeGithubSite]],
    surroundings: None,
    make: Callable[..., GithubSite],
) -> None:
    testbed, kind = parts
    if isinstance(testbed, AzureSite):
        testbed.renew()  # to an empty workspace
    site = make(kind, testbed=testbed)
    flow(site)
    assert {record["target"]["egress"] for record in flows.run_records(site).values()} == {"enforced"}
    if isinstance(testbed, AzureSite):
        log = testbed.emulator.emulator.log
        assert (log.failures, log.unknown_routes) == ([], [])
