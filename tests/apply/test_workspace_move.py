"""The same repository moves to another workspace by editing `edgetrain.yaml`, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.core.plan import Effect
from edgetrain.core.ports import WorkspaceVersion
from edgetrain.reconcile.audit import audit
from edgetrain.reconcile.main_branch import MainBranch
from edgetrain.reconcile.models import log
from edgetrain.reconcile.planning import make_plan
from edgetrain.reconcile.report import Status
from edgetrain.render.audit import audit_text
from edgetrain.render.text import plan_text
from tests.apply.azure_site import WORKSPACES, move_back, move_to_azure, serve
from tests.apply.site import SmallSite
from tests.contract.memory_workspace import MemoryWorkspace


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallSite:
    """A site whose first version is released in MLflow and is production."""
    serve(monkeypatch)
    made = SmallSite(tmp_path / "a site").make()
    made.release()
    return made


def azure(site: SmallSite) -> MemoryWorkspace:
    return WORKSPACES[site.state.resolve()]


def ids(site: SmallSite, refresh: bool) -> list[str]:
    site.sync()
    return [change.id for change in make_plan(site.clone, refresh=refresh).changes]


def test_the_plan_says_what_a_move_means_and_apply_does_it_once(site: SmallSite) -> None:
    move_to_azure(site)
    plan = make_plan(site.clone)
    [change] = plan.changes
    assert (change.id, change.reason, change.effect) == ("workspace/mean@1", "WorkspaceChanged", Effect.CREATE)
    assert [(d.path, d.actual, d.desired) for d in change.differences] == [
        ("workspace", "mlflow", "azureml rg-ml/ws"),
        ("alias.production", None, 1),
    ]
    said = plan_text(plan)
    assert "The workspace moves from mlflow to azureml rg-ml/ws." in said
    assert "Nothing is trained again and nothing is deleted" in said
    site.push("Move to Azure ML")
    result = site.apply()
    assert [(r.change, r.status, r.message) for r in result.results] == [
        ("workspace/mean@1", Status.APPLIED, "registered as 101 there")
    ]
    model = azure(site).observe(["mean"])["mean"]
    assert (list(model.versions), dict(model.channels)) == ([1], {"production": 1})
    assert ids(site, refresh=False) == []
    assert ids(site, refresh=True) == []
    assert make_plan(site.clone, refresh=True).notes == (
        ("workspace/mean", "versions have other numbers there: 1 is 101"),
    )
    assert site.apply().results == ()
    assert "number 101 in azureml rg-ml/ws; before: number 1 in mlflow" in audit_text(audit(site.clone, "mean@1"))
    assert [h.kind for h in log(MainBranch(site.clone), "mean")[1]][-1] == "registered"
    move_back(site)
    site.push("Move back")
    assert [r.reason for r in site.apply().results] == ["WorkspaceChanged"]
    assert ids(site, refresh=True) == []
    record = site.records()["models/mean/versions/1.release-4.json"]
    assert record["registered"] == {"type": "mlflow", "version": "1"}
    assert record["from"] == "azureml rg-ml/ws"


@pytest.mark.parametrize("at", ["register", "alias", "record"])
def test_a_move_that_is_cut_off_is_made_good(site: SmallSite, at: str) -> None:
    move_to_azure(site)
    site.push("Move to Azure ML")
    site.die_at(at)
    assert [r.reason for r in site.apply().results] == ["WorkspaceChanged"]
    model = azure(site).observe(["mean"])["mean"]
    assert (len(model.versions), dict(model.channels)) == (1, {"production": 1})
    assert [path for path, r in site.records().items() if r.get("event") == "registered"] == [
        "models/mean/versions/1.release-3.json"
    ]
    assert ids(site, refresh=True) == []


def test_tags_that_somebody_changed_are_mended_after_a_review(site: SmallSite) -> None:
    move_to_azure(site)
    site.push("Move to Azure ML")
    site.apply()
    held = azure(site)._models["mean"].versions
    wrong = {**held[1].tags, "edgetrain.record": "sha256:else"}
    held[1] = replace(held[1], tags=wrong)
    held_tags = held[1].tags
    result = site.apply()
    assert [(r.change, r.status, r.reason) for r in result.results] == [
        ("workspace/mean@1", Status.REFUSED, "Unreviewed")
    ]
    assert held[1].tags == held_tags
    site.sync()
    again = site.apply(reviewed=make_plan(site.clone, refresh=True))
    assert [(r.change, r.reason) for r in again.results] == [("workspace/mean@1", "WorkspaceDrifted")]
    assert held[1].tags["edgetrain.record"] != "sha256:else"
    assert ids(site, refresh=True) == []


def test_what_somebody_else_registered_is_told_and_left_alone(site: SmallSite) -> None:
    move_to_azure(site)
    site.push("Move to Azure ML")
    site.apply()
    azure(site).foreign.append("7")
    assert isinstance(azure(site)._models["mean"].versions[1], WorkspaceVersion)
    assert ids(site, refresh=True) == []
    notes = make_plan(site.clone, refresh=True).notes
    assert ("foreign/mean", "registered by others, left alone: 7") in notes
