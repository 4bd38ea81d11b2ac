"""Odd but real situations of the plan and apply flow: each ends calmly, loses nothing and says what to do."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from edgetrain.core.errors import NotFound, UnsafePlan
from edgetrain.core.record import Outcome
from edgetrain.providers.folder.datastore import FolderDatastore
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.reconcile.planning import make_plan
from edgetrain.reconcile.report import ApplyResult, Event, Status
from tests.apply.site import SCRIPT, SmallSite

# Long enough to be caught under way, on a slow machine too.
SLOW = SCRIPT.replace("import argparse", "import select; select.select([], [], [], 4)\nimport argparse")


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    return SmallSite(tmp_path / "a site").make()


@pytest.fixture
def under_way(site: SmallSite) -> SmallSite:
    """A site whose run goes on without an apply."""
    site.write("experiments/mean/train.py", SLOW)
    site.push("Train slowly")
    assert until_running(site).stopped
    site.sync()
    return site


def until_running(site: SmallSite) -> ApplyResult:
    """An apply that is asked to stop as soon as its run is running."""
    stop = threading.Event()

    def report(event: Event) -> None:
        if event.kind == "Running":
            stop.set()

    return site.apply(stop=stop, report=report)


def outcomes(result: ApplyResult) -> list[Outcome]:
    return [r.outcome for r in result.results if r.outcome]


def reasons(result: ApplyResult) -> dict[str, str]:
    return {r.change: r.reason for r in result.results}


def test_a_run_on_a_drained_target_is_brought_to_its_end(under_way: SmallSite) -> None:
    under_way.edit("compute/runner.yaml", "slots: 2}", "slots: 2}, schedulable: false")
    under_way.push("Drain the runner")
    assert outcomes(under_way.apply()) == [Outcome.CANDIDATE]


def test_a_run_goes_on_though_its_data_can_not_be_read_now(under_way: SmallSite) -> None:
    table, away = under_way.data / "table", under_way.data / "away"
    table.rename(away)
    seen = until_running(under_way)
    assert Outcome.CANCELLED not in outcomes(seen)
    away.rename(table)
    assert outcomes(under_way.apply()) == [Outcome.CANDIDATE]


def test_a_run_whose_pinned_data_changed_is_recorded_as_rejected(site: SmallSite) -> None:
    site.write("experiments/mean/train.py", SLOW)
    site.push("Train slowly")
    digest = FolderDatastore(root=site.data, cache=site.state / "digests" / "store").digest("table/").digest
    site.edit("experiments/mean/experiment.yaml", "digest: latest", f'digest: "{digest}"')
    site.push("Pin the data")
    assert until_running(site).stopped
    (site.data / "table" / "b.txt").write_text("9\n")
    assert reasons(site.apply()) == {"run/mean": "DataChanged"}
    assert [record["outcome"] for record in site.records().values()] == ["rejected"]


def test_a_run_of_a_target_that_is_gone_names_the_target(under_way: SmallSite) -> None:
    under_way._git("mv", "compute/runner.yaml", "compute/other.yaml")
    under_way.edit("compute/other.yaml", "name: runner", "name: other")
    under_way.edit("experiments/mean/experiment.yaml", "compute: runner", "compute: other")
    under_way.push("Rename the target")
    (result,) = under_way.apply().results
    assert (result.status, result.reason) == (Status.REFUSED, "TargetGone")
    assert "compute/runner.yaml" in result.fix


def test_a_run_whose_experiment_was_deleted_leaves_main_valid(under_way: SmallSite) -> None:
    under_way._git("rm", "-r", "--quiet", "experiments/mean")
    under_way.push("Delete the experiment")
    assert outcomes(under_way.apply()) == [Outcome.CANCELLED]
    assert not under_way.records()
    assert not under_way.apply().results


def test_an_offline_plan_reviews_no_surprise(site: SmallSite) -> None:
    site.release()
    workspace = MlflowWorkspace(uri="", state=site.state)
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.1")
    site.push("Better")
    site.apply()
    site.merge_proposal(2)
    site.apply()
    site.sync()
    workspace.alias("mean", "production", 2)
    refused = site.apply(reviewed=make_plan(site.clone))
    assert reasons(refused) == {"channel/mean/production": "Unreviewed"}
    assert site.apply(reviewed=make_plan(site.clone, refresh=True)).good


def test_a_registry_that_was_taken_out_is_named(site: SmallSite) -> None:
    site.release()
    configuration = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", configuration + "  registries: {other: {type: oci-layout}}\n")
    site.push("Rename the registry")
    with pytest.raises(NotFound) as caught:
        site.apply()
    assert caught.value.reason == "RegistryNotDeclared"
    assert "spec.registries.local" in caught.value.fix


def test_a_lost_image_is_made_again_where_it_was_released(site: SmallSite) -> None:
    site.release()
    registry = OciLayoutRegistry(root=site.state / "images")
    before = registry.tags("mean")
    site.edit("models/mean/model.yaml", "repository: mean", "repository: other")
    site.push("Rename the repository")
    shutil.rmtree(site.state / "images" / "mean")
    assert site.apply().good
    assert registry.tags("mean") == before
    assert not registry.tags("other")


def test_a_lost_image_that_can_not_be_made_again_is_told(site: SmallSite) -> None:
    site.release()
    site.edit("models/mean/model.yaml", '"Tests."', '"More tests."')
    site.push("Change the card")
    shutil.rmtree(site.state / "images")
    result = site.apply()
    assert reasons(result)["image/mean@1"] == "ImageDiffers"
    assert not OciLayoutRegistry(root=site.state / "images").tags("mean")


def test_the_limit_on_deletions_names_the_option_that_lifts_it(site: SmallSite) -> None:
    site.release()
    site.edit("models/mean/model.yaml", "channels: {production: 1}", "channels: {}")
    site.push("Take production away")
    with pytest.raises(UnsafePlan) as caught:
        site.apply(max_deletions=0)
    assert caught.value.fix.endswith("apply --max-deletions 1")
    assert site.apply(max_deletions=1).good
    assert MlflowWorkspace(uri="", state=site.state).observe(["mean"])["mean"].channels == {}


def test_an_older_candidate_never_comes_back(site: SmallSite) -> None:
    text = (site.clone / "experiments/mean/experiment.yaml").read_text()
    site.write("experiments/two/experiment.yaml", text.replace("name: mean}", "name: two}"))
    site.write("experiments/two/train.py", SCRIPT)
    site.push("Two experiments for one model")
    site.apply()
    proposed = [record for record in site.records().values() if record["kind"] == "ProposalRecord"]
    runs = {record["experiment"] for path, record in site.records().items() if "/runs/" in path}
    assert runs == {"mean", "two"}
    # The first to end may have been proposed while the other still ran; the newer one then took its place.
    assert len(proposed) in (1, 2)
    assert site.branches() == ["edgetrain/proposal/mean-1", "main"]
    site.merge_proposal(1)
    newest = str((site.clone / "models/mean/versions/1.yaml").read_text().split('experiment: "')[1].split('"')[0])
    site.apply()
    site.sync()
    site.edit(f"experiments/{newest}/experiment.yaml", f"name: {newest}}}", f"name: {newest}, retired: true}}")
    site.push("Retire the newer one")
    assert not site.apply().results
    assert "edgetrain/proposal/mean-2" not in site.branches()


def test_a_fault_of_the_disk_is_a_result_and_the_run_is_taken_up_again(site: SmallSite) -> None:
    logs = site.state / "logs"
    logs.write_text("not a folder")
    (result,) = site.apply().results
    assert (result.status, result.reason) == (Status.FAILED, "StorageFault")
    logs.unlink()
    assert outcomes(site.apply()) == [Outcome.CANDIDATE]
    assert site.commits_of("experiments/mean/runs") == 1


def test_a_damaged_workspace_loses_no_run(site: SmallSite) -> None:
    database = site.state / "mlflow.db"
    sound = database.read_bytes()
    database.write_bytes(b"no database" * 500)
    assert reasons(site.apply()) == {"run/mean": "DatabaseDamaged"}
    database.write_bytes(sound)
    seen: list[str] = []
    assert outcomes(site.apply(report=lambda event: seen.append(event.kind))) == [Outcome.CANDIDATE]
    assert "Starting" not in seen


def test_a_refused_push_loses_no_run(site: SmallSite) -> None:
    hook = site.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho closed for today >&2\nexit 1\n")
    hook.chmod(0o755)
    assert reasons(site.apply()) == {"run/mean": "RemoteRefused"}
    hook.unlink()
    seen: list[str] = []
    assert outcomes(site.apply(report=lambda event: seen.append(event.kind))) == [Outcome.CANDIDATE]
    assert "Starting" not in seen


def test_missing_data_is_named_and_nothing_is_begun(site: SmallSite) -> None:
    shutil.rmtree(site.data / "table")
    (result,) = site.apply().results
    assert (result.status, result.reason) == (Status.FAILED, "DataMissing")
    assert not site.records()


def test_a_dirty_work_tree_without_a_remote_keeps_its_edits(site: SmallSite) -> None:
    site._git("remote", "remove", "origin")
    site.write("experiments/mean/train.py", SCRIPT + "# an edit\n")
    assert site.apply().good
    assert site._git("status", "--porcelain").split() == ["M", "experiments/mean/train.py"]


def test_a_detached_checkout_as_of_a_workflow_is_left_as_it_is(site: SmallSite) -> None:
    site._git("checkout", "--quiet", "--detach")
    head = site._git("rev-parse", "HEAD")
    assert site.apply().good
    assert site._git("rev-parse", "HEAD") == head
    assert len(site.records()) == 2
