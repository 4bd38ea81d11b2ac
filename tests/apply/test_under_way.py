"""Runs that outlive their apply: stop and adopt, supersede, time-out, loss, and two applies at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgetrain.core.record import Outcome
from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.reconcile.report import ApplyResult, Event, Status
from tests.apply.evaluated import EvaluatedSite
from tests.apply.site import SCRIPT, SmallSite

ROOT = Path(__file__).parents[2]
# Long enough to be caught under way, on a slow machine too.
SLOW = SCRIPT.replace("import argparse", "import select; select.select([], [], [], 6)\nimport argparse")


def slow(site: SmallSite) -> SmallSite:
    site.write("experiments/mean/train.py", SLOW)
    site.push("Train slowly")
    return site


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return slow(SmallSite(tmp_path / "site").make())


def outcomes(result: ApplyResult) -> list[Outcome]:
    return [r.outcome for r in result.results if r.outcome]


def stopped_while_running(site: SmallSite) -> ApplyResult:
    """An apply that is asked to stop as soon as its run is running."""
    stop = threading.Event()

    def report(event: Event) -> None:
        if event.kind == "Running":
            stop.set()

    return site.apply(stop=stop, report=report)


def test_a_stopped_apply_leaves_its_run_going_and_the_next_adopts_it(site: SmallSite) -> None:
    first = stopped_while_running(site)
    assert first.stopped
    assert [r.status for r in first.results] == [Status.UNDER_WAY]
    assert not site.records()

    seen: list[str] = []
    second = site.apply(report=lambda event: seen.append(event.kind))
    assert outcomes(second) == [Outcome.CANDIDATE]
    assert "Adopted" in seen
    assert "Starting" not in seen
    assert [path for path in site.records() if "/runs/" in path and path.endswith("-1.json")]


def test_a_run_that_nobody_wants_any_more_is_cancelled_and_never_proposed(site: SmallSite) -> None:
    stopped_while_running(site)
    site.sync()
    site.write("experiments/mean/train.py", SCRIPT)
    site.push("Train quickly after all")
    result = site.apply()
    assert set(outcomes(result)) == {Outcome.CANCELLED, Outcome.CANDIDATE}
    cancelled = [r for r in site.records().values() if r.get("outcome") == "cancelled"]
    assert [r["reason"] for r in cancelled] == ["Superseded"]
    assert not site.apply().results


def test_a_run_past_its_time_out_has_failed(site: SmallSite) -> None:
    site.edit("experiments/mean/experiment.yaml", "timeout: 2m", "timeout: 1s")
    site.push("Hurry")
    result = site.apply()
    assert outcomes(result) == [Outcome.FAILED]
    assert [r["reason"] for r in site.records().values()] == ["TimedOut"]
    assert not site.apply().results


def test_a_lost_run_gets_one_more_attempt_and_no_third(site: SmallSite) -> None:
    def lose(event: Event) -> None:
        if event.kind == "Running":
            kill_runs(site)

    result = site.apply(report=lose)
    assert outcomes(result) == [Outcome.LOST]
    again = site.apply(report=lose)
    assert outcomes(again) == [Outcome.LOST]
    assert sorted(path[-7:] for path in site.records()) == ["-1.json", "-2.json"]
    assert not site.apply().results


def kill_runs(site: SmallSite) -> None:
    """Kill every process that works for a run of this site, as a power cut would."""
    marker = str(site.state / "runs").encode()
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                arguments = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if marker in arguments:
                try:
                    os.kill(int(process.name), signal.SIGKILL)
                except ProcessLookupError:
                    continue


@pytest.mark.parametrize("kind", [SmallSite, EvaluatedSite])
def test_two_runners_at_once_do_everything_once(kind: type[SmallSite], tmp_path: Path) -> None:
    site = slow(kind(tmp_path / "site").make())
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
    said = [runner.communicate(timeout=200)[0] for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], said
    records = site.records()
    assert len([path for path in records if "/runs/" in path]) == 1
    assert all(site.commits_of(path) == 1 for path in records)
    assert "edgetrain/proposal/mean-1" in site.branches()
    assert not site.apply().results
    # Nor was anything scored twice.
    assert len(list((site.state / "logs").glob("mean.score-*"))) == isinstance(site, EvaluatedSite)
    store = FolderArtifacts(root=site.state / "artifacts")
    assert [list(store.claims(claims)) for claims in ("tickets/", "scorings/")] == [[], []]
