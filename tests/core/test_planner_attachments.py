"""Planning attachments: what is attached, mended, let go and left alone; and that runs come after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.desired import Desired, EvaluationFiles
from edgetrain.core.egress import judge
from edgetrain.core.errors import UnsafePlan
from edgetrain.core.observation import Attached, Observation
from edgetrain.core.plan import Change, Effect, Operation, Plan
from edgetrain.core.planner import build as build_plan
from edgetrain.core.planner import check_limits, surprises
from edgetrain.core.planner.attachments import owner_of
from edgetrain.core.ports import Attachment, EgressLevel, TargetStatus, WantedAttachment
from edgetrain.core.recorded import Recorded
from edgetrain.core.snapshot import Snapshot
from edgetrain.render.words import azure_lines
from tests.core import build
from tests.core.test_evaluation import EVALUATION, MODEL
from tests.core.test_planner_runs import SEEN

VM = """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {name: NAME}
spec:
  type: azureml-vm
  site: here
  azuremlVm: {address: 40.1.2.3, username: edgetrain, privateKey: {secret: azure-key}}
  ssh:
    host: 10.20.4.12
    username: edgetrain
    hostKeys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"]
    privateKey: {secret: site-key}
"""
CLUSTER = """\
apiVersion: edgetrain/v1
kind: ComputeTarget
metadata: {name: hub}
spec:
  type: azureml-kubernetes
  site: here
  azuremlKubernetes:
    resourceId: /subscriptions/s/resourceGroups/g/providers/Microsoft.Kubernetes/connectedClusters/c
    namespace: training
  capacity: {slots: 2}
"""
AZURE = build.with_workspace()
SERVED = {**build.SERVED, "workspace": ["azureml", "mlflow"], "compute": [*build.SERVED["compute"], "azureml-vm"]}


def files(*names: str) -> dict[str, str]:
    """The repository with an Azure ML workspace, VMs of these names, and `mean` training on the first."""
    found = build.edited(
        "edgetrain.yaml", "targets: [gpu]}", "targets: [gpu]}\n    azure-key: {source: {file: /k}}", AZURE
    )
    found |= {f"compute/{name}.yaml": VM.replace("NAME", name) for name in names}
    path = "experiments/mean/experiment.yaml"
    found = build.edited(path, "compute: runner", f"compute: {names[0]}", found)
    return build.edited(path, "environment: {", f"environment: {{python: '3.11', image: {image()}, ", found)


def image() -> str:
    """The base image that is allowed."""
    return "acr.example/train@sha256:" + "1" * 64


FILES = files("hub")
STATE = build.desired(FILES)
OWNER = owner_of(STATE.configuration, "here")
WANTED = WantedAttachment(
    "hub", "azureml-vm", {"address": "40.1.2.3", "port": 22, "key": "SHA256:abc"}, "sha256:one"
)
HELD = Attachment("hub", "azureml-vm", WANTED.fields, OWNER, "sha256:one", "ready")
VM_READY = TargetStatus(True, EgressLevel.ENFORCED, "", "linux/amd64")


def seen(*held: Attachment, wanted: tuple[WantedAttachment, ...] = (WANTED,), **facts: Any) -> Observation:
    """An observation with these attachments."""
    attached = Attached(OWNER, {one.name: one for one in held}, {one.name: one for one in wanted})
    targets = {**SEEN.targets, "hub": VM_READY}
    return replace(SEEN, **{"targets": targets, "attachments": attached, **facts})


def plan(observed: Observation | None, state: Desired = STATE) -> Plan:
    return build_plan(state, Recorded(), SERVED, observed)


def of(made: Plan, *operations: Operation) -> list[Change]:
    return [change for change in made.changes if change.operation in operations]


def attachments(made: Plan) -> list[tuple[str, str, str]]:
    """Operation, effect and reason of each change of an attachment."""
    return [(c.operation.value, c.effect.value, c.reason) for c in of(made, Operation.ATTACH, Operation.DETACH)]


def runs(made: Plan) -> list[Change]:
    return [change for change in made.changes if change.id == "run/mean"]


def codes(made: Plan) -> set[str]:
    return {problem.code for problem in made.problems}


def test_a_missing_one_is_attached_and_the_run_comes_after() -> None:
    made = plan(seen())
    assert attachments(made) == [("attach", "create", "NotAttached")]
    [change] = of(made, Operation.ATTACH)
    assert [(d.path, d.actual, d.desired) for d in change.differences] == [
        ("address", None, "40.1.2.3"),
        ("key", None, "SHA256:abc"),
        ("port", None, 22),
    ]
    assert change.subject["sends"] == {"privateKey": "azure-key"}
    assert [run.after for run in runs(made)] == [("attachment/hub",)]
    assert codes(made) == set()


def test_what_is_attached_as_wanted_is_left_alone_and_takes_runs() -> None:
    made = plan(seen(HELD))
    assert attachments(made) == []
    assert [run.after for run in runs(made)] == [()]
    assert made.waiting == ()


def test_a_changed_field_is_told_and_only_drift_surprises() -> None:
    changed = replace(HELD, fields={**WANTED.fields, "address": "40.9.9.9"})
    drifted = plan(seen(changed))
    assert attachments(drifted) == [("attach", "update", "AttachmentDrifted")]
    assert [(d.path, d.actual) for d in of(drifted, Operation.ATTACH)[0].differences] == [("address", "40.9.9.9")]
    assert surprises(plan(None), drifted) == {"attachment/hub"}
    merged = plan(seen(replace(changed, digest="sha256:before")))
    assert attachments(merged) == [("attach", "update", "TargetChanged")]
    assert surprises(plan(None), merged) == set()
    # Nothing trains where somebody has put another machine.
    assert [run.after for run in runs(drifted)] == [("attachment/hub",)]


def test_what_the_service_does_not_tell_shows_by_the_digest() -> None:
    made = plan(seen(replace(HELD, fields={}, digest="sha256:before")))
    assert [d.path for d in of(made, Operation.ATTACH)[0].differences] == ["digest"]


def test_a_failed_one_is_attached_again_with_the_services_words() -> None:
    made = plan(seen(replace(HELD, state="failed", message="no route to host", fields={})))
    assert attachments(made) == [("attach", "create", "AttachmentFailed")]
    assert "no route to host" in str(of(made, Operation.ATTACH)[0].differences[0].actual)


@pytest.mark.parametrize(("state", "reason"), [("attaching", "TargetAttaching"), ("detaching", "TargetDetaching")])
def test_what_is_on_its_way_is_waited_for(state: Any, reason: str) -> None:
    made = plan(seen(replace(HELD, state=state)))
    assert attachments(made) == []
    assert made.waiting == (("attachment/hub", reason), ("run/mean", reason))
    assert runs(made) == []
    assert codes(made) == set()


@pytest.mark.parametrize("owner", ["", "0123456789ab"])
def test_a_name_that_somebody_else_holds_is_a_problem_and_untouched(owner: str) -> None:
    made = plan(seen(replace(HELD, owner=owner)))
    assert attachments(made) == []
    assert runs(made) == []
    assert codes(made) == {"P503", "P513"}
    [told] = [problem for problem in made.problems if problem.code == "P513"]
    assert (told.path, told.line) == ("compute/hub.yaml", 3)


def test_a_key_that_cant_be_read_keeps_only_its_target_away() -> None:
    attached = Attached(
        OWNER, {"hub": HELD, "old": replace(HELD, name="old")}, {}, {"hub": "secret azure-key is absent"}
    )
    made = plan(seen(attachments=attached))
    assert codes(made) == {"P503", "P514"}
    # Its name there could be any of ours: nothing is let go.
    assert attachments(made) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "TargetRemoved"),
        (VM.replace("{name: NAME}", "{name: old, retired: true}"), "TargetRetired"),
        (VM.replace("NAME", "old").replace("site: here", "site: there"), "TargetChanged"),
    ],
)
def test_ours_that_no_manifest_wants_is_let_go(text: str | None, reason: str) -> None:
    state = build.desired({**FILES, **({"compute/old.yaml": text} if text else {})})
    others = replace(HELD, name="theirs", owner="0123456789ab")
    made = plan(seen(HELD, replace(HELD, name="old"), others), state)
    assert attachments(made) == [("detach", "delete", reason)]
    assert surprises(plan(None, state), made) == set()
    with pytest.raises(UnsafePlan):
        check_limits(made, state, deletions=0)


def test_nothing_is_taken_from_under_a_run() -> None:
    name, facts = build.ticket(build.run_data(STATE, "search", {"lr": 0.1}))
    ticket = {name: {**facts, "target": "hub"}}
    changed = replace(HELD, digest="sha256:before", fields={**WANTED.fields, "port": 2222})
    assert attachments(plan(seen(changed, tickets=ticket))) == []
    assert ("attachment/hub", "TargetInUse") in plan(seen(changed, tickets=ticket)).waiting
    gone = {name: {**facts, "target": "old"}}
    made = plan(seen(HELD, replace(HELD, name="old"), tickets=gone))
    assert attachments(made) == []
    assert ("attachment/old", "TargetInUse") in made.waiting


def test_offline_git_says_what_happens_if_it_is_not_attached() -> None:
    made = plan(None)
    [change] = of(made, Operation.ATTACH)
    assert (change.reason, change.conditional, change.effect) == ("IfNotAttached", True, Effect.CREATE)
    assert change.subject["sends"] == {"privateKey": "azure-key"}
    assert [run.after for run in runs(made)] == [("attachment/hub",)]
    assert Plan.from_json(made.to_json()) == made


def test_another_target_that_is_ready_is_not_held_up() -> None:
    both = {path: text.replace("{name: hub}", "{name: hub, labels: {gpu: a100}}") for path, text in FILES.items()}
    path = "experiments/mean/experiment.yaml"
    state = build.desired(build.edited(path, "compute: hub", "compute: {selector: {gpu: a100}}", both))
    assert [run.after for run in runs(plan(seen(), state))] == [()]


def test_an_advisory_target_needs_a_waiver() -> None:
    targets = {**SEEN.targets, "hub": replace(VM_READY, egress=EgressLevel.ADVISORY)}
    made = plan(seen(HELD, targets=targets))
    assert codes(made) == {"P515"}
    assert runs(made) == []
    waiver = "{code: P515, reason: no sandbox there, owner: '@example/ds', expires: '2099-01-01'}"
    text = build.edited(
        "experiments/mean/experiment.yaml", "  seed: 1\n", f"  seed: 1\n  egress: {{waivers: [{waiver}]}}\n", FILES
    )
    state = build.desired(text)
    assert [run.after for run in runs(plan(seen(HELD, targets=targets), state))] == [()]
    experiment = state.experiments["mean"]
    assert judge(experiment, (), (), "2026-11-23").refusals == ()
    # Once it has expired, the guard lets nothing start.
    assert {problem.code for problem in judge(experiment, (), (), "2100-01-01").refusals} == {"E642"}


def test_what_travels_to_azure_is_told() -> None:
    state = replace(STATE, snapshots={"mean": Snapshot(())})
    verdicts = {"mean": judge(STATE.experiments["mean"], (), (), "2026-11-23")}
    [entry] = build_plan(state, Recorded(), SERVED, seen(HELD), guarded=verdicts).egress
    assert entry["azure"]["submitted"] == ["hub"]
    assert entry["azure"]["parameters"] == ["shift"]
    assert entry["azure"]["keys"] == [{"target": "hub", "secret": "azure-key", "fingerprint": "SHA256:abc"}]
    assert entry["azure"]["environment"]["image"] == image()
    assert entry["azure"]["inputs"] == []


def on_cluster(evaluation: str = "") -> dict[str, Any]:
    """What travels of a training on a cluster, whose model has this evaluation."""
    found = build.edited(MODEL, "  gates:\n", evaluation + "  gates:\n", files("hub"))
    found["compute/hub.yaml"] = CLUSTER
    path = "experiments/mean/experiment.yaml"
    found[path] = found[path].replace(f"python: '3.11', image: {image()}, ", "")
    served = {**SERVED, "compute": [*SERVED["compute"], "azureml-kubernetes"]}
    scripts = {"mean": EvaluationFiles("sha256:" + "0" * 64)}
    state = replace(build.desired(found), snapshots={"mean": Snapshot(())}, evaluations=scripts)
    verdicts = {"mean": judge(state.experiments["mean"], (), (), "2026-11-23")}
    made = build_plan(state, Recorded(), served, guarded=verdicts)
    assert made.problems == ()
    [entry] = made.egress
    azure: dict[str, Any] = entry["azure"]
    return azure


def test_paths_of_data_that_a_pod_is_told_are_in_the_plan() -> None:
    azure = on_cluster()
    assert azure["inputs"] == [{"target": "hub", "name": "table", "path": "/srv/data/table/"}]
    assert "table at /srv/data/table/" in "\n".join(azure_lines(azure))
    assert "evaluation" not in azure


def test_what_travels_of_an_evaluation_in_a_pod_is_in_the_plan() -> None:
    azure = on_cluster(EVALUATION)
    places = {place["name"]: place["path"] for place in azure["inputs"]}
    assert (places["model"], places["heldout"]) == ("/srv/edgetrain/scoring/", "/srv/data/held/")
    assert azure["metrics"][-1] == "evaluated/score"
    assert (azure["evaluation"]["targets"], azure["evaluation"]["metrics"]) == (["hub"], ["score"])
    lines = "\n".join(azure_lines(azure))
    assert "heldout at /srv/data/held/" in lines
    assert "the run of the model's evaluation (on hub): its code (0 files" in lines


def test_more_metrics_than_azure_ml_takes_are_refused_before_a_training() -> None:
    path, own = "experiments/mean/experiment.yaml", "metrics: [score]"
    many = ", ".join(f"m{number}" for number in range(48))
    for evaluation, refused in ((EVALUATION, set[str]()), (EVALUATION.replace("[score]", "[a, b]"), {"P519"})):
        found = build.edited(path, own, f"metrics: [score, {many}]", FILES)
        found = build.edited(MODEL, "  gates:\n", evaluation + "  gates:\n", found)
        made = build_plan(build.desired(found), Recorded(), SERVED)
        assert {problem.code for problem in made.problems} == refused


def test_the_owner_is_of_one_repository_and_site() -> None:
    other = build.desired(build.edited("edgetrain.yaml", "machine@example.org", "else@example.org", FILES))
    names = {OWNER, owner_of(STATE.configuration, "there"), owner_of(other.configuration, "here")}
    assert len(names) == 3
    assert all(len(name) == 12 for name in names)


FIELDS = st.dictionaries(st.sampled_from(["address", "port", "key"]), st.integers(0, 3), max_size=3)
WORLD = st.dictionaries(
    st.sampled_from(["hub", "spare", "old", "theirs"]),
    st.tuples(
        FIELDS,
        st.sampled_from([OWNER, "", "0123456789ab"]),
        st.sampled_from(["one", "two"]),
        st.sampled_from(["ready", "failed"]),
    ),
    max_size=4,
)


@given(world=WORLD, wants=st.dictionaries(st.sampled_from(["hub", "spare"]), FIELDS, min_size=2))
def test_what_was_applied_plans_to_nothing_and_others_are_untouched(world: Any, wants: Any) -> None:
    state = build.desired(files("hub", "spare"))
    wanted = tuple(
        WantedAttachment(name, "azureml-vm", fields, f"sha256:{sorted(fields.items())}")
        for name, fields in wants.items()
    )
    held = {
        name: Attachment(name, "azureml-vm", fields, owner, digest, status)
        for name, (fields, owner, digest, status) in world.items()
    }
    made = plan(seen(*held.values(), wanted=wanted), state)
    after = dict(held)
    for change in of(made, Operation.ATTACH, Operation.DETACH):
        name = change.subject["name"]
        assert name not in held or held[name].owner == OWNER
        if change.operation is Operation.DETACH:
            del after[name]
        else:
            want = next(one for one in wanted if one.name == name)
            after[name] = Attachment(name, want.type, want.fields, OWNER, want.digest, "ready")
    again = plan(seen(*after.values(), wanted=wanted), state)
    assert attachments(again) == []
    assert {n: a for n, a in after.items() if a.owner != OWNER} == {
        n: a for n, a in held.items() if a.owner != OWNER
    }


def test_where_only_a_run_can_look_it_is_asked_for_and_waited_for() -> None:
    unseen = replace(VM_READY, ready=False, reason="NotProbed", message="nobody looked")
    made = plan(seen(HELD, targets={**SEEN.targets, "hub": unseen}))
    assert attachments(made) == [("attach", "create", "NotProbed")]
    assert [run.after for run in runs(made)] == [("attachment/hub",)]
    assert codes(made) == set()
    made = plan(seen(HELD, targets={**SEEN.targets, "hub": replace(unseen, reason="Probing")}))
    assert attachments(made) == []
    assert ("run/mean", "TargetProbing") in made.waiting
    assert codes(made) == set()
    made = plan(seen(HELD, targets={**SEEN.targets, "hub": replace(unseen, reason="ProbeFailed")}))
    assert codes(made) == {"P503"}
