"""Killed at any step, and with a service that fails: the end is as without it, nothing twice, nothing lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import Event, Status
from tests.azure.site import AzureRepository
from tests.contract.compute import until
from tests.walk import SEED, WALK_ALL, sample

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo"),
    pytest.mark.xdist_group("azure"),
]
Make = Callable[..., AzureRepository]
ROOT = Path(__file__).parents[2]
TRAIN_STEPS, RELEASE_STEPS = 36, 44
# What the service may say, and where; each once or a few times, in the middle of an apply.
FAULTS = [
    ("401 at the run", r"GET .*/runs/mean-", 401, {}, 2),
    ("404 at the run", r"GET .*/runs/mean-", 404, {}, 2),
    ("409 at attach", r"PUT .*/computes/", 409, {}, 1),
    ("409 at register", r"POST .*/models", 409, {}, 1),
    ("429 with Retry-After at the list of compute", r"GET .*/computes", 429, {"Retry-After": "1"}, 2),
    ("429 without Retry-After at submit", r"POST .*/snapshotrun", 429, {}, 1),
    ("500 at submit", r"POST .*/snapshotrun", 500, {}, 1),
    ("503 at the metrics", r"POST .*/metric/", 503, {}, 2),
    ("500 at attach", r"PUT .*/computes/", 500, {}, 1),
    ("503 at register", r"POST .*/models", 503, {}, 1),
    ("500 at the model list", r"GET .*/models", 500, {}, 2),
]


def run(site: AzureRepository, kill_at: int, log: Path) -> int:
    command = [sys.executable, "-m", "tests.apply.killed", str(site.clone.parent), str(kill_at), str(log)]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=300, capture_output=True).returncode


Unharmed = tuple[dict[str, Any], dict[str, Any], list[str], list[str]]
_found: list[Unharmed] = []


@pytest.fixture
def unharmed(repository: Make, tmp_path: Path) -> Unharmed:
    """End states, and the steps, of a training and a releasing apply when nothing goes wrong; found once."""
    if not _found:
        site = repository()
        first, second = tmp_path / "train.log", tmp_path / "release.log"
        assert run(site, -1, first) == 0
        trained = site.end_state()
        site.merge_proposal(1, production=1)
        assert run(site, -1, second) == 0
        print(f"\nazure faults: seed {SEED}, all {WALK_ALL}")
        _found.append((trained, site.end_state(), first.read_text().split(), second.read_text().split()))
    return _found[0]


@pytest.mark.parametrize("number", sample(TRAIN_STEPS, 1))
def test_killed_while_training(unharmed: Unharmed, repository: Make, tmp_path: Path, number: int) -> None:
    trained, _, steps, _ = unharmed
    assert len(steps) <= TRAIN_STEPS
    site = repository()
    code = run(site, number, tmp_path / "log")
    assert code == (-signal.SIGKILL if number < len(steps) else 0), steps[number : number + 1]
    assert run(site, -1, tmp_path / "log") == 0
    assert site.end_state() == trained


@pytest.mark.parametrize("number", sample(RELEASE_STEPS, 1))
def test_killed_while_releasing(unharmed: Unharmed, repository: Make, tmp_path: Path, number: int) -> None:
    _, released, _, steps = unharmed
    assert len(steps) <= RELEASE_STEPS
    site = repository()
    assert run(site, -1, tmp_path / "first") == 0
    site.merge_proposal(1, production=1)
    code = run(site, number, tmp_path / "log")
    assert code == (-signal.SIGKILL if number < len(steps) else 0), steps[number : number + 1]
    assert run(site, -1, tmp_path / "log") == 0
    assert site.end_state() == released


def settled(site: AzureRepository, rounds: int = 4) -> None:
    """Apply until nothing is left to do; what the world refused for a moment is taken up again."""
    for _ in range(rounds):
        if site.apply().good and not site.apply().results:
            return
    raise AssertionError(site.apply())


@pytest.mark.parametrize("number", sample(len(FAULTS), 2))
def test_a_service_that_fails_now_and_then(unharmed: Unharmed, repository: Make, number: int) -> None:
    where, match, status, headers, count = FAULTS[number]
    site = repository()
    site.testbed.emulator.fault(match, status, count=count, headers=headers)
    settled(site)
    site.merge_proposal(1, production=1)
    settled(site)
    asked = [entry for entry in site.testbed.emulator.requests if entry.get("fault")]
    assert len(asked) == count, where
    assert site.end_state() == unharmed[1]


@pytest.mark.long(0.5)
def test_a_connection_that_is_reset_after_the_service_acted(unharmed: Unharmed, repository: Make) -> None:
    site = repository()
    for match in (r"PUT .*/computes/", r"POST .*/snapshotrun", r"POST .*/models$", r"POST .*/assets"):
        site.testbed.emulator.fault(match, reset=True, after=True, count=1)
    settled(site)
    site.merge_proposal(1, production=1)
    settled(site)
    assert site.end_state() == unharmed[1]


@pytest.mark.long(0.5)
def test_a_service_that_denies_is_told_and_nothing_is_lost(unharmed: Unharmed, repository: Make) -> None:
    site = repository()
    site.testbed.emulator.fault(r"POST .*/snapshotrun", 403, count=1000)
    [failed] = [r for r in site.apply().results if r.operation == "train"]
    assert (failed.status, failed.reason) == (Status.FAILED, "RightMissing"), failed
    assert "role of docs/azure.md" in failed.fix, failed
    assert site.runs() == []
    site.testbed.emulator.emulator.faults.clear()
    settled(site)
    site.merge_proposal(1, production=1)
    settled(site)
    assert site.end_state() == unharmed[1]


@pytest.mark.long(0.5)
def test_a_run_cancelled_in_the_portal_settles_as_cancelled(repository: Make) -> None:
    site = repository()
    site.write("experiments/mean/train.py", "import select\nselect.select([], [], [], 60)\n")
    site.push("Take long")
    done: list[bool] = []

    def report(event: Event) -> None:
        if event.kind == "Running" and not done:
            done.append(True)
            cancel_in_portal(site)

    [outcome] = [r.outcome for r in site.apply(report=report).results if r.outcome]
    assert outcome is Outcome.CANCELLED
    until(lambda: [found["status"] for found in site.runs()] == ["Canceled"], "Azure ML to be done with it")
    assert not site.apply().results, "nothing is trained again unasked"


def cancel_in_portal(site: AzureRepository) -> None:
    """As a person does it."""
    [run_id] = [found["runId"] for found in site.runs()]
    site.client().get_run(run_id).cancel()


@pytest.mark.long(0.5)
def test_a_model_deleted_by_hand_is_drift_and_comes_back_once(unharmed: Unharmed, repository: Make) -> None:
    site = repository()
    settled(site)
    site.merge_proposal(1, production=1)
    settled(site)
    [model] = site.client().models.values()
    model.delete()
    site.apply()
    settled(site)
    [again] = site.models()
    assert again.tags["edgetrain.version"] == "1"
    assert "edgetrain.channel.production" in again.tags
