"""Planning runs: what trains, what is settled, what is adopted, cancelled or judged again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.desired import Desired
from edgetrain.core.gate import gates_digest
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Change, Operation, Plan
from edgetrain.core.planner import build as build_plan
from edgetrain.core.ports import DataDigest, EgressLevel, TargetStatus
from edgetrain.core.record import SETTLED, Outcome, Record, run_id
from edgetrain.core.recorded import Recorded
from tests.core import build

EXPERIMENT = "experiments/mean/experiment.yaml"
SEARCH = "experiments/search/experiment.yaml"
IMAGE = "acr.example/train@sha256:" + "1" * 64
BLOB = (
    '{type: azure-blob, endpoint: "https://acct.blob.local.example", container: data, '
    "credential: {accountKey: {secret: acr}}}"
)
READY = TargetStatus(True, EgressLevel.ENFORCED, "3.11", "linux/amd64")
SEEN = Observation(
    targets={"runner": READY, "gpu": READY}, data={("store", "table/"): DataDigest(build.DATA, 1, 6)}
)
STATE = build.desired()


def plan(state: Desired = STATE, *records: Record, observed: Observation | None = SEEN) -> Plan:
    return build_plan(state, Recorded.of(records), build.SERVED, observed)


def only(made: Plan, name: str = "mean") -> list[Change]:
    """The changes of one experiment's runs."""
    return [c for c in made.changes if c.id == f"run/{name}" or c.id.startswith(f"run/{name}/")]


def changed(old: str, new: str, path: str = EXPERIMENT) -> Desired:
    return build.desired(build.edited(path, old, new))


def test_a_new_experiment_trains_with_its_identity() -> None:
    [change] = only(plan())
    assert (change.operation, change.reason) == (Operation.TRAIN, "NewExperiment")
    assert change.subject["identity"] == build.run_data(STATE)["identity"]
    assert change.subject["attempt"] == 1


def test_offline_the_identity_may_be_open() -> None:
    [change] = only(plan(observed=None))
    assert change.subject["identity"] is None
    assert change.subject["identityOf"]["inputs"] == {"table": None}


@pytest.mark.parametrize("outcome", sorted(SETTLED))
def test_settled_runs_are_not_repeated(outcome: Outcome) -> None:
    run = build.run(STATE, outcome=outcome.value)
    assert only(plan(STATE, run)) == []
    assert only(plan(STATE, run, observed=None)) == []


@pytest.mark.parametrize(
    ("old", "new", "reason", "path"),
    [
        ("shift: 0.5", "shift: 0.6", "ParametersChanged", "parameters.shift"),
        ("python train.py", "python3 train.py", "CommandChanged", "command"),
        ("  seed: 1", "  seed: 2", "SeedChanged", "seed"),
        ("path: model.json", "path: other.json", "OutputsChanged", "outputs.model"),
        ("digest: latest", f'digest: "{build.OTHER_DATA}"', "DataChanged", "inputs.table"),
        ("{requirements:", '{python: "3.12", requirements:', "EnvironmentChanged", "python"),
    ],
)
def test_the_plan_says_why_it_trains_again(old: str, new: str, reason: str, path: str) -> None:
    [change] = only(plan(changed(old, new), build.run(STATE), observed=None))
    assert (change.reason, [d.path for d in change.differences]) == (reason, [path])


def test_changed_code_trains_again_and_several_changes_are_told() -> None:
    run = build.run(STATE)
    [change] = only(plan(build.desired(code={"mean": "sha256:other"}), run))
    assert change.reason == "CodeChanged"
    files = build.edited(EXPERIMENT, "shift: 0.5", "shift: 0.6")
    [change] = only(plan(build.desired(files, code={"mean": "sha256:other"}), run))
    assert change.reason == "ExperimentChanged"
    assert {d.path for d in change.differences} == {"code", "parameters.shift"}


def test_going_back_to_an_earlier_run_needs_no_training() -> None:
    old, new = build.run(STATE, ordinal=1), build.run(changed("shift: 0.5", "shift: 0.6"), ordinal=2)
    assert only(plan(STATE, old, new)) == []


@given(st.integers(0, 3), st.integers(1, 5))
def test_lost_runs_are_tried_again_up_to_retries(retries: int, attempts: int) -> None:
    state = changed("retries: 1", f"retries: {retries}")
    runs = [build.run(state, outcome="lost", attempt=n, ordinal=n) for n in range(1, attempts + 1)]
    made = only(plan(state, *runs))
    if attempts <= retries:
        assert [(c.reason, c.subject["attempt"]) for c in made] == [("RunLost", attempts + 1)]
        assert made[0].subject["identity"] == runs[0].identity
    else:
        assert made == []


@pytest.mark.parametrize("outcome", sorted(Outcome))
def test_a_retry_starts_the_next_attempt_of_any_outcome(outcome: Outcome) -> None:
    run = build.run(STATE, outcome=outcome.value)
    wish = {run_id("mean", run.identity, 2): {"reason": "disk was full"}}
    [change] = only(plan(STATE, run, observed=replace(SEEN, retries=wish)))
    assert (change.operation, change.reason, change.subject["attempt"]) == (Operation.TRAIN, "RetryRequested", 2)
    assert change.subject["retry"] == {"reason": "disk was full"}
    after = build.run(STATE, outcome="failed", attempt=2, ordinal=2)
    assert only(plan(STATE, run, after, observed=replace(SEEN, retries=wish))) == []


def test_a_started_run_is_adopted() -> None:
    name, facts = build.ticket(build.run_data(STATE))
    [change] = only(plan(observed=replace(SEEN, tickets={name: facts})))
    assert (change.operation, change.subject["run"]) == (Operation.ADOPT, name)


@pytest.mark.parametrize("outcome", ["lost", "failed"])
def test_a_started_attempt_that_follows_another_is_adopted(outcome: str) -> None:
    """Whatever ended the one before: nothing is started beside it."""
    first = build.run(STATE, outcome=outcome)
    tickets = dict(build.ticket({**build.run_data(STATE), "attempt": attempt}) for attempt in (1, 2))
    name = run_id("mean", first.identity, 2)
    assert name in tickets
    [change] = only(plan(STATE, first, observed=replace(SEEN, tickets=tickets)))
    assert (change.operation, change.subject["run"], change.subject["attempt"]) == (Operation.ADOPT, name, 2)


def test_a_started_run_that_is_no_longer_wanted_is_cancelled() -> None:
    data = build.run_data(STATE)
    name, facts = build.ticket(data)
    observed = replace(SEEN, tickets={name: facts})
    made = plan(changed("shift: 0.5", "shift: 0.6"), observed=observed)
    cancelled = [c for c in made.changes if c.operation is Operation.CANCEL]
    assert [(c.id, c.reason) for c in cancelled] == [(f"run/{name}", "Superseded")]
    # What has its record is over; nothing is left to cancel.
    over = plan(changed("shift: 0.5", "shift: 0.6"), build.run(STATE), observed=observed)
    assert not [c for c in over.changes if c.operation is Operation.CANCEL]


def test_latest_is_what_the_first_run_observed() -> None:
    run = build.run(STATE)
    moved_on = replace(SEEN, data={("store", "table/"): DataDigest(build.OTHER_DATA, 2, 9)})
    assert only(plan(STATE, run, observed=moved_on)) == []
    [change] = only(plan(changed("shift: 0.5", "shift: 0.6"), run, observed=moved_on))
    assert change.subject["identityOf"]["inputs"] == {"table": build.DATA}
    # Another path is other data, which nobody observed yet.
    [change] = only(plan(changed("path: table/", "path: other/"), run, observed=moved_on))
    assert change.subject["identityOf"]["inputs"] == {"table": None}


def test_python_left_open_takes_any_recorded_one_and_declared_does_not() -> None:
    run = build.run(STATE, python="3.12")
    assert only(plan(STATE, run)) == []
    [change] = only(plan(changed("{requirements:", '{python: "3.11", requirements:'), run))
    assert change.reason == "EnvironmentChanged"


def test_a_grown_sweep_trains_only_the_new_trials() -> None:
    done = [build.run(STATE, "search", trial={"lr": lr}, metrics={"loss": lr}) for lr in (0.1, 0.2)]
    assert only(plan(STATE, *done), "search") == []
    grown = changed("values: [0.1, 0.2]", "values: [0.05, 0.1, 0.2, 0.3]", SEARCH)
    made = only(plan(grown, *done), "search")
    assert [(c.subject["trial"], c.reason) for c in made] == [({"lr": 0.05}, "NewTrial"), ({"lr": 0.3}, "NewTrial")]
    assert len({c.id for c in made}) == 2


def test_retired_and_refused_experiments_train_nothing() -> None:
    for state in (
        changed("{name: mean,", "{name: mean, retired: true,"),
        build.desired(build.edited("models/mean/model.yaml", "{name: mean,", "{name: mean, retired: true,")),
    ):
        assert only(plan(state)) == []
    refused = plan(changed("limits: {", "resources: {gpus: 9}\n  limits: {"))
    assert only(refused) == []
    assert "P506" in {p.code for p in refused.problems}


def test_a_drained_target_makes_runs_wait() -> None:
    drained = build.desired(build.edited("compute/runner.yaml", "site: here", "site: here\n  schedulable: false"))
    made = plan(drained)
    assert only(made) == []
    assert ("run/mean", "TargetDrained") in made.waiting


def test_of_two_targets_the_one_that_takes_runs_gives_the_python() -> None:
    files = build.edited(EXPERIMENT, "compute: runner", "compute: {selector: {site: here, pool: a}}")
    runner = files["compute/runner.yaml"].replace("name: runner", "name: runner, labels: {pool: a}")
    files["compute/zeta.yaml"] = runner.replace("name: runner", "name: zeta")
    files["compute/runner.yaml"] = runner + "  schedulable: false\n"
    old = replace(READY, python="3.12")
    seen = replace(SEEN, targets={"runner": old, "zeta": READY, "gpu": READY})
    [change] = only(plan(build.desired(files), observed=seen))
    assert change.subject["identityOf"]["python"] == "3.11"
    # A run that the drained target started with its own Python is brought to its end.
    name, facts = build.ticket(build.run_data(build.desired(files), python="3.12"))
    made = plan(build.desired(files), observed=replace(seen, tickets={name: facts}))
    assert [c.operation for c in only(made)] == [Operation.ADOPT]
    assert not [c for c in made.changes if c.operation is Operation.CANCEL]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (replace(READY, ready=False, message="no sandbox"), "P503"),
        (replace(READY, python="3.13"), "P505"),
        (replace(READY, egress=EgressLevel.ADVISORY), "P504"),
    ],
)
def test_targets_that_do_not_fit_are_refused_with_the_reason(status: TargetStatus, code: str) -> None:
    files = build.edited(EXPERIMENT, "{requirements:", '{python: "3.11", requirements:')
    files = build.edited("edgetrain.yaml", "path: /srv/data}", "path: /srv/data, requireEgress: enforced}", files)
    made = plan(build.desired(files), observed=replace(SEEN, targets={"runner": status, "gpu": READY}))
    assert only(made) == []
    assert [p.code for p in made.problems] == [code]


def test_a_run_under_way_is_taken_up_although_its_target_takes_no_new_one() -> None:
    name, facts = build.ticket(build.run_data(STATE))
    status = replace(READY, ready=False, message="its disk is nearly full")
    seen = replace(SEEN, targets={"runner": status, "gpu": READY}, tickets={name: facts})
    made = plan(observed=seen)
    assert [c.operation for c in only(made)] == [Operation.ADOPT]
    assert "P503" in {p.code for p in made.problems}


@pytest.mark.parametrize(
    ("path", "old", "new", "code"),
    [
        (SEARCH, "  environment:\n    image: " + IMAGE + '\n    python: "3.11"\n', "", "P510"),
        (SEARCH, '    python: "3.11"\n', "", "P511"),
        ("edgetrain.yaml", "  allowedBases: [" + f'"{IMAGE}"' + "]\n", "", "P507"),
        (EXPERIMENT, "{requirements:", f"{{image: {IMAGE}, requirements:", "P508"),
        ("edgetrain.yaml", "{type: folder, path: /srv/data}", BLOB, "P512"),
    ],
)
def test_what_a_kind_of_target_can_not_do_is_refused_at_plan_time(path: str, old: str, new: str, code: str) -> None:
    made = plan(build.desired(build.edited(path, old, new)))
    assert [p.code for p in made.problems] == [code]


@pytest.mark.parametrize(
    ("risk", "release", "codes"),
    [("high", "automatic", ["P518"]), ("high", "review", []), ("low", "automatic", [])],
)
def test_a_model_of_high_risk_is_not_released_without_a_review(risk: str, release: str, codes: list[str]) -> None:
    card = f"  card: {{intendedPurpose: T., riskClass: {risk}}}\n  release: {release}\n"
    made = plan(changed("  release: automatic\n", card, "models/searched/model.yaml"))
    assert [p.code for p in made.problems] == codes
    assert [(p.line, p.column) for p in made.problems] == [(8, 12)] * len(codes)
    assert bool(only(made, "search")) is not bool(codes)


def test_a_container_brings_its_own_python() -> None:
    target = replace(READY, python="")
    changes = plan(STATE, observed=replace(SEEN, targets={"runner": READY, "gpu": target})).changes
    [of, _] = [c.subject["identityOf"] for c in changes if c.subject.get("experiment") == "search"]
    assert (of["python"], of["platform"]) == ("3.11", READY.platform)


def test_changed_gates_judge_again_and_never_train() -> None:
    run = build.run(STATE)
    state = build.desired(build.edited("models/mean/model.yaml", "min: 0.1", "min: 0.9"))
    for observed in (None, SEEN):
        made = plan(state, run, observed=observed)
        assert next(c.operation for c in made.changes if "mean" in c.id) is Operation.EVALUATE
        assert only(made) == []
    judged = build.evaluation(run, "not_better", gates_digest(state.models["mean"].gates))
    assert not [c for c in plan(state, run, judged).changes if "mean" in c.id]


def test_a_run_that_a_version_cites_is_not_judged_again() -> None:
    run = build.run(STATE)
    files = build.with_versions(build.edited("models/mean/model.yaml", "min: 0.1", "min: 0.9"), run)
    operations = {c.operation for c in plan(build.desired(files), run).changes}
    assert Operation.EVALUATE not in operations


@given(st.permutations(sorted(build.FILES)), st.randoms())
def test_the_plan_does_not_hang_on_the_order_of_files(order: list[str], random: Any) -> None:
    first, second = build.run(STATE, ordinal=1), build.run(changed("shift: 0.5", "shift: 0.6"), ordinal=2)
    records: list[Record] = [first, second, build.released(first, 1), build.proposal(second, 2)]
    versions = build.with_versions(build.FILES, first)
    names = [*order, "models/mean/versions/1.yaml"]
    random.shuffle(records)
    random.shuffle(names)
    shuffled = plan(build.desired({name: versions[name] for name in names}), *records)
    straight = plan(build.desired(versions), *sorted(records, key=lambda record: record.path))
    assert shuffled.digest == straight.digest
    assert shuffled.to_json() == straight.to_json()
