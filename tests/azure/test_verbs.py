"""What people do to runs that Azure ML has started: read, cancel, give up, ask for again; and clearing up after."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from edgetrain.core.errors import UsageError
from edgetrain.core.record import Outcome
from edgetrain.reconcile.collect import collect
from edgetrain.reconcile.log_reader import read_log
from edgetrain.reconcile.report import ApplyResult, Status
from edgetrain.reconcile.runs import cancel, list_runs, retry
from edgetrain.render.runs import RunRow
from tests.azure.site import AzureRepository
from tests.contract.compute import until

pytestmark = [
    pytest.mark.long(0.5),
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo"),
    pytest.mark.xdist_group("azure"),
]
Make = Callable[..., AzureRepository]
WAITS = 'import select\nprint("begun", flush=True)\nselect.select([], [], [], 90)\n'


def begin(site: AzureRepository) -> RunRow:
    """Apply without waiting; the one run that is under way, once its script has spoken and Azure ML has it so."""
    assert Status.UNDER_WAY in [r.status for r in site.apply(wait=False).results]
    site.sync()

    def row() -> RunRow:
        [found] = [row for row in list_runs(site.clone).rows if row.state == "under way"]
        return found

    until(lambda: "begun" in read_log(site.clone, row().id), "the script to speak")
    until(lambda: row().phase == "running", "Azure ML to see it running")
    return row()


def outcomes(result: ApplyResult) -> list[Outcome]:
    return [r.outcome for r in result.results if r.outcome]


def test_a_run_is_read_cancelled_asked_for_again_and_given_up(repository: Make) -> None:
    site = repository()
    site._git("config", "user.name", "Petra Platform")
    site._git("config", "user.email", "petra@example.org")
    site.write("experiments/mean/train.py", WAITS)
    site.push("Take long")

    first = begin(site)
    assert first.target == "edge-vm-1"
    with pytest.raises(UsageError, match="is under way"):
        retry(site.clone, first.id, "too slow")
    assert "is cancelled" in cancel(site.clone, first.id)
    assert outcomes(site.apply()) == [Outcome.CANCELLED]
    until(lambda: [run["status"] for run in site.runs()] == ["Canceled"], "Azure ML to be done with it")
    [record] = site.records().values()
    assert "Petra Platform" in str(record["message"])
    site.sync()
    with pytest.raises(UsageError, match="is over: cancelled"):
        cancel(site.clone, first.id)
    assert "begun" in read_log(site.clone, first.id), "kept at the site"
    assert not site.apply().results, "nothing is trained again unasked"

    following = retry(site.clone, first.id, "had no time")
    second = begin(site)
    assert second.id == following
    assert "is given up" in cancel(site.clone, second.id, lost=True)
    assert outcomes(site.apply()) == [Outcome.LOST]
    assert list(site.opened().artifacts.claims("tickets/")) == []
    assert len(site.runs()) == 2
    site.sync()
    cancel_where_it_runs(site, second.id)


def cancel_where_it_runs(site: AzureRepository, name: str) -> None:
    """The VM is shared with other tests: nothing goes on there."""
    from edgetrain.reconcile.lookup import read_main

    target = read_main(site.clone).desired.targets["edge-vm-1"]
    site.opened().compute(target).cancel(name, "the test is over")
    until(lambda: {run["status"] for run in site.runs()} == {"Canceled"}, "the second run to end")


def test_what_nothing_names_any_more_is_collected_and_the_released_version_stays(repository: Make) -> None:
    site = repository()
    assert outcomes(site.apply()) == [Outcome.CANDIDATE]
    site.merge_proposal(1, production=1)
    assert site.apply().good
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.9")
    site.sync_and_push("Train a worse one")
    assert outcomes(site.apply()) == [Outcome.NOT_BETTER]
    site.edit("experiments/mean/experiment.yaml", "shift: 0.9", "shift: 0.5")
    site.sync_and_push("Go back")
    site.apply()
    site.sync()
    now = datetime.now(UTC)
    looked = collect(site.clone, None, 0, False, now)
    assert looked.garbage
    assert not looked.deleted
    before = set(site.opened().artifacts.digests())
    assert collect(site.clone, None, 0, True, now).deleted
    assert set(site.opened().artifacts.digests()) < before
    assert collect(site.clone, None, 0, False, now).garbage == ()
    assert [model.tags["edgetrain.version"] for model in site.models()] == ["1"]
    assert not site.apply().results, "what is named is all there"
