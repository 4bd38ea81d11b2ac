"""Apply registers a site's blob stores in the workspace by where they lie, mends them, and lets them go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgetrain.core.errors import UnsafePlan
from edgetrain.reconcile.drift import drift
from edgetrain.reconcile.planning import make_plan
from edgetrain.reconcile.report import ApplyResult, Status
from tests.apply.azure_site import move_to_azure, place, serve
from tests.apply.site import SmallSite

pytestmark = pytest.mark.needs("bubblewrap")
ID = "attachment/datastore/hub_imaging"
FOLDER = "        store: {type: folder,"
HUB = """\
        hub-imaging:
          type: azure-blob
          endpoint: https://imaging.blob.st-anna.hosp.example
          container: xray
          credential: {accountKey: {secret: hub-key}}
"""
KEY = "c2VjcmV0LWtleS1vZi10aGUtc2l0ZQ=="


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallSite:
    """The small site with an Azure ML workspace, where a blob store was declared beside the folder."""
    serve(monkeypatch)
    made = SmallSite(tmp_path / "a site").make()
    move_to_azure(made)
    key = tmp_path / "hub-key"
    key.write_text(KEY)
    made.edit("edgetrain.yaml", FOLDER, HUB + FOLDER)
    made.edit("edgetrain.yaml", "  sites:\n", f"  secrets:\n    hub-key: {{source: {{file: '{key}'}}}}\n  sites:\n")
    made.push("Declare the Hub's blob store")
    return made


def told(result: ApplyResult) -> dict[str, tuple[Status, str]]:
    return {r.change: (r.status, r.reason) for r in result.results if r.change == ID}


def planned(site: SmallSite) -> list[str]:
    site.sync()
    return [change.id for change in make_plan(site.clone, refresh=True).changes if change.id == ID]


def test_it_is_registered_once_without_the_key_that_the_site_reads_it_with(site: SmallSite) -> None:
    result = site.apply()
    assert told(result) == {ID: (Status.APPLIED, "NotAttached")}
    assert result.good
    held = place(site).known["hub_imaging"]
    assert held.fields == {
        "account": "imaging",
        "container": "xray",
        "endpoint": "st-anna.hosp.example",
        "protocol": "https",
        "credential": "none",
    }
    assert KEY not in repr(place(site).known)
    assert planned(site) == []
    assert told(site.apply()) == {}
    assert place(site).writes == 1


def test_a_credential_that_somebody_gives_it_is_drift_and_goes_after_a_review(site: SmallSite) -> None:
    site.apply()
    held = place(site).known["hub_imaging"]
    place(site).known["hub_imaging"] = replace(held, fields={**held.fields, "credential": "AccountKey"})
    site.sync()
    found = drift(site.clone)
    assert [change.id for change in found.drifted] == [ID]
    [difference] = found.drifted[0].differences
    assert (difference.path, difference.actual, difference.desired) == ("credential", "AccountKey", "none")
    assert told(site.apply()) == {ID: (Status.REFUSED, "Unreviewed")}
    site.sync()
    reviewed = make_plan(site.clone, refresh=True)
    assert told(site.apply(reviewed=reviewed)) == {ID: (Status.APPLIED, "AttachmentDrifted")}
    assert place(site).known["hub_imaging"] == held
    assert not drift(site.clone).any


def test_a_changed_declaration_is_followed_without_a_second_review(site: SmallSite) -> None:
    site.apply()
    site.edit("edgetrain.yaml", "container: xray", "container: mammograms")
    site.sync_and_push("Move to another container")
    assert told(site.apply()) == {ID: (Status.APPLIED, "DatastoreChanged")}
    assert place(site).known["hub_imaging"].fields["container"] == "mammograms"


def test_one_that_shall_not_be_told_any_more_goes_within_the_limits_and_others_stay(site: SmallSite) -> None:
    site.apply()
    theirs = replace(place(site).known["hub_imaging"], name="theirs", owner="")
    place(site).known["theirs"] = theirs
    site.edit("edgetrain.yaml", "container: xray", "container: xray\n          azureml: none")
    site.sync_and_push("Tell Azure nothing of it")
    with pytest.raises(UnsafePlan):
        site.apply(max_deletions=0)
    assert told(site.apply()) == {ID: (Status.APPLIED, "DatastoreRemoved")}
    assert place(site).known == {"theirs": theirs}
    assert planned(site) == []


def test_a_name_that_is_held_by_somebody_else_is_left_alone_and_shows(site: SmallSite) -> None:
    site.apply()
    theirs = replace(place(site).known["hub_imaging"], owner="", fields={"credential": "AccountKey"})
    place(site).known["hub_imaging"] = theirs
    result = site.apply()
    assert {problem.code for problem in result.plan.problems} == {"P516"}
    assert place(site).known == {"hub_imaging": theirs}
    site.sync()
    assert [problem.code for problem in drift(site.clone).refused] == ["P516"]


@pytest.mark.parametrize("at", ["register", "unregister"])
def test_a_death_at_the_step_is_made_good(site: SmallSite, at: str) -> None:
    if at == "unregister":
        site.apply()
        site.edit("edgetrain.yaml", HUB, "")
        site.sync_and_push("Declare it no more")
    site.die_at(at)
    site.apply()
    assert set(place(site).known) == ({"hub_imaging"} if at == "register" else set())
    assert planned(site) == []
