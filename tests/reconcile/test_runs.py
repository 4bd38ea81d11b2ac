"""Runs under way, recorded and waiting: listed, read, cancelled, asked for again, proposed again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgetrain.cli.app import app
from edgetrain.core.digest import canonical
from edgetrain.core.errors import ProviderError, UsageError
from edgetrain.core.record import Outcome
from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.reconcile.log_reader import read_log
from edgetrain.reconcile.lookup import one_of
from edgetrain.reconcile.main_branch import MainBranch
from edgetrain.reconcile.models import log, models
from edgetrain.reconcile.report import ApplyResult, Event
from edgetrain.reconcile.runs import cancel, list_runs, propose_again, retry
from edgetrain.render.models import log_text, models_text
from edgetrain.render.runs import runs_text
from tests.apply.site import SmallSite
from tests.outputs import told

WAITS = """\
import json, os, pathlib, threading
print("begun", flush=True)
threading.Event().wait(300)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallSite:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    site = SmallSite(tmp_path / "a site").make()
    site._git("config", "user.name", "Petra Platform")
    site._git("config", "user.email", "petra@example.org")
    return site


class Applying:
    """An apply in a thread of its own; `running` is set once a run is under way."""

    def __init__(self, site: SmallSite) -> None:
        self.running = threading.Event()
        self.stop = threading.Event()
        self.pool = ThreadPoolExecutor(1)
        self.result: Future[ApplyResult] = self.pool.submit(site.apply, stop=self.stop, report=self.report)

    def report(self, event: Event) -> None:
        if event.kind == "Running":
            self.running.set()

    def leave(self) -> ApplyResult:
        self.stop.set()
        return self.result.result(60)


@pytest.fixture
def applying(site: SmallSite) -> Iterator[Applying]:
    """An apply whose script waits for ever."""
    site.write("experiments/mean/train.py", WAITS)
    site.push("Wait")
    made = Applying(site)
    assert made.running.wait(60)
    yield made
    made.stop.set()
    for row in list_runs(site.clone).rows:
        if row.state == "under way":
            cancel(site.clone, row.id)
    made.pool.shutdown()


def trained(site: SmallSite) -> str:
    """Apply once; the id of its run."""
    site.apply()
    site.sync()
    return list_runs(site.clone).rows[-1].id


# --- listing -----------------------------------------------------------------------------------------


def test_waiting_then_recorded(site: SmallSite) -> None:
    before = list_runs(site.clone)
    assert [(row.state, row.reason, row.outcome) for row in before.rows] == [("waiting", "NewExperiment", None)]
    assert "NewExperiment" in runs_text(before)
    site.apply()
    (row,) = list_runs(site.clone).rows
    assert (row.state, row.outcome, row.target, row.metrics) == ("recorded", "candidate", "runner", {"score": 0.5})
    assert list_runs(site.clone, outcome="failed").rows == ()
    assert list_runs(site.clone, experiment="other").rows == ()


def test_a_drained_target_makes_wait(site: SmallSite) -> None:
    site.edit("compute/runner.yaml", "slots: 2}}", "slots: 2}, schedulable: false}")
    site.push("Drain")
    assert [(row.state, row.reason) for row in list_runs(site.clone).rows] == [("waiting", "TargetDrained")]


def test_nothing_at_all(site: SmallSite) -> None:
    site._git("rm", "-rq", "experiments")
    site.push("No experiments")
    assert runs_text(list_runs(site.clone)) == "No run is recorded, under way or waiting.\n"


# --- under way ---------------------------------------------------------------------------------------


def test_a_run_under_way_is_listed_read_and_cancelled(site: SmallSite, applying: Applying) -> None:
    (row,) = list_runs(site.clone).rows
    assert (row.state, row.phase, row.target) == ("under way", "running", "runner")
    lines = read_log(site.clone, row.id, follow=True)
    assert next(lines) == "begun"
    with pytest.raises(UsageError, match="is under way"):
        retry(site.clone, row.id, "too slow")
    assert "is cancelled" in cancel(site.clone, row.id[:10])
    assert "begun" not in list(lines), "following ends with the run"
    result = applying.result.result(60)
    assert [r.outcome for r in result.results if r.outcome] == [Outcome.CANCELLED]
    (record,) = site.records().values()
    assert "Petra Platform" in str(record["message"])
    site.sync()
    with pytest.raises(UsageError, match="is over: cancelled"):
        cancel(site.clone, row.id)
    assert not site.apply().results, "a cancelled run is settled"


def test_watching_ends_with_the_last_run(
    site: SmallSite, applying: Applying, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    applying.leave()
    (row,) = list_runs(site.clone).rows
    looks = []

    def look(*asked: Any) -> Any:
        looks.append(asked)
        if len(looks) == 3:
            cancel(site.clone, row.id)
        return list_runs(*asked)

    monkeypatch.setattr("edgetrain.reconcile.runs.list_runs", look)
    monkeypatch.setattr("edgetrain.cli.runs.REFRESH_SECONDS", 0.01)
    code = app.main(["-C", str(site.clone), "runs", "--watch", "--experiment", "mean"], standalone_mode=False)
    assert (code, len(looks)) == (0, 3)
    assert "under way: ended" in capsys.readouterr().out


def test_a_run_that_ended_unseen_is_over_and_the_next_apply_records_it(site: SmallSite, applying: Applying) -> None:
    applying.leave()
    (row,) = list_runs(site.clone).rows
    assert "is cancelled" in cancel(site.clone, row.id)
    (row,) = list_runs(site.clone).rows
    assert (row.state, row.phase, row.reason) == ("under way", "ended", "the next apply records it")
    assert "is over already" in cancel(site.clone, row.id)
    assert [r.outcome for r in site.apply().results if r.outcome] == [Outcome.CANCELLED]


def test_a_target_that_is_gone_is_told(site: SmallSite, applying: Applying) -> None:
    applying.leave()
    (row,) = list_runs(site.clone).rows
    text = (site.clone / "compute/runner.yaml").read_text()
    site._git("rm", "-q", "compute/runner.yaml")
    site.write("compute/other.yaml", text.replace("runner", "other"))
    site.edit("experiments/mean/experiment.yaml", "compute: runner", "compute: other")
    site.push("Rename the target")
    found = list_runs(site.clone)
    assert ("under way", "not known") in [(r.state, r.phase) for r in found.rows]
    assert "not declared any more" in found.notes[0]
    with pytest.raises(ProviderError, match="not declared any more"):
        cancel(site.clone, row.id)
    site._git("revert", "--no-edit", "HEAD")
    site._git("push", "--quiet", "origin", "main")


# --- logs --------------------------------------------------------------------------------------------


def test_logs_of_a_recorded_run(site: SmallSite) -> None:
    name = trained(site)
    assert list(read_log(site.clone, name)) == ["trained on 3 numbers"]
    assert list(read_log(site.clone, name[:7])) == ["trained on 3 numbers"]
    (site.state / "logs" / f"{name}.log").unlink()
    with pytest.raises(ProviderError) as caught:
        read_log(site.clone, name)
    assert caught.value.reason == "LogNotHere"
    with pytest.raises(UsageError, match="did you mean"):
        read_log(site.clone, name.replace("mean", "meam"))


def test_a_log_that_was_replaced_by_a_link_is_not_followed(site: SmallSite) -> None:
    name = trained(site)
    log_file = site.state / "logs" / f"{name}.log"
    log_file.unlink()
    log_file.symlink_to("/etc/passwd")
    with pytest.raises(ProviderError):
        read_log(site.clone, name)


def test_names_by_their_beginning() -> None:
    names = ["mean-aa-1", "mean-aa-10", "mean-ab-1"]
    assert one_of(names, "mean-ab") == "mean-ab-1"
    assert one_of(names, "mean-aa-1") == "mean-aa-1"
    assert one_of(names, "x") is None
    assert one_of(names, "") is None
    with pytest.raises(UsageError, match="could be 2 runs"):
        one_of(names, "mean-aa")


# --- retry -------------------------------------------------------------------------------------------


def test_a_retry_is_done_by_the_next_apply_and_recorded_with_its_reason(site: SmallSite) -> None:
    site.write("experiments/mean/train.py", "raise SystemExit(1)\n")
    site.push("Break it")
    name = trained(site)
    following = retry(site.clone, name, "the disk\nwas full")
    assert following == name[:-1] + "2"
    assert retry(site.clone, name, "the disk\nwas full") == following, "asking again changes nothing"
    with pytest.raises(UsageError, match="was asked for already, by Petra"):
        retry(site.clone, name, "another reason")
    site.apply()
    wish = {"by": "Petra Platform <petra@example.org>", "reason": "the disk was full", "run": name}
    (second,) = [r for r in site.records().values() if r["attempt"] == 2]
    assert second["retry"] == wish
    assert list(FolderArtifacts(root=site.state / "artifacts").claims("retries/")) == []
    site.sync()
    with pytest.raises(UsageError, match="not the last attempt") as caught:
        retry(site.clone, name, "again")
    assert following in caught.value.fix


def test_what_can_not_be_retried(site: SmallSite) -> None:
    name = trained(site)
    with pytest.raises(UsageError, match="no run"):
        retry(site.clone, "nothing", "because")
    with pytest.raises(UsageError, match="needs a reason"):
        retry(site.clone, name, " \n ")
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    site.push("Something else")
    with pytest.raises(UsageError, match="not what main wants") as caught:
        retry(site.clone, name, "because")
    assert "back to commit" in caught.value.fix


def test_a_retry_is_for_the_runner_of_the_site(site: SmallSite) -> None:
    name = trained(site)
    site.state.rename(site.state.with_name("elsewhere"))
    with pytest.raises(ProviderError) as caught:
        retry(site.clone, name, "because")
    assert caught.value.reason == "NotTheRunner"
    assert not site.state.exists()


# --- propose -----------------------------------------------------------------------------------------


def test_a_closed_proposal_is_opened_again(site: SmallSite) -> None:
    name = trained(site)
    branch = "edgetrain/proposal/mean-1"
    site._git("push", "--quiet", "origin", "--delete", branch)
    site.apply()
    assert branch not in site.branches()
    assert propose_again(site.clone, name, lambda event: None) == ("mean@1", branch)
    assert branch in site.branches()
    assert not site.apply().results
    site.merge_proposal(1)
    with pytest.raises(UsageError, match="is mean@1 already"):
        propose_again(site.clone, name, lambda event: None)


def test_a_model_of_high_risk_is_not_released_by_asking_again(site: SmallSite) -> None:
    name = trained(site)
    site.edit("models/mean/model.yaml", "riskClass: low", "riskClass: high")
    site.edit("models/mean/model.yaml", "release: review", "release: automatic")
    site.sync_and_push("Release by itself")
    with pytest.raises(UsageError, match="release it without a review"):
        propose_again(site.clone, name, lambda event: None)
    assert "models/mean/versions/1.yaml" not in site._git("ls-tree", "-r", "--name-only", "origin/main")


def test_only_candidates_are_proposed(site: SmallSite) -> None:
    site.edit("models/mean/model.yaml", "min: 0.1", "min: 0.9")
    site.push("Strict")
    name = trained(site)
    with pytest.raises(UsageError, match="is not_better, and only a candidate"):
        propose_again(site.clone, name, lambda event: None)


# --- models and their log ----------------------------------------------------------------------------


def test_models_and_log_from_proposal_to_withdrawal(site: SmallSite) -> None:
    (empty,) = models(MainBranch(site.clone))
    assert "no version is merged yet" in models_text([empty])
    trained(site)
    (proposed,) = models(MainBranch(site.clone), "mean")
    assert [(p.number, p.branch) for p in proposed.proposals] == [(1, "edgetrain/proposal/mean-1")]
    site.merge_proposal(1, production=1)
    (merged,) = models(MainBranch(site.clone))
    assert (merged.versions[0].image, merged.pending, merged.proposals) == (None, ("production",), ())
    site.apply()
    (released,) = models(MainBranch(site.clone))
    assert released.versions[0].image
    assert (released.versions[0].channels, released.pending) == (("production",), ())
    site.sync()
    site.edit("models/mean/model.yaml", "  channels: {production: 1}", '  channels: {}\n  withdrawn: {"1": "bad"}')
    site.push("Withdraw")
    site.apply()
    (gone,) = models(MainBranch(site.clone))
    assert (gone.versions[0].withdrawn, gone.versions[0].channels) == ("bad", ())
    assert "withdrawn: bad" in models_text([gone])
    name, happened = log(MainBranch(site.clone), "mean")
    kinds = [found.kind for found in happened]
    assert kinds[:5] == ["run", "proposed", "merged", "released", "channel"]
    assert sorted(kinds[5:]) == ["channel", "withdrawn"]
    assert happened[0].gates[1].rule == "notWorseThan production"
    assert "@1 → nothing" in log_text(name, happened)
    with pytest.raises(UsageError, match='did you mean "mean"'):
        log(MainBranch(site.clone), "meen")


# --- on the command line -----------------------------------------------------------------------------


def test_every_verb_answers_in_text_and_json(site: SmallSite, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> Any:
        code = app.main(["-C", str(site.clone), *arguments], standalone_mode=False)
        found = capsys.readouterr()
        assert code == 0, found
        told(arguments, found.out)
        return found.out

    name = trained(site)
    site.merge_proposal(1, production=1)
    site.apply()
    assert json.loads(call("runs", "--format", "json"))["runs"][0]["id"] == name
    assert call("runs", "--watch").startswith("run ")
    assert call("logs", name) == "trained on 3 numbers\n"
    assert json.loads(call("logs", name, "--format", "json")) == {"lines": ["trained on 3 numbers"]}
    assert json.loads(call("models", "--format", "json"))["models"][0]["channels"] == {"production": 1}
    assert "@1" in call("models")
    assert json.loads(call("log", "mean", "--format", "json"))["log"][0]["kind"] == "run"
    assert "released" in call("log", "mean")
    story = json.loads(call("audit", "mean@production", "--format", "json"))
    assert (story["kind"], story["version"]) == ("Audit", 1)
    assert story["training"]["run"] == name
    assert story["source"]["proposed"]["proposer"] == "Dana <dana@example.org>"
    assert "# Audit of" in call("audit", "mean@1", "--format", "markdown")
    assert "Audit of mean@1" in call("audit", "mean@1")
    assert json.loads(call("compare", "mean@1", name, "--format", "json"))["comparable"]
    assert "Equal:" in call("compare", "mean@1", name)
    assert "Equal:" in call("compare", "mean@1", name, "--format", "markdown")
    assert json.loads(call("retry", name, "--reason", "why not", "--format", "json"))["run"] == name[:-1] + "2"
    assert "Nothing to collect" in call("gc")
    assert json.loads(call("gc", "--format", "json"))["garbage"] == []


def test_refusals_end_with_usage(site: SmallSite, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("logs", "x"), ("cancel", "x"), ("retry", "x", "--reason", "y"), ("propose", "x")):
        assert app.main(["-C", str(site.clone), *arguments], standalone_mode=False) == 2
        found = capsys.readouterr()
        assert (found.out, "fix:" in found.err) == ("", True)


def test_a_ticket_of_another_site_is_not_ours(site: SmallSite) -> None:
    store = FolderArtifacts(root=site.state / "artifacts")
    store.claim("tickets/mean-aaaaaaaaaaaa-1", canonical({"site": "elsewhere", "target": "t"}))
    assert [row.state for row in list_runs(site.clone).rows] == ["waiting"]
