"""Apply attaches targets before it trains on them, mends, lets go, and leaves alone what is not ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from edgetrain.core.errors import Rejected, UnsafePlan
from edgetrain.core.plan import Plan
from edgetrain.core.ports import Attachment, TargetSettings, WantedAttachment
from edgetrain.core.record import Outcome
from edgetrain.providers.table import PROVIDERS, Row
from edgetrain.reconcile.planning import make_plan
from edgetrain.reconcile.report import ApplyResult, Event, Status
from tests.apply.azure_site import PROBES, looked_at, place, serve, train_on_cluster
from tests.apply.site import SmallSite
from tests.contract.attachments import MACHINE
from tests.contract.memory_attachments import MemoryAttachments

pytestmark = pytest.mark.needs("bubblewrap")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallSite:
    serve(monkeypatch)
    made = SmallSite(tmp_path / "a site").make()
    train_on_cluster(made)
    return made


def told(result: ApplyResult) -> dict[str, tuple[Status, str]]:
    return {r.change: (r.status, r.reason) for r in result.results}


def pending(site: SmallSite, refresh: bool = True) -> list[str]:
    site.sync()
    plan: Plan = make_plan(site.clone, refresh=refresh)
    return [
        change.id for change in plan.changes if not change.conditional and not change.id.startswith("proposal/")
    ]


def test_a_target_is_attached_and_trained_on_in_one_apply_and_once(site: SmallSite) -> None:
    events: list[Event] = []
    result = site.apply(report=events.append)
    assert told(result)["attachment/hub"] == (Status.APPLIED, "NotAttached")
    assert [r.outcome for r in result.results if r.outcome] == [Outcome.CANDIDATE]
    assert result.good
    kinds = [event.kind for event in events]
    assert kinds.index("Attaching") < kinds.index("Starting")
    assert place(site).writes == 1
    assert pending(site) == []
    assert site.apply().results == ()
    assert place(site).writes == 1


def test_a_change_by_hand_is_refused_until_it_was_reviewed(site: SmallSite) -> None:
    site.apply()
    hub = place(site).held["hub"]
    place(site).held["hub"] = replace(hub, fields={**hub.fields, "namespace": "elsewhere"})
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    site.sync_and_push("Train again")
    result = site.apply()
    assert told(result)["attachment/hub"] == (Status.REFUSED, "Unreviewed")
    # Nothing trains where somebody has put another namespace.
    assert told(result)["run/mean"] == (Status.REFUSED, "Blocked")
    assert place(site).held["hub"].fields["namespace"] == "elsewhere"
    site.sync()
    again = site.apply(reviewed=make_plan(site.clone, refresh=True))
    assert told(again)["attachment/hub"] == (Status.APPLIED, "AttachmentDrifted")
    assert [r.outcome for r in again.results if r.outcome] == [Outcome.CANDIDATE]
    assert place(site).held["hub"].fields["namespace"] == "training"


def test_a_changed_manifest_is_attached_anew_without_a_second_review(site: SmallSite) -> None:
    site.apply()
    site.edit("compute/hub.yaml", "namespace: training", "namespace: other")
    site.sync_and_push("Move to another namespace")
    assert told(site.apply()) == {"attachment/hub": (Status.APPLIED, "TargetChanged")}
    assert place(site).held["hub"].fields["namespace"] == "other"
    assert pending(site) == []


def test_a_retired_target_is_let_go_within_the_limits_and_others_stay(site: SmallSite) -> None:
    site.apply()
    theirs = replace(place(site).held["hub"], name="theirs", owner="0123456789ab")
    place(site).held["theirs"] = theirs
    site.edit("experiments/mean/experiment.yaml", "compute: hub", "compute: runner")
    site.edit("compute/hub.yaml", "{name: hub}", "{name: hub, retired: true}")
    site.sync_and_push("Retire the cluster")
    with pytest.raises(UnsafePlan):
        site.apply(max_deletions=0)
    assert told(site.apply()) == {"attachment/hub": (Status.APPLIED, "TargetRetired")}
    assert place(site).held == {"theirs": theirs}
    assert pending(site) == []


def test_a_name_that_is_held_by_somebody_else_is_left_alone(site: SmallSite) -> None:
    site.apply()
    theirs = replace(place(site).held["hub"], owner="", fields={"namespace": "theirs"})
    place(site).held["hub"] = theirs
    result = site.apply()
    assert not result.good
    assert {problem.code for problem in result.plan.problems} == {"P513"}
    assert place(site).held == {"hub": theirs}


def test_a_failed_attachment_says_why_and_blocks_only_its_runs(
    site: SmallSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(
        self: object, wanted: WantedAttachment, settings: TargetSettings, owner: str, stop: object
    ) -> Attachment:
        raise Rejected("the service can't reach the cluster", reason="AttachFailed", fix="open the way")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryAttachments, "attach", refuse)
        result = site.apply()
    assert told(result) == {
        "attachment/hub": (Status.FAILED, "AttachFailed"),
        "run/mean": (Status.REFUSED, "Blocked"),
    }
    assert [r.outcome for r in site.apply().results if r.outcome] == [Outcome.CANDIDATE]


@pytest.mark.parametrize("at", ["attach"])
def test_a_death_at_the_step_is_made_good(site: SmallSite, at: str) -> None:
    site.die_at(at)
    assert [r.outcome for r in site.apply().results if r.outcome] == [Outcome.CANDIDATE]
    assert pending(site) == []


def test_a_sandbox_that_only_a_run_can_see_is_looked_at_before_anything_trains(
    site: SmallSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row(f"{looked_at.__module__}:{looked_at.__name__}")
    monkeypatch.setitem(PROVIDERS, ("compute", "azureml-kubernetes"), row)
    first = site.apply()
    assert told(first) == {"attachment/hub": (Status.APPLIED, "NotAttached")}
    assert first.good
    assert PROBES[site.state.resolve()] == "Probing"
    assert site.apply().results == ()
    # The manifest changed what is to be looked at, or an apply died before it began to look.
    PROBES[site.state.resolve()] = "NotProbed"
    assert told(site.apply()) == {"attachment/hub": (Status.APPLIED, "NotProbed")}
    PROBES[site.state.resolve()] = "Done"
    assert [r.outcome for r in site.apply().results if r.outcome] == [Outcome.CANDIDATE]
    assert pending(site) == []


VM = """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {name: vm}
spec:
  type: azureml-vm
  site: here
  azuremlVm: {resourceId: ID, username: edgetrain, privateKey: {secret: azure-key}}
  ssh:
    host: 10.20.4.12
    username: edgetrain
    hostKeys: [HOSTKEY]
    privateKey: {secret: site-key}
    jumpHost: {host: 10.20.4.1, username: edgetrain, hostKeys: [HOSTKEY], privateKey: {secret: jump-key}}
"""


@pytest.mark.parametrize("shared", ["site-key", "jump-key", ""])
def test_a_key_that_the_site_signs_in_with_is_not_sent_from_another_file_either(
    site: SmallSite, tmp_path: Path, shared: str
) -> None:
    keys = {name: asyncssh.generate_private_key("ssh-ed25519") for name in ("azure-key", "site-key", "jump-key")}
    if shared:
        keys[shared] = keys["azure-key"]
    secrets = "  secrets:\n"
    for name, key in keys.items():
        (tmp_path / name).touch(mode=0o600)
        # Not even the same bytes.
        (tmp_path / name).write_bytes(key.export_private_key("openssh" if name == "azure-key" else "pkcs8-pem"))
        secrets += f"    {name}: {{source: {{file: {tmp_path / name}}}}}\n"
    text = (site.clone / "edgetrain.yaml").read_text()
    site.write("edgetrain.yaml", text.replace("  sites:\n", secrets + "  sites:\n"))
    host_key = keys["site-key"].export_public_key().decode().strip()
    site.write("compute/vm.yaml", VM.replace("ID", MACHINE).replace("HOSTKEY", f'"{host_key}"'))
    site.push("Attach a VM")
    result = site.apply()
    if not shared:
        assert set(place(site).held) == {"hub", "vm"}
        return
    assert set(place(site).held) == {"hub"}
    [problem] = result.plan.problems
    assert problem.code == "P514"
    assert f"secret {shared} is the same key" in problem.what
    assert "ssh-keygen" in problem.what
