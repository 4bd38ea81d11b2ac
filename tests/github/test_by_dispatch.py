"""What people ask for on the page of Actions: a run is cancelled, and tried again, each for a reason on record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.github.elsewhere import FromInit
from tests.github.site import PAT, RITA, GithubSite
from tests.github.test_end_to_end import SLOW, everything_once, run_records, trained

pytestmark = pytest.mark.needs("git>=2.34", "ssh-keygen")


def cancelled_and_tried_again(site: GithubSite) -> None:
    site.actions.disabled = {"pull-request.yml"}
    change = site.propose({"experiments/mean/train.py": SLOW})
    site.approve_and_merge(change)
    site.settle()
    held = site.held_run()
    reason = '$(touch pwned) "; exit 1 # `id`'
    asked = site.actions.dispatch("cancel.yml", by=PAT, run=held, reason=reason)
    site.settle()
    assert asked.conclusion == "success", asked.log
    trained(site, 1)
    [record] = run_records(site).values()
    assert (record["outcome"], record["attempt"]) == ("cancelled", 1)
    assert PAT in record["message"]
    assert reason in record["message"]
    assert not site.pulls()

    again = site.actions.dispatch("retry.yml", by=RITA, run=held, reason=reason)
    site.settle()
    assert again.conclusion == "success", again.log
    site.let_go()
    trained(site, 2)
    assert {(one["attempt"], one["outcome"]) for one in run_records(site).values()} == {
        (1, "cancelled"),
        (2, "candidate"),
    }
    assert not list(site.actions.folder.rglob("pwned"))
    everything_once(site)


@pytest.mark.long(0.5)
@pytest.mark.parametrize("kind", [GithubSite, FromInit])
def test_a_run_is_cancelled_and_tried_again(kind: type[GithubSite], make: Callable[..., GithubSite]) -> None:
    cancelled_and_tried_again(make(kind))
