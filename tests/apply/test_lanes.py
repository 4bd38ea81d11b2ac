"""Two lanes side by side: channels move while a training, or a look at huge data, goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgetrain.core.record import Outcome
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.reconcile.due import due
from edgetrain.reconcile.lanes import Lane
from edgetrain.reconcile.report import ApplyResult, Event
from tests.apply.site import SCRIPT, SmallSite
from tests.outputs import sound

# Long enough to be caught under way, on a slow machine too.
SECONDS = 12
SLOW = f"import select; select.select([], [], [], {SECONDS})\n"


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "site").make()


class Held:
    """An apply in the lane of trainings, in a thread, that stands still at an event until it may go on."""

    def __init__(self, site: SmallSite, at: str) -> None:
        self._site, self._at = site, at
        self._reached, self._go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._apply)
        self.results: list[ApplyResult] = []

    def _report(self, event: Event) -> None:
        if event.kind == self._at and not self._reached.is_set():
            self._reached.set()
            assert self._go_on.wait(240)

    def _apply(self) -> None:
        self.results.append(self._site.apply(report=self._report, lane=Lane.TRAIN))

    def begin(self) -> None:
        self._thread.start()
        assert self._reached.wait(120), "the apply did not come to it"

    def end(self) -> ApplyResult:
        self._go_on.set()
        self._thread.join(240)
        (result,) = self.results
        return result


def two_versions(site: SmallSite) -> None:
    """Versions 1 and 2 are released, and 2 is in production."""
    site.release()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    site.push("Better")
    assert site.apply().good
    site.merge_proposal(2, production=2)
    assert site.apply().good
    site.sync()


@pytest.mark.parametrize("at", ["Digesting", "Running"])
def test_a_rollback_while_a_training_goes_on(site: SmallSite, tmp_path: Path, at: str) -> None:
    two_versions(site)
    before = set(site.records())
    site.edit("experiments/mean/experiment.yaml", "shift: 0.4", "shift: 0.3")
    site.write("experiments/mean/train.py", SLOW + SCRIPT)
    site.push("Better still")
    held = Held(site, at)
    held.begin()
    other = site.second_clone(tmp_path / "other") / "clone"
    people = SmallSite(tmp_path / "other")
    people.point(1)
    people.push("Back to version 1")

    command = [
        sys.executable,
        "-m",
        "edgetrain",
        "-C",
        str(other),
        "apply",
        "--lane",
        "release",
        "--format",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [row["change"] for row in sound("apply", done.stdout)["results"]] == ["channel/mean/production"]
    (path,) = set(site.records()) - before
    moved = site.records()[path]
    assert (moved["kind"], moved["event"], moved["from"], moved["to"]) == ("ReleaseRecord", "channel", 2, 1)
    assert MlflowWorkspace(uri="", state=site.state).observe(["mean"])["mean"].channels == {"production": 1}
    tags = OciLayoutRegistry(root=site.state / "images").tags("mean")
    assert tags["production"] == tags["1"] != tags["2"]

    result = held.end()
    assert result.good
    assert [row.outcome for row in result.results if row.outcome] == [Outcome.CANDIDATE]
    records = site.records()
    assert len([name for name in records if "/runs/" in name]) == 3
    assert "edgetrain/proposal/mean-3" in site.branches()
    assert all(site.commits_of(name) == 1 for name in records)
    site.sync()
    assert not site.apply().results


def test_each_lane_leaves_the_others_work(site: SmallSite) -> None:
    assert site.apply(lane=Lane.RELEASE).results == ()
    assert not site.records()
    assert site.apply(lane=Lane.TRAIN).good
    site.merge_proposal(1, production=1)
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    site.push("Better")
    trained = site.apply(lane=Lane.TRAIN)
    assert {row.operation for row in trained.results} == {"train", "propose"}
    assert "ReleaseRecord" not in {record["kind"] for record in site.records().values()}
    released = site.apply(lane=Lane.RELEASE)
    assert {row.operation for row in released.results} == {"register", "push", "tag", "release", "move"}
    assert released.good
    assert not site.apply().results


def started(site: SmallSite, seconds: int = SECONDS) -> None:
    """A run goes on without an apply."""
    site.write("experiments/mean/train.py", SLOW.replace(str(SECONDS), str(seconds)) + SCRIPT)
    site.push("Train slowly")
    assert site.apply(wait=False).stopped is False


def test_a_run_that_nobody_wants_is_cancelled_where_there_is_no_consent_to_wait_for(site: SmallSite) -> None:
    started(site, 10 * SECONDS)
    site.write("experiments/mean/train.py", SCRIPT)
    site.push("Train quickly after all")
    result = site.apply(lane=Lane.TRAIN)
    assert {row.outcome for row in result.results if row.outcome} == {Outcome.CANCELLED, Outcome.CANDIDATE}


def test_a_run_that_nobody_wants_is_cancelled_in_the_lane_of_releases(site: SmallSite) -> None:
    started(site, 10 * SECONDS)
    site.write("experiments/mean/train.py", SCRIPT)
    site.push("Train quickly after all")
    result = site.apply(lane=Lane.RELEASE)
    assert [row.outcome for row in result.results] == [Outcome.CANCELLED]
    assert [(r["outcome"], r["reason"]) for r in site.records().values()] == [("cancelled", "Superseded")]
    site.sync()
    assert [row.outcome for row in site.apply(lane=Lane.TRAIN).results if row.outcome] == [Outcome.CANDIDATE]


def test_a_rollback_is_well_though_an_experiment_is_refused(site: SmallSite) -> None:
    site.release()
    site.write("experiments/mean/train.py", SCRIPT + "import socket\nsocket.create_connection(('x', 1))\n")
    site.push("Call home")
    refused = site.apply(lane=Lane.TRAIN)
    assert refused.plan.problems and not refused.good
    site.sync()
    site.edit("models/mean/model.yaml", "channels: {production: 1}", "channels: {production: 1, canary: 1}")
    site.push("A canary")
    result = site.apply(lane=Lane.RELEASE)
    assert result.good
    assert [row.operation for row in result.results] == ["move"]


# --- github due ----------------------------------------------------------------------------------------


def lanes_due(site: SmallSite) -> tuple[bool, bool]:
    found = due(site.clone)
    assert not found.notes
    return bool(found.train), bool(found.release)


def test_which_lanes_have_work(site: SmallSite) -> None:
    assert lanes_due(site) == (True, False)
    started(site)
    assert lanes_due(site) == (True, False)
    assert any(name.startswith("ticket/") for name in due(site.clone).train)
    assert site.apply().good
    assert lanes_due(site) == (False, False)
    site.merge_proposal(1, production=1)
    assert lanes_due(site) == (False, True)
    assert site.apply(lane=Lane.RELEASE).good
    assert lanes_due(site) == (False, False)


def test_a_run_to_be_cancelled_is_due_in_both_lanes(site: SmallSite) -> None:
    started(site, 10 * SECONDS)
    site.write("experiments/mean/train.py", SCRIPT)
    site.push("Train quickly after all")
    assert lanes_due(site) == (True, True)
    assert site.apply(lane=Lane.RELEASE).good
    assert lanes_due(site) == (True, False)


def test_the_step_gets_its_outputs(site: SmallSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = tmp_path / "outputs"
    outputs.write_text("before=1\n")
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    monkeypatch.setenv("EDGETRAIN_SITE", "here")
    command = [sys.executable, "-m", "edgetrain", "-C", str(site.clone), "github", "due"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "train=true\nrelease=false\n"
    assert outputs.read_text() == "before=1\ntrain=true\nrelease=false\n"
    told = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    assert sound("github-due", told.stdout)["why"] == {"train": ["run/mean"], "release": []}


def test_what_can_not_be_looked_at_is_told(site: SmallSite) -> None:
    assert site.apply().good
    (site.state / "artifacts" / "claims").rename(site.state / "away")
    (site.state / "artifacts" / "claims").write_text("no folder\n")
    found = due(site.clone)
    assert (found.train, found.release) == ((), ())
    assert "could not be looked at" in found.notes[0]
