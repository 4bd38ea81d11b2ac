"""`edgetrain drift`: what somebody changed outside git, told and left as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.providers.local.provider import LocalCompute
from edgetrain.providers.mlflow.provider import MlflowWorkspace
from edgetrain.providers.oci_layout.provider import OciLayoutRegistry
from edgetrain.reconcile.drift import drift
from edgetrain.render.drift import drift_json, drift_markdown, drift_text
from tests.apply.azure_site import place, serve, train_on_cluster
from tests.apply.site import SmallSite
from tests.cli.command import edgetrain
from tests.outputs import sound


@pytest.fixture
def site(tmp_path: Path) -> SmallSite:
    made = SmallSite(tmp_path / "a site").make()
    made.release()
    return made


def test_nothing_drifted_after_an_apply(site: SmallSite) -> None:
    found = drift(site.clone)
    assert not found.any
    assert drift_text(found).startswith("Drift of site here: nothing drifted")
    assert edgetrain("drift", "--exit-code", cwd=site.clone).code == 0


def test_what_was_moved_removed_or_made_by_hand_is_told_and_left(site: SmallSite) -> None:
    workspace = MlflowWorkspace(uri="", state=site.state)
    workspace.alias("mean", "production", None)
    workspace.mark("mean", 1, {"edgetrain.record": "sha256:else"})
    with workspace._client() as client:
        client.create_model_version("mean", "elsewhere")
    OciLayoutRegistry(root=site.state / "images").tag("mean", "1", None)
    found = drift(site.clone)
    assert {change.id: change.reason for change in found.drifted} == {
        "channel/mean/production": "ChannelDrifted",
        "tag/mean@1/1": "Missing",
        "workspace/mean@1": "WorkspaceDrifted",
    }
    assert found.foreign == (("foreign/mean", "registered by others, left alone: 2"),)
    assert drift(site.clone) == found
    said = drift_text(found)
    assert "tags.edgetrain.record: sha256:else, should be sha256:" in said
    assert "registered by others" in said
    assert "foreign/mean" in drift_markdown(found)
    assert sound("drift", drift_json(found))["any"] is True
    assert edgetrain("drift", cwd=site.clone).code == 0
    assert edgetrain("drift", "--exit-code", "--format", "json", cwd=site.clone).code == 4


def test_lost_files_other_data_and_a_target_that_takes_no_runs(
    site: SmallSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (site.state / "artifacts").rglob("*"):
        if file.is_file() and "sha256" in str(file.relative_to(site.state)):
            file.chmod(0o600)
            file.unlink()
    (site.data / "table" / "a.txt").write_text("1 2 4\n")
    observe = LocalCompute.observe
    monkeypatch.setattr(
        LocalCompute, "observe", lambda self: replace(observe(self), ready=False, reason="Full", message="no disk")
    )
    found = drift(site.clone)
    assert found.any
    assert [name for name, _ in found.lost] == ["artifact/mean@1"]
    assert [name for name, _ in found.noted] == ["data/store:table/", "target/runner"]
    said = drift_text(found)
    assert "Lost:" in said
    assert "takes no runs now: Full: no disk" in said
    assert "artifact/mean" in drift_markdown(found)
    assert sound("drift", drift_json(found))["lost"][0]["object"] == "artifact/mean@1"
    (site.data / "table" / "a.txt").unlink()
    (site.data / "table").rmdir()
    assert "is not there any more" in drift_text(drift(site.clone))


def test_what_git_wants_anew_is_pending_and_no_drift(site: SmallSite) -> None:
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    found = drift(site.clone)
    assert not found.any
    assert found.pending == 1


@pytest.mark.needs("bubblewrap")
def test_an_attachment_that_somebody_changed_or_took_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch)
    site = SmallSite(tmp_path / "a site").make()
    train_on_cluster(site)
    assert drift(site.clone).pending == 2  # never attached is no drift
    site.apply()
    site.sync()
    held = place(site).held
    hub = held["hub"]
    held["hub"] = replace(hub, fields={**hub.fields, "namespace": "elsewhere"})
    [change] = drift(site.clone).drifted
    assert (change.reason, change.differences[0].actual) == ("AttachmentDrifted", "elsewhere")
    held["hub"] = replace(hub, owner="")
    assert [problem.code for problem in drift(site.clone).refused] == ["P513"]
    del held["hub"]
    assert [change.reason for change in drift(site.clone).drifted] == ["NotAttached"]
