"""Faults of the world around an apply: after each, the end is as without it, or a clear outcome."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from edgetrain.core.record import Outcome
from edgetrain.reconcile.report import ApplyResult, Event, Status
from edgetrain.reconcile.runs import cancel, list_runs
from testbed.site import Testbed
from tests.apply.evaluated import EVALUATE
from tests.apply.site import SCRIPT
from tests.contract.compute import until
from tests.edge.site import EdgeSite
from tests.edge.test_main_job import evaluate
from tests.walk import SEED, WALK_ALL, sample

pytestmark = [
    pytest.mark.needs("vm", "azurite", "registry", "mmdebstrap", "skopeo"),
    pytest.mark.xdist_group("edge-faults"),
]
ROOT = Path(__file__).parents[2]
SLOWLY = "import select; select.select([], [], [], 6)\n"
SLOW = SCRIPT.replace("import argparse", f"{SLOWLY}import argparse")
GREEDY = "held = bytearray(400 * 2**20)\n" + SCRIPT
BULKY = """\
import os, pathlib
(pathlib.Path(os.environ["EDGETRAIN_OUTPUTS"]) / "model.json").write_bytes(bytes(200 * 2**20))
"""
TRAIN_STEPS, RELEASE_STEPS = 34, 44
# Where the link is cut, and for how many seconds (None: until the apply has ended).
PHASES = ("Digesting", "start", "Starting", "Running", "Checking", "artifacts", "forget")
CUTS = [(phase, seconds) for phase in PHASES for seconds in (5.0, None)]


@pytest.fixture(scope="module")
def testbed() -> Iterator[Testbed]:
    with Testbed() as bed:
        yield bed


@pytest.fixture
def site(testbed: Testbed, tmp_path: Path) -> EdgeSite:
    return EdgeSite(tmp_path / "site", testbed).make(keepAlive="1s", connectTimeout="3s")


def end_state(site: EdgeSite) -> dict[str, Any]:
    """What must be the same whatever went wrong; no time, host or commit id in it."""
    records, opened = site.records(), site.opened()
    tags = opened.registry("site").tags(site.name)
    client = MlflowClient(f"sqlite:///{site.state / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    return {
        "records": sorted(records),
        "commits": {path: site.commits_of(path) for path in records},
        "outcomes": [r["outcome"] for r in records.values() if r["kind"] == "RunRecord"],
        "branches": site.branches(),
        "runs in workspace": len(client.search_runs(experiments)),
        "versions in workspace": [v.tags["edgetrain.version"] for v in client.search_model_versions()],
        "tags": sorted(name if not name.startswith("git-") else "git-" for name in tags),
        "images": len(set(tags.values())),
        "tickets": list(opened.artifacts.claims("tickets/")),
        "artifacts": len(list(opened.artifacts.digests())),
    }


def outcomes(result: ApplyResult) -> list[Outcome]:
    return [r.outcome for r in result.results if r.outcome]


def run(site: EdgeSite, kill_at: int, log: Path) -> int:
    command = [sys.executable, "-m", "tests.apply.killed", str(site.clone.parent), str(kill_at), str(log)]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=300, capture_output=True).returncode


Unharmed = tuple[dict[str, Any], dict[str, Any], list[str], list[str]]


@pytest.fixture(scope="module")
def unharmed(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Unharmed:
    """End states, and the steps, of a training and a releasing apply when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("unharmed")
    site = EdgeSite(folder / "site", testbed).make()
    first, second = folder / "train.log", folder / "release.log"
    assert run(site, -1, first) == 0
    trained = end_state(site)
    site.merge_proposal(1, production=1)
    assert run(site, -1, second) == 0
    print(f"\nedge faults: seed {SEED}, all {WALK_ALL}")
    return trained, end_state(site), first.read_text().split(), second.read_text().split()


@pytest.mark.parametrize("number", sample(TRAIN_STEPS, 1))
def test_killed_while_training(unharmed: Unharmed, site: EdgeSite, tmp_path: Path, number: int) -> None:
    trained, _, steps, _ = unharmed
    assert len(steps) <= TRAIN_STEPS
    code = run(site, number, tmp_path / "log")
    assert code == (-signal.SIGKILL if number < len(steps) else 0), steps[number : number + 1]
    assert run(site, -1, tmp_path / "log") == 0
    assert end_state(site) == trained


@pytest.mark.parametrize("number", sample(RELEASE_STEPS, 1))
def test_killed_while_releasing(unharmed: Unharmed, site: EdgeSite, tmp_path: Path, number: int) -> None:
    _, released, _, steps = unharmed
    assert len(steps) <= RELEASE_STEPS
    assert run(site, -1, tmp_path / "first") == 0
    site.merge_proposal(1, production=1)
    code = run(site, number, tmp_path / "log")
    assert code == (-signal.SIGKILL if number < len(steps) else 0), steps[number : number + 1]
    assert run(site, -1, tmp_path / "log") == 0
    assert end_state(site) == released


def once(name: str, act: Callable[[], None]) -> tuple[Callable[[str], None], Callable[[Event], None]]:
    """A step hook and a report; the first of either that has this name calls `act`."""
    done = threading.Event()

    def fire(found: str) -> None:
        if found == name and not done.is_set():
            done.set()
            act()

    return fire, lambda event: fire(event.kind)


@pytest.mark.parametrize("number", sample(len(CUTS), 2))
def test_the_link_to_the_vm_is_cut(unharmed: Unharmed, site: EdgeSite, number: int) -> None:
    phase, seconds = CUTS[number]
    assert site.testbed is not None
    vm = site.testbed.vm

    def cut() -> None:
        vm.cut()
        if seconds is not None:
            timer = threading.Timer(seconds, vm.restore)
            timer.daemon = True
            timer.start()

    step, report = once(phase, cut)
    try:
        first = site.apply(step=step, report=report)
    finally:
        vm.restore()
    assert all(r.fix or r.good for r in first.results), first.results
    site.apply()
    assert end_state(site) == unharmed[0]


@pytest.mark.parametrize("phase", ["Digesting", "artifacts"])
def test_the_blob_store_is_down_for_a_while(unharmed: Unharmed, site: EdgeSite, phase: str) -> None:
    assert site.testbed is not None
    step, report = once(phase, site.testbed.azurite.stop)
    try:
        first = site.apply(step=step, report=report)
        assert not first.good
        assert all(r.fix for r in first.results if not r.good), first.results
    finally:
        site.testbed.azurite.start()
    site.apply()
    assert end_state(site) == unharmed[0]


@pytest.mark.long(0.5)
def test_the_registry_is_down_for_a_while(unharmed: Unharmed, site: EdgeSite) -> None:
    assert outcomes(site.apply()) == [Outcome.CANDIDATE]
    site.merge_proposal(1, production=1)
    assert site.testbed is not None
    step, report = once("push", site.testbed.registry.stop)
    try:
        assert not site.apply(step=step, report=report).good
    finally:
        site.testbed.registry.start()
    site.apply()
    assert end_state(site) == unharmed[1]


@pytest.mark.long(0.5)
def test_a_reboot_loses_the_run_and_the_next_attempt_trains(site: EdgeSite) -> None:
    assert site.testbed is not None
    site.write("experiments/mean/train.py", SLOW)
    site.push("Train slowly")
    step, report = once("Running", site.testbed.vm.reboot)
    first = site.apply(step=step, report=report)
    assert outcomes(first)[:1] == [Outcome.LOST], first.results
    second = site.apply()
    assert Outcome.CANDIDATE in {*outcomes(first), *outcomes(second)}
    assert sorted(path[-7:] for path in site.records() if "/runs/" in path) == ["-1.json", "-2.json"]


@pytest.mark.long(0.5)
def test_a_reboot_loses_the_scoring_and_the_next_attempt_scores(site: EdgeSite) -> None:
    assert site.testbed is not None
    evaluate(site)
    site.write("models/mean/evaluation/evaluate.py", SLOWLY + EVALUATE)
    site.push("Evaluate slowly")
    begun: list[str] = []

    def report(event: Event) -> None:
        if event.kind == "Evaluating":
            begun.append(event.subject)

    def scoring() -> bool:
        site.apply(wait=False, report=report)
        return bool(begun)

    until(scoring, "the training to be over, and its scoring to begin")
    site.testbed.vm.reboot()
    assert outcomes(site.apply(report=report)) == [Outcome.CANDIDATE]
    assert [name.rpartition("-")[2] for name in begun] == ["1", "2"]
    [record] = [found for found in site.records().values() if found["kind"] == "RunRecord"]
    assert (record["attempt"], record["metrics"]) == (1, {"error": 0.5})


@pytest.mark.long(0.5)
def test_a_vm_that_is_gone_is_given_up(site: EdgeSite) -> None:
    assert site.testbed is not None
    site.write("experiments/mean/train.py", "import signal\nwhile True:\n    signal.pause()\n")
    site.push("Train for ever")
    assert [r.status for r in site.apply(wait=False).results] == [Status.UNDER_WAY]
    [row] = [row for row in list_runs(site.clone).rows if row.state == "under way"]
    site.testbed.vm.cut()
    try:
        assert not site.apply().good
        cancel(site.clone, row.id, lost=True)
        result = site.apply()
        assert outcomes(result) == [Outcome.LOST], (result.results, result.plan.problems)
        assert list(site.opened().artifacts.claims("tickets/")) == []
    finally:
        site.testbed.vm.restore()
        site.testbed.vm.reboot()


@pytest.mark.long(0.5)
def test_a_restarted_sshd_stops_nothing(site: EdgeSite) -> None:
    assert site.testbed is not None
    site.write("experiments/mean/train.py", SLOW)
    site.push("Train slowly")
    step, report = once("Running", site.testbed.vm.restart_sshd)
    assert outcomes(site.apply(step=step, report=report)) == [Outcome.CANDIDATE]
    assert sorted(path[-7:] for path in site.records() if "/runs/" in path) == ["-1.json"]


@pytest.mark.parametrize(
    ("script", "old", "new", "outcome", "reason"),
    [
        (GREEDY, "seed: 1", "resources: {memory: 96Mi}\n  seed: 1", "failed", "OutOfMemory"),
        (SLOW, "timeout: 2m", "timeout: 2s", "failed", "TimedOut"),
        ("raise SystemExit(7)\n", "seed: 1", "seed: 2", "failed", "ExitCode"),
        (BULKY, "seed: 1", "seed: 3", "rejected", "OutputsTooLarge"),
    ],
    ids=["memory", "time-out", "exit code", "outputs"],
)
def test_a_run_that_ends_badly_has_a_clear_outcome(
    site: EdgeSite, script: str, old: str, new: str, outcome: str, reason: str
) -> None:
    site.write("experiments/mean/train.py", script)
    site.edit("experiments/mean/experiment.yaml", old, new)
    site.push("End badly")
    assert outcomes(site.apply()) == [Outcome(outcome)]
    assert [r["reason"] for r in site.records().values()] == [reason]
    assert not site.apply().results


@pytest.mark.long(0.5)
def test_two_runners_at_once_do_everything_once(unharmed: Unharmed, site: EdgeSite, tmp_path: Path) -> None:
    other = site.second_clone(tmp_path / "other")
    runners = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.apply.killed", str(clone), "-1", str(tmp_path / f"log{n}")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for n, clone in enumerate((site.clone.parent, other))
    ]
    said = [runner.communicate(timeout=300)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    assert end_state(site) == unharmed[0]
