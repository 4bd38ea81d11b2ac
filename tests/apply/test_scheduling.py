"""Slots, waiting, and what must not wait: several experiments on one site."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import Event, Status
from edgetrain.reconcile.runs import cancel, list_runs
from tests.apply.site import EXPERIMENT, MODEL, TARGET, SmallSite

HANGING = "import signal\nwhile True:\n    signal.pause()\n"


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    """`mean` trains at once; `forever` until it is cancelled."""
    site = SmallSite(tmp_path / "site").make()
    for path, text in (("experiments", EXPERIMENT), ("models", MODEL)):
        name = "experiment" if path == "experiments" else "model"
        changed = text.replace("name: mean", "name: forever").replace("model: mean", "model: forever")
        site.write(f"{path}/forever/{name}.yaml", changed.replace("repository: mean", "repository: forever"))
    site.write("experiments/forever/train.py", HANGING)
    return site


def test_a_release_does_not_wait_for_a_training(site: SmallSite) -> None:
    site.edit("models/mean/model.yaml", "release: review", "release: automatic")
    site.push("Two at once")
    order: list[str] = []

    def report(event: Event) -> None:
        order.append(f"{event.kind} {event.subject}")
        if (event.kind, event.subject) == ("Applied", "release/mean@1"):
            [row] = [row for row in list_runs(site.clone).rows if row.state == "under way"]
            cancel(site.clone, row.id)

    result = site.apply(report=report)
    ended = {r.change.partition("/")[2]: r.outcome for r in result.results if r.outcome}
    assert ended == {"mean": Outcome.CANDIDATE, "forever": Outcome.CANCELLED}
    assert order.index("Applied release/mean@1") < order.index("Applied run/forever")
    assert not site.apply().results


def test_a_full_target_makes_wait_and_says_so(site: SmallSite) -> None:
    site.write("compute/runner.yaml", TARGET.replace("slots: 2", "slots: 1"))
    site.push("One slot")
    first = site.apply(wait=False)
    said = {r.change: (r.status, r.reason) for r in first.results}
    assert said == {
        "run/forever": (Status.UNDER_WAY, "LeftRunning"),
        "run/mean": (Status.WAITING, "NoFreeSlot"),
    }
    assert first.good
    [row] = [row for row in list_runs(site.clone).rows if row.state == "waiting"]
    assert (row.reason, row.message) == ("NoFreeSlot", "runner has 0 of 1 slots free")
    [busy] = [row for row in list_runs(site.clone).rows if row.state == "under way"]
    cancel(site.clone, busy.id)
    second = site.apply()
    assert {r.outcome for r in second.results if r.outcome} == {Outcome.CANCELLED, Outcome.CANDIDATE}


def test_runs_that_were_left_are_recorded_by_a_later_apply_that_does_not_wait_either(site: SmallSite) -> None:
    site.push("Two at once")
    assert {r.status for r in site.apply(wait=False).results} == {Status.UNDER_WAY}
    for row in list_runs(site.clone).rows:
        cancel(site.clone, row.id)
    again = site.apply(wait=False)
    assert {r.outcome for r in again.results if r.outcome} <= {Outcome.CANCELLED, Outcome.CANDIDATE}
    assert len([path for path in site.records() if "/runs/" in path]) == 2


def test_the_capacity_that_is_declared_is_not_passed(site: SmallSite) -> None:
    site.write("compute/runner.yaml", TARGET.replace("slots: 2", "slots: 2, cpus: 1"))
    for name in ("mean", "forever"):
        site.edit(f"experiments/{name}/experiment.yaml", "  seed: 1", "  resources: {cpus: 1}\n  seed: 1")
    site.push("One processor")
    first = site.apply(wait=False)
    assert sorted(r.status for r in first.results) == [Status.UNDER_WAY, Status.WAITING]
    [busy] = [row for row in list_runs(site.clone).rows if row.state == "under way"]
    cancel(site.clone, busy.id)


def test_a_target_that_fails_a_cheap_check_gets_no_run(site: SmallSite) -> None:
    site.write("compute/runner.yaml", TARGET.replace("slots: 2", "slots: 2, cpus: 4096"))
    site.push("Promise too much")
    result = site.apply()
    assert not result.results
    assert {problem.code for problem in result.plan.problems} == {"P503"}
    assert all("4096 CPUs are declared" in problem.what for problem in result.plan.problems)
