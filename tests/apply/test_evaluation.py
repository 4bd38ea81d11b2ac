"""Evaluation on held-out data, end to end: what is scored, when, beside what, and that nothing trains for it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgetrain.core.digest import short
from edgetrain.core.plan import Operation
from edgetrain.core.ports import RunPhase, RunState
from edgetrain.providers.folder.artifacts import FolderArtifacts
from edgetrain.providers.local.provider import LocalCompute
from edgetrain.reconcile.collect import collect
from edgetrain.reconcile.log_reader import read_log
from edgetrain.reconcile.report import ApplyResult, Status
from edgetrain.reconcile.runs import cancel
from tests.apply.evaluated import EVALUATE, WARDS, EvaluatedSite, shown


def operations(done: ApplyResult) -> list[Operation]:
    return [change.operation for change in done.plan.changes if not change.conditional]


def run_records(site: EvaluatedSite) -> list[dict[str, Any]]:
    found = [data for data in site.runs().values() if data["kind"] == "RunRecord"]
    return sorted(found, key=lambda data: str(data["parameters"]))


def left_over(site: EvaluatedSite) -> list[Any]:
    """What should be there only while a run is under way."""
    store = FolderArtifacts(root=site.state / "artifacts")
    claims = [name for prefix in ("tickets/", "scorings/") for name, _ in store.claims(prefix)]
    return [*claims, *(path.name for path in (site.state / "scoring").iterdir())]


def test_the_life_of_an_evaluated_model(tmp_path: Path) -> None:
    site = EvaluatedSite(tmp_path).make()
    site.release()
    [first] = run_records(site)
    assert (first["outcome"], first["metricsSource"]) == ("candidate", "evaluated")
    assert (first["metrics"], first["selfReported"]) == ({"error": 0.5}, {"score": 0.5})
    evaluation = first["evaluation"]
    assert evaluation["slices"] == {"north": {"error": 0.5}, "south": {"error": 0.5}}
    assert evaluation["inputs"]["heldout"]["digest"] == site.held
    assert (evaluation["inputs"]["heldout"]["files"], evaluation["references"]) == (2, {})
    assert (site.scored(), left_over(site)) == ([site.scored()[0]], [])
    spec = yaml.safe_load((site.clone / "models/mean/versions/1.yaml").read_text())["spec"]
    assert (spec["evaluation"], spec["selfReported"]) == (evaluation, {"score": 0.5})

    # As good on the whole, and worse in one ward: the gate on slices sees it.
    site.shift("0.5", "1.0")
    site.push("Try another shift")
    done = site.apply()
    [_, second] = run_records(site)
    assert (second["outcome"], second["reason"]) == ("not_better", "GatesFailed"), shown(done.results)
    beside = second["evaluation"]["references"]["production"]
    assert beside == {
        "version": "mean@1",
        **{key: evaluation[key] for key in ("artifact", "metrics", "slices", "target", "egress")},
    }
    verdicts = {(one.get("slice"), one["rule"]): one["status"] for one in second["gates"]["results"]}
    assert verdicts == {
        (None, "max"): "passed",
        ("north", "notWorseThan production"): "failed",
        ("south", "notWorseThan production"): "passed",
    }
    assert len(site.scored()) == 2  # the version in production was scored before

    # A changed gate judges what is recorded.
    site.sync()
    site.edit("models/mean/model.yaml", 'slice: "*"}', 'slice: "*", tolerance: 0.75}')
    site.push("Let one ward be worse")
    done = site.apply()
    assert operations(done) == [Operation.EVALUATE]
    assert (len(run_records(site)), len(site.scored())) == (2, 2)
    [again] = [data for name, data in site.runs().items() if name.endswith(".evaluation-1.json")]
    assert (again["outcome"], again["metricsSource"]) == ("candidate", "evaluated")
    assert again["evaluation"] == second["evaluation"]
    assert "edgetrain/proposal/mean-2" in site.branches()

    # Other held-out data scores candidate and production again, and trains nothing.
    before = site.held
    site.sync()
    site.hold_out({**WARDS, "west.txt": "2 4\n"})
    site.edit("models/mean/model.yaml", before, site.held)
    site.push("Hold out another ward")
    done = site.apply()
    assert done.good, shown(done.results)
    assert operations(done) == [Operation.SCORE]
    assert (len(run_records(site)), len(site.scored()), left_over(site)) == (2, 4, [])
    [again] = [data for name, data in site.runs().items() if name.endswith(".evaluation-2.json")]
    assert again["evaluation"]["identity"] != evaluation["identity"]
    assert set(again["evaluation"]["references"]["production"]["slices"]) == {"north", "south", "west"}
    assert operations(site.apply()) == []
    # The open proposal says what its run is judged by now, so that it can be merged.
    site.merge_proposal(2)
    done = site.apply()
    assert done.good, shown((done.results, done.plan.problems))
    site.sync()
    spec = yaml.safe_load((site.clone / "models/mean/versions/2.yaml").read_text())["spec"]
    assert spec["evaluation"] == again["evaluation"]


def test_an_evaluation_that_fails_is_mended_without_a_training(tmp_path: Path) -> None:
    site = EvaluatedSite(tmp_path).make()
    site.write("models/mean/evaluation/evaluate.py", EVALUATE.replace('"error": sum(ward', '"eror": sum(ward'))
    site.push("Misspell the metric")
    done = site.apply()
    [record] = run_records(site)
    assert (record["outcome"], record["reason"]) == ("failed", "EvaluationFailed")
    assert "not reported: error" in str(record["message"])
    [log] = site.scored()
    assert f"edgetrain logs {log.removesuffix('.log')}" in str(record["message"])
    assert list(read_log(site.clone, log.removesuffix(".log"))) == ["evaluated 2.5"]
    tidy = collect(site.clone, None, 30, False, datetime.now(UTC))
    assert ({item.kind for item in tidy.garbage}, tidy.kept["logs of young evaluations"]) == (set(), 1)
    assert "logs" not in tidy.unknown
    assert (record["metrics"], record["selfReported"]) == ({}, {"score": 0.5})
    assert (record["gates"]["results"], left_over(site)) == ([], [])
    site.sync()
    site.write("models/mean/evaluation/evaluate.py", EVALUATE)
    site.push("Spell the metric")
    done = site.apply()
    assert operations(done) == [Operation.SCORE]
    assert done.good, shown(done.results)
    assert [data["outcome"] for data in site.runs().values()] == ["candidate", "failed"]
    assert site.branches() == ["edgetrain/proposal/mean-1", "main"]


def test_a_version_that_can_not_be_scored_is_compared_with_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = EvaluatedSite(tmp_path).make()
    site.release()
    [first] = run_records(site)
    [file] = first["outputs"]["model"]["files"]
    store = FolderArtifacts(root=site.state / "artifacts")
    with store.open(file["digest"]) as stream:
        kept = stream.read()

    def verdict() -> dict[str, Any]:
        """The last judgement of the second run."""
        found: list[Any] = [data for name, data in site.runs().items() if first["identity"][7:19] not in name]
        return dict(max(found, key=lambda data: data.get("number", 0)))

    def anew(ward: str) -> dict[str, Any]:
        """Hold out one more ward; the last record, judged by that."""
        before = site.held
        site.sync()
        site.hold_out({**WARDS, ward: "2 4\n"})
        site.edit("models/mean/model.yaml", before, site.held)
        site.push(f"Hold out {ward}")
        site.apply()
        assert left_over(site) == []
        last = verdict()
        assert (last["outcome"], last["reason"]) == ("not_better", "NotComparable")
        return last

    # The store lost it: the candidate is scored, and the gate that compares says what to do.
    store.delete(file["digest"])
    site.shift("0.5", "0.4")
    last = anew("west.txt")
    beside = last["evaluation"]["references"]["production"]
    assert (beside["version"], "metrics" in beside) == ("mean@1", False)
    assert "not in this site's store: restore the artifact store" in beside["reason"]
    assert beside["reason"] in last["message"]
    assert last["metrics"].keys() == {"error"}

    # Its target loses each try to score it.
    (site.data / "as it was").write_bytes(kept)
    assert store.put_file(site.data / "as it was") == file["digest"]
    real = LocalCompute.inspect

    def inspect(compute: LocalCompute, name: str) -> RunState:
        state = real(compute, name)
        mine = f"-{short(first['outputs']['model']['digest'])}-" in name
        return RunState(RunPhase.LOST) if mine and state.phase is RunPhase.ENDED else state

    with monkeypatch.context() as patch:
        patch.setattr(LocalCompute, "inspect", inspect)
        last = anew("east.txt")
    assert "its target lost it 3 times" in last["evaluation"]["references"]["production"]["reason"]
    assert "its target lost it 3 times" in last["message"]

    # What is withdrawn is compared with nothing.
    site.sync()
    site.edit(
        "models/mean/model.yaml", "channels: {production: 1}", 'channels: {}\n  withdrawn: {1: "wrong labels"}'
    )
    site.edit("models/mean/model.yaml", 'slice: "*"}', 'slice: "*", tolerance: 0.1}')
    site.push("Withdraw it")
    assert site.apply().good
    last = verdict()
    assert (last["outcome"], last["evaluation"]["references"]) == ("candidate", {})
    assert {one["status"] for one in last["gates"]["results"]} == {"passed", "no_reference"}


def test_a_person_cancels_an_evaluation(tmp_path: Path) -> None:
    site = EvaluatedSite(tmp_path).make()
    site.write("models/mean/evaluation/evaluate.py", "import threading\nthreading.Event().wait(300)\n")
    site.push("Wait")
    stop = threading.Event()
    done = site.apply(stop=stop, report=lambda event: stop.set() if event.kind == "Evaluating" else None)
    assert [result.status for result in done.results] == [Status.UNDER_WAY]
    store = FolderArtifacts(root=site.state / "artifacts")
    [run] = [name.removeprefix("tickets/") for name, _ in store.claims("tickets/")]
    assert cancel(site.clone, run).startswith(f"the evaluation of {run} is cancelled")
    site.apply()
    [record] = run_records(site)
    assert (record["outcome"], record["reason"], left_over(site)) == ("cancelled", "Cancelled", [])
    assert set(record["outputs"]) == {"model"}


def test_held_out_data_under_another_name_starts_no_training(tmp_path: Path) -> None:
    site = EvaluatedSite(tmp_path).make()
    (site.data / "table/a.txt").unlink()
    for name, text in WARDS.items():
        (site.data / "table" / name).write_text(text)
    done = site.apply()
    [result] = done.results
    assert (result.reason, "holds out" in result.message, site.runs()) == ("HeldOutInTraining", True, {})
    assert list(FolderArtifacts(root=site.state / "artifacts").claims("tickets/")) == []
