"""The main job end to end on the embedded providers: train, propose, release, move, roll back, drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import StalePlan
from edgetrain.core.plan import Plan
from edgetrain.core.record import Outcome
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.reconcile.apply import one_round
from edgetrain.reconcile.planning import make_plan
from edgetrain.reconcile.report import Status
from tests.apply.site import SmallSite


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "a site").make()


def outcomes(result: object) -> list[Outcome]:
    return [r.outcome for r in result.results if r.outcome]  # type: ignore[attr-defined]


def test_from_merge_to_release_to_rollback(site: SmallSite) -> None:
    result = site.apply()
    assert result.good, result.results
    assert outcomes(result) == [Outcome.CANDIDATE]
    assert "edgetrain/proposal/mean-1" in site.branches()

    again = site.apply()
    assert not again.results, "nothing is left to do"

    site.merge_proposal(1, production=1)
    released = site.apply()
    assert released.good, released.results
    registry = OciLayoutRegistry(root=site.state / "images")
    tags = registry.tags("mean")
    assert tags["1"] == tags["production"]
    workspace = MlflowWorkspace(uri="", state=site.state)
    assert workspace.observe(["mean"])["mean"].channels == {"production": 1}
    assert not site.apply().results

    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.7")
    site.push("Worse")
    worse = site.apply()
    assert worse.good
    assert outcomes(worse) == [Outcome.NOT_BETTER]
    assert "edgetrain/proposal/mean-2" not in site.branches()

    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.7", "shift: 0.1")
    site.push("Better")
    assert outcomes(site.apply()) == [Outcome.CANDIDATE]
    site.merge_proposal(2, production=2)
    assert site.apply().good
    assert registry.tags("mean")["production"] == registry.tags("mean")["2"]
    assert workspace.observe(["mean"])["mean"].channels == {"production": 2}

    site.sync()
    site.point(1)
    site.push("Roll back")
    assert site.apply().good
    assert registry.tags("mean")["production"] == registry.tags("mean")["1"]
    moves = [r for r in site.records().values() if r.get("event") == "channel"]
    assert [(m["from"], m["to"]) for m in sorted(moves, key=lambda m: (m["to"], m["number"]))] == [
        (None, 1),
        (2, 1),
        (1, 2),
    ]
    assert all(site.commits_of(path) == 1 for path in site.records())


def test_going_back_to_settled_values_trains_nothing(site: SmallSite) -> None:
    site.apply()
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    site.push("Another")
    site.apply()
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.4", "shift: 0.5")
    site.push("Back")
    assert outcomes(site.apply()) == []


def test_a_hand_moved_alias_is_a_surprise_and_a_lost_tag_is_made_again(site: SmallSite) -> None:
    site.apply()
    site.merge_proposal(1, production=1)
    site.apply()
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.1")
    site.push("Better")
    site.apply()
    site.merge_proposal(2)
    site.apply()
    workspace = MlflowWorkspace(uri="", state=site.state)
    workspace.alias("mean", "production", 2)
    registry = OciLayoutRegistry(root=site.state / "images")
    registry.tag("mean", "2", None)

    result = site.apply()
    by_id = {r.change: r for r in result.results}
    assert by_id["channel/mean/production"].status is Status.REFUSED
    assert by_id["channel/mean/production"].reason == "Unreviewed"
    assert by_id["tag/mean@2/2"].status is Status.APPLIED
    assert registry.tags("mean")["2"]

    site.sync()
    reviewed = make_plan(site.clone, refresh=True, site=None)
    assert site.apply(reviewed=Plan.from_json(reviewed.to_json())).good
    assert workspace.observe(["mean"])["mean"].channels == {"production": 1}


def test_a_plan_of_yesterday_is_refused(site: SmallSite) -> None:
    old = make_plan(site.clone, refresh=False, site=None)
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.6")
    site.push("Moved on")
    with pytest.raises(StalePlan):
        site.apply(reviewed=old)


def test_the_offline_plan_of_a_branch_is_that_of_its_merge(site: SmallSite) -> None:
    before = make_plan(site.clone, refresh=False, site=None)
    site._git("commit", "--quiet", "--allow-empty", "-m", "Merging alters the commit and not the plan")
    assert make_plan(site.clone, refresh=False, site=None).digest == before.digest
    assert site.apply(reviewed=before).good


def test_changed_gates_judge_again_and_never_train(site: SmallSite) -> None:
    site.edit("models/mean/model.yaml", "min: 0.1", "min: 0.9")
    site.push("Strict")
    assert outcomes(site.apply()) == [Outcome.NOT_BETTER]
    site.sync()
    site.edit("models/mean/model.yaml", "min: 0.9", "min: 0.2")
    site.push("Looser")
    result = site.apply()
    assert result.good
    assert outcomes(result) == []
    assert "edgetrain/proposal/mean-1" in site.branches()
    assert [r for r in site.records().values() if r["kind"] == "EvaluationRecord"]


def test_a_failing_script_is_recorded_and_not_tried_again(site: SmallSite) -> None:
    site.write("experiments/mean/train.py", "raise SystemExit(3)\n")
    site.push("Break it")
    result = site.apply()
    assert not result.good
    assert outcomes(result) == [Outcome.FAILED]
    assert not site.apply().results


def test_closed_proposals_do_not_come_back_and_newer_candidates_supersede(site: SmallSite) -> None:
    site.apply()
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.3")
    site.push("Newer")
    site.apply()
    assert "edgetrain/proposal/mean-1" in site.branches()
    text = site._git("show", "origin/edgetrain/proposal/mean-1:models/mean/versions/1.yaml")
    assert "shift: 0.3" in text
    site._git("push", "--quiet", "origin", "--delete", "edgetrain/proposal/mean-1")
    assert not site.apply().results
    assert "edgetrain/proposal/mean-1" not in site.branches()


def test_automatic_release_goes_to_main_by_itself_within_five_rounds(
    site: SmallSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.edit("models/mean/model.yaml", "release: review", "release: automatic")
    site.push("Automatic")
    rounds = []

    def restless(*of: Any) -> bool:
        rounds.append(one_round(*of))
        of[-1].rounds = len(rounds)
        return True  # as if there were always more to do

    monkeypatch.setattr("edgetrain.reconcile.apply.one_round", restless)
    result = site.apply()
    assert result.good, result.results
    assert len(rounds) == 5
    assert rounds[-1] is False, "nothing was left"
    assert OciLayoutRegistry(root=site.state / "images").tags("mean")["1"]
    assert any(r.get("event") == "released" for r in site.records().values())


def test_a_sweep_proposes_its_best_trial_and_grows_by_the_new_ones_only(site: SmallSite) -> None:
    sweep = (
        "  samplingAlgorithm: {type: grid}\n"
        "  searchSpace: {shift: {type: choice, values: [0.6, 0.2, 0.4]}}\n"
        "  objective: {goal: maximize, primaryMetric: score}\n"
    )
    site.edit("experiments/mean/experiment.yaml", "    shift: 0.5\n", "")
    site.write(
        "experiments/mean/experiment.yaml", (site.clone / "experiments/mean/experiment.yaml").read_text() + sweep
    )
    site.push("Sweep")
    result = site.apply()
    assert len(outcomes(result)) == 3
    text = site._git("fetch", "origin") + site._git(
        "show", "origin/edgetrain/proposal/mean-1:models/mean/versions/1.yaml"
    )
    assert "shift: 0.2" in text
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "0.4]", "0.4, 0.1]")
    site.push("One more")
    assert len(outcomes(site.apply())) == 1


def test_changed_data_is_refused_until_proposed(site: SmallSite) -> None:
    site.apply()
    (site.data / "table" / "b.txt").write_text("4\n")
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    site.push("On data that is not there any more")
    refused = site.apply()
    assert [r.reason for r in refused.results] == ["DataDiffers"]
    digest = refused.results[0].fix.split()[-1]
    site.sync()
    site.edit("experiments/mean/experiment.yaml", "digest: latest", f"digest: {digest}")
    site.push("Propose the new data")
    assert outcomes(site.apply()) == [Outcome.CANDIDATE]
