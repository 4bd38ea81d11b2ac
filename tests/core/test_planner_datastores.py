"""Planning datastores of the workspace: what is told of them, mended, let go and left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from edgetrain.core.desired import Desired
from edgetrain.core.observation import Attached, Observation
from edgetrain.core.plan import Change, Effect, Plan, surprises
from edgetrain.core.planner import build as build_plan
from edgetrain.core.planner.attachments import owner_of
from edgetrain.core.planner.datastores import references
from edgetrain.core.ports import Attachment
from edgetrain.core.recorded import Recorded
from edgetrain.render.markdown import plan_markdown
from edgetrain.render.text import plan_text
from tests.core import build
from tests.core.test_planner_attachments import AZURE, SERVED
from tests.core.test_planner_runs import SEEN

HUB = "https://imaging.blob.st-anna.hosp.example"
STORE = """\
        store: {type: folder, path: /srv/data}
        hub-imaging: {type: azure-blob, endpoint: ENDPOINT, container: xray, credential: {sas: {secret: acr}}}
"""


def state(endpoint: str = HUB, more: str = "", files: Mapping[str, str] = AZURE) -> Desired:
    """The repository with an Azure ML workspace, and a blob store at this endpoint."""
    store = STORE.replace("ENDPOINT", endpoint).replace("container: xray,", f"container: xray,{more}")
    found = build.edited("edgetrain.yaml", "        store: {type: folder, path: /srv/data}\n", store, files)
    return build.desired(found)


STATE = state()
OWNER = owner_of(STATE.configuration, "here")
WANTED = references(STATE.configuration, "here").wanted["hub-imaging"]
HELD = Attachment("hub_imaging", "azure-blob", WANTED.fields, OWNER, WANTED.digest, "ready")
BUILT_IN = Attachment("workspaceblobstore", "azure-blob", {"credential": "AccountKey"}, "", "", "ready")


def seen(*held: Attachment) -> Observation:
    """What the runner of site `here` saw."""
    known = {one.name: one for one in (*held, BUILT_IN)}
    return replace(SEEN, attachments=Attached(OWNER, site="here", datastores=known))


def plan(observed: Observation | None, desired: Desired = STATE) -> Plan:
    return build_plan(desired, Recorded(), SERVED, observed)


def changes(made: Plan) -> list[Change]:
    return [change for change in made.changes if change.id.startswith("attachment/datastore/")]


def told(made: Plan) -> list[tuple[str, str, str, str]]:
    return [(c.id, c.operation.value, c.effect.value, c.reason) for c in changes(made)]


def codes(made: Plan) -> set[str]:
    return {problem.code for problem in made.problems}


def test_one_that_is_missing_is_registered_by_where_it_lies_alone() -> None:
    made = plan(seen())
    assert told(made) == [("attachment/datastore/hub_imaging", "attach", "create", "NotAttached")]
    [change] = changes(made)
    where = {"account": "imaging", "container": "xray", "endpoint": "st-anna.hosp.example"}
    assert {d.path: d.desired for d in change.differences} == where
    assert change.subject["tells"] == where
    assert "acr" not in str(change.to_json())  # the secret's name is the site's own affair
    words = "account imaging, container xray, endpoint st-anna.hosp.example, and no credential"
    assert words in plan_text(made)
    assert "and no credential" in plan_markdown(made)
    assert Plan.from_json(made.to_json()) == made


def test_offline_the_plan_says_what_would_be_told() -> None:
    made = plan(None)
    [change] = changes(made)
    assert (change.reason, change.conditional) == ("IfNotAttached", True)
    assert "attach datastore/hub_imaging; tells the workspace's cloud account imaging" in plan_text(made)


def test_one_that_is_as_declared_is_left_alone() -> None:
    made = plan(seen(HELD))
    assert (changes(made), codes(made)) == ([], set())


@pytest.mark.parametrize(
    ("field", "value"),
    [("account", "other"), ("container", "other"), ("endpoint", "core.windows.net"), ("credential", "AccountKey")],
)
def test_what_somebody_changed_is_told_and_a_surprise(field: str, value: str) -> None:
    made = plan(seen(replace(HELD, fields={**WANTED.fields, field: value})))
    assert told(made) == [("attachment/datastore/hub_imaging", "attach", "update", "AttachmentDrifted")]
    [difference] = changes(made)[0].differences
    assert (difference.path, difference.actual, difference.desired) == (field, value, WANTED.fields[field])
    assert surprises(plan(None), made) == {"attachment/datastore/hub_imaging"}


def test_a_changed_declaration_is_no_surprise() -> None:
    made = plan(seen(HELD), state(HUB.replace("imaging", "archive")))
    assert [change[3] for change in told(made)] == ["DatastoreChanged"]
    assert surprises(plan(None), made) == set()


@pytest.mark.parametrize(
    "desired",
    [
        build.desired(AZURE),
        state(more=" azureml: none,"),
        state("http://127.0.0.1:10000/imaging"),
    ],
)
def test_ours_that_is_not_wanted_any_more_is_let_go_and_others_stay(desired: Desired) -> None:
    theirs = replace(HELD, name="theirs", owner=owner_of(STATE.configuration, "there"))
    made = plan(seen(HELD, theirs), desired)
    assert told(made) == [("attachment/datastore/hub_imaging", "detach", "delete", "DatastoreRemoved")]
    assert made.count(Effect.DELETE) == 1
    assert surprises(plan(None, desired), made) == set()


@pytest.mark.parametrize("owner", ["", "0123456789ab"])
def test_a_name_that_somebody_else_holds_is_a_problem_and_untouched(owner: str) -> None:
    made = plan(seen(replace(HELD, owner=owner, fields={**WANTED.fields, "account": "theirs"})))
    assert changes(made) == []
    [problem] = [problem for problem in made.problems if problem.code == "P516"]
    assert (problem.path, problem.line > 1) == ("edgetrain.yaml", True)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://imaging.blob.st-anna.hosp.example",
        "http://127.0.0.1:10000/imaging",
        "https://10.20.4.5/imaging",
        "https://hub.st-anna.hosp.example/imaging",
        "https://imaging.st-anna.hosp.example",
        "https://imaging.blob.st-anna.hosp.example:8443",
        "https://imaging.blob.st-anna.hosp.example/imaging",
        "https://my-account.blob.st-anna.hosp.example",
    ],
)
def test_what_azure_ml_cant_address_is_a_remark_and_no_problem(endpoint: str) -> None:
    for observed in (None, seen()):
        made = plan(observed, state(endpoint))
        assert (changes(made), codes(made)) == ([], set())
        [(name, what)] = made.notes
        assert name == "datastores"
        assert what.endswith(": hub-imaging")
        assert plan_text(made).count("not registered in Azure ML") == 1


@pytest.mark.parametrize("endpoint", [f"{HUB}/", f"{HUB}:443", HUB.replace("imaging", "Imaging")])
def test_the_same_place_in_other_words_is_the_same(endpoint: str) -> None:
    assert references(state(endpoint).configuration, "here").wanted["hub-imaging"] == WANTED


def test_none_says_nothing_and_tells_nothing() -> None:
    for endpoint in (HUB, "http://127.0.0.1:10000/imaging"):
        made = plan(seen(), state(endpoint, more=" azureml: none,"))
        assert (changes(made), made.notes) == ([], ())


def test_another_workspace_is_told_nothing() -> None:
    for observed in (None, SEEN):
        made = plan(observed, state(files=build.FILES))
        assert (changes(made), made.notes) == ([], ())


def test_two_sites_cant_have_one_name() -> None:
    text = AZURE
    here, there = (
        "        store: {type: folder, path: /srv/data}\n",
        "        imaging: {type: folder, path: /srv/imaging}\n",
    )
    blob = STORE.replace("ENDPOINT", HUB).splitlines(keepends=True)[1]
    for place in (here, there):
        text = build.edited("edgetrain.yaml", place, place + blob, text)
    desired = build.desired(text)
    for observed, places in ((None, 2), (seen(), 1)):
        made = plan(observed, desired)
        assert changes(made) == []
        assert [problem.code for problem in made.problems].count("P517") == places
    # What is there already stays until somebody has decided.
    assert changes(plan(seen(HELD), desired)) == []
    silent = build.edited(
        "edgetrain.yaml", there + blob, there + blob.replace("{type", "{azureml: none, type"), text
    )
    made = plan(seen(HELD), build.desired(silent))
    assert (changes(made), codes(made)) == ([], set())


def test_the_subject_of_a_change_is_plain_json() -> None:
    facts: dict[str, Any] = dict(changes(plan(seen()))[0].subject)
    assert set(facts) == {"datastore", "digest", "name", "site", "tells"}
