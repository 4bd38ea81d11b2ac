"""Planning proposals: which candidate is put forward, under which number, and which open proposal is closed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgetrain.core.desired import Desired
from edgetrain.core.gate import gates_digest
from edgetrain.core.observation import Observation
from edgetrain.core.plan import Operation, Plan
from edgetrain.core.planner import build as build_plan
from edgetrain.core.planner.proposals import number_of, proposal_branch
from edgetrain.core.record import Outcome, RunRecord, run_id
from edgetrain.core.recorded import Recorded
from tests.core import build
from tests.core.test_evaluation import desired as evaluated
from tests.core.test_planner_releases import FIRST, SECOND, STATE, of, plan, with_channels
from tests.core.test_planner_runs import SEEN, changed

BRANCH = "edgetrain/proposal/mean-"


def proposed(made: Plan, model: str = "mean") -> list[tuple[int, str, bool]]:
    """Number, run and whether conditional of each proposal."""
    return [
        (c.subject["version"], c.subject.get("run", ""), c.conditional) for c in of(made, Operation.PROPOSE, model)
    ]


def test_a_candidate_is_proposed_once_under_the_next_number() -> None:
    for observed in (SEEN, None):
        assert proposed(plan(STATE, FIRST, observed=observed)) == [(1, FIRST.run_id, False)]
    assert proposed(plan(STATE, FIRST, build.proposal(FIRST, 1))) == []
    merged = with_channels("{}", FIRST)
    assert proposed(plan(merged, FIRST, build.proposal(FIRST, 1))) == []
    # Nor where people wrote the version by hand.
    assert proposed(plan(merged, FIRST)) == []


def test_what_follows_a_training_is_conditional() -> None:
    assert proposed(plan(STATE)) == [(1, "", True)]
    [change] = of(plan(STATE), Operation.PROPOSE)
    assert change.after == ("run/mean",)


def test_of_a_model_that_is_refused_nothing_is_planned() -> None:
    served = {**build.SERVED, "workspace": frozenset[str]()}
    made = build_plan(with_channels("{production: 1}", FIRST), Recorded.of([FIRST, SECOND]), served, SEEN)
    assert (made.changes, bool(made.problems)) == ((), True)


@pytest.mark.parametrize("outcome", ["not_better", "failed", "rejected", "cancelled"])
def test_no_other_outcome_is_proposed(outcome: str) -> None:
    assert proposed(plan(STATE, build.run(STATE, outcome=outcome))) == []


def test_only_what_is_wanted_now_is_proposed() -> None:
    assert proposed(plan(changed("shift: 0.5", "shift: 0.7"), FIRST)) == [(1, "", True)]


def two_experiments() -> Desired:
    files = dict(build.FILES)
    files["experiments/other/experiment.yaml"] = files["experiments/mean/experiment.yaml"].replace(
        "{name: mean,", "{name: other,"
    )
    files["experiments/other/requirements.lock"] = build.LOCK
    return build.desired(files)


def test_the_newest_of_several_candidates_is_proposed() -> None:
    both = two_experiments()
    old, new = build.run(both, ordinal=1), build.run(both, "other", ordinal=2)
    assert proposed(plan(both, old, new)) == [(1, new.run_id, False)]
    assert proposed(plan(both, build.run(both, ordinal=3), new)) == [(1, old.run_id, False)]


def test_an_older_candidate_is_not_put_forward_after_a_newer_one() -> None:
    """The newer one's experiment is retired meanwhile; its proposal was made, and closed by people."""
    both = two_experiments()
    old, new = build.run(both, ordinal=1), build.run(both, "other", ordinal=2)
    assert proposed(plan(STATE, old, new, build.proposal(new, 1))) == []
    newest = build.run(both, ordinal=3)
    assert proposed(plan(STATE, newest, new, build.proposal(new, 1))) == [(1, newest.run_id, False)]
    # Within one experiment the manifest says which is wanted.
    assert proposed(plan(STATE, FIRST, SECOND, build.proposal(SECOND, 1))) == [(1, FIRST.run_id, False)]


@pytest.mark.parametrize("outcome", ["not_better", "failed"])
def test_a_proposal_whose_run_is_no_candidate_is_closed(outcome: str) -> None:
    spoilt = build.run(STATE, outcome=outcome, ordinal=1)
    made = plan(STATE, spoilt, observed=replace(SEEN, proposals={BRANCH + "7": spoilt.digest}))
    [change] = of(made, Operation.CLOSE)
    assert (change.id, change.reason, change.subject["branch"]) == ("closing/mean@7", "NoCandidate", BRANCH + "7")
    # People may push to such branches, and a version may stand without its candidate.
    strange = replace(SEEN, proposals={BRANCH + "x": spoilt.digest, BRANCH + "8": "sha256:unknown"})
    assert of(plan(STATE, spoilt, observed=strange), Operation.CLOSE) == []
    merged = build.desired(build.with_versions(build.FILES, spoilt))
    seen = replace(SEEN, proposals={BRANCH + "7": spoilt.digest})
    assert of(plan(merged, spoilt, observed=seen), Operation.CLOSE) == []
    assert (
        of(plan(STATE, FIRST, observed=replace(SEEN, proposals={BRANCH + "7": FIRST.digest})), Operation.CLOSE)
        == []
    )


def test_of_a_retired_model_nothing_is_proposed() -> None:
    retired = build.desired(build.edited("models/mean/model.yaml", "name: mean", "name: mean, retired: true"))
    assert proposed(plan(retired, FIRST)) == []


def test_a_closed_proposal_does_not_come_back() -> None:
    records = (FIRST, build.proposal(FIRST, 1))
    assert proposed(plan(STATE, *records, observed=replace(SEEN, proposals={}))) == []
    still_open = replace(SEEN, proposals={BRANCH + "1": FIRST.digest})
    assert proposed(plan(STATE, *records, observed=still_open)) == []


def test_a_newer_candidate_supersedes_under_the_same_number() -> None:
    state = changed("shift: 0.5", "shift: 0.6")
    records = (FIRST, build.proposal(FIRST, 1), SECOND)
    observed = replace(SEEN, proposals={BRANCH + "1": FIRST.digest})
    made = plan(state, *records, observed=observed)
    assert proposed(made) == [(1, SECOND.run_id, False)]
    [change] = of(made, Operation.PROPOSE)
    assert change.reason == "NewerCandidate"
    assert change.differences[0].actual == FIRST.run_id
    # Then the newer one's own proposal holds.
    after = replace(SEEN, proposals={BRANCH + "1": SECOND.digest})
    assert proposed(plan(state, *records, build.proposal(SECOND, 1), observed=after)) == []


def test_an_open_proposal_whose_number_was_taken_moves_on() -> None:
    merged = build.desired(build.with_versions(
        build.edited("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.6"), FIRST
    ))  # fmt: skip
    observed = replace(SEEN, proposals={BRANCH + "1": SECOND.digest})
    made = plan(merged, FIRST, SECOND, build.proposal(SECOND, 1), observed=observed)
    assert proposed(made) == [(2, SECOND.run_id, False)]


def test_a_sweep_proposes_its_best_trial_when_all_are_settled() -> None:
    trials = [
        build.run(STATE, "search", trial={"lr": lr}, metrics={"loss": loss}, ordinal=number)
        for number, (lr, loss) in enumerate([(0.1, 0.2), (0.2, 0.3)])
    ]
    assert proposed(plan(STATE, trials[0]), "searched") == [(1, "", True)]
    assert proposed(plan(STATE, *trials), "searched") == [(1, trials[0].run_id, False)]
    [change] = of(plan(STATE, *trials), Operation.PROPOSE, "searched")
    assert change.subject["release"] == "automatic"


# --- what each condition is there for -------------------------------------------------------------------


def open_at(**proposals: RunRecord) -> Observation:
    """What the forge shows, by number (`_1`) of the model mean."""
    return replace(SEEN, proposals={BRANCH + name[1:]: run.digest for name, run in proposals.items()})


def judged_by_other_gates(name: str = "mean", **options: Any) -> RunRecord:
    """A run of then: the gates are others now."""
    data = build.run_data(STATE, name, **options)
    data["gates"]["digest"] = "sha256:other"
    found: RunRecord = build.record_of(build.run_path(name, data["identity"], data["attempt"]), data, 1)
    return found


def searched(*losses: float, ordinal: int = 1) -> list[RunRecord]:
    return [
        build.run(STATE, "search", trial={"lr": lr}, metrics={"loss": loss}, ordinal=ordinal)
        for lr, loss in zip((0.1, 0.2), losses, strict=False)
    ]


def test_of_a_refused_model_no_candidate_is_put_forward() -> None:
    served = {**build.SERVED, "workspace": frozenset[str]()}
    assert build_plan(STATE, Recorded.of([FIRST]), served, SEEN).changes == ()


def test_the_order_of_files_and_of_branches_changes_nothing() -> None:
    turned = build.desired(dict(reversed(build.FILES.items())))
    assert plan(turned).changes == plan(STATE).changes
    assert len([c for c in plan(STATE).changes if c.operation is Operation.PROPOSE]) == 2
    spoilt = build.run(STATE, outcome="failed", ordinal=1)
    closed = of(plan(STATE, spoilt, observed=open_at(_8=spoilt, _7=spoilt)), Operation.CLOSE)
    assert [change.id for change in closed] == ["closing/mean@7", "closing/mean@8"]


def test_each_model_is_looked_at() -> None:
    trials = searched(0.2, 0.3)
    retired = changed("name: mean,", "name: mean, retired: true,")
    assert proposed(plan(retired, *trials), "searched") == [(1, trials[0].run_id, False)]
    both = plan(STATE, FIRST, *trials)
    assert (proposed(both), proposed(both, "searched")) == (
        [(1, FIRST.run_id, False)],
        [(1, trials[0].run_id, False)],
    )


def test_beside_a_candidate_nothing_is_conditional() -> None:
    both = two_experiments()
    old = build.run(both, ordinal=1)
    made = plan(both, old)
    assert [change.id for change in of(made, Operation.TRAIN)] == ["run/other"]
    assert proposed(made) == [(1, old.run_id, False)]


@pytest.mark.parametrize("outcome", [Outcome.CANDIDATE, Outcome.NOT_BETTER])
def test_what_is_judged_again_is_proposed_if_its_gates_pass(outcome: Outcome) -> None:
    then = judged_by_other_gates(outcome=outcome.value)
    made = plan(STATE, then)
    [change] = of(made, Operation.EVALUATE)
    assert proposed(made) == [(1, "", True)]
    assert [c.after for c in of(made, Operation.PROPOSE)] == [(change.id,)]
    # Nor is its open proposal closed before that.
    assert of(plan(STATE, then, observed=open_at(_1=then)), Operation.CLOSE) == []


def test_what_is_scored_again_is_proposed_if_its_gates_pass() -> None:
    """No stored score is of the evaluation that the model has now."""
    state = evaluated()
    made = plan(state, build.run(state, ordinal=1), observed=None)
    [change] = of(made, Operation.SCORE)
    assert [(c.after, c.conditional) for c in of(made, Operation.PROPOSE)] == [((change.id,), True)]


def test_what_is_cancelled_makes_no_proposal() -> None:
    settled = build.run(STATE, outcome="not_better", ordinal=1)
    name, ticket = build.ticket(build.run_data(changed("shift: 0.5", "shift: 0.9")))
    made = plan(STATE, settled, observed=replace(SEEN, tickets={name: {**ticket, "model": "mean"}}))
    assert len(of(made, Operation.CANCEL)) == 1
    assert proposed(made) == []


def test_a_sweep_waits_for_a_trial_that_is_made_again_and_for_one_whose_target_is_drained() -> None:
    trials = searched(0.2, 0.3)
    following = run_id("search", trials[1].identity, 2)
    asked = replace(SEEN, retries={following: {"by": "Dana", "reason": "why not"}})
    assert proposed(plan(STATE, *trials, observed=asked), "searched") == [(1, "", True)]
    drained = build.desired(
        build.edited("compute/gpu.yaml", "  type: ssh\n", "  type: ssh\n  schedulable: false\n")
    )
    assert proposed(plan(drained, trials[0]), "searched") == []
    assert proposed(plan(drained, *trials), "searched") == [(1, trials[0].run_id, False)]


def test_what_is_taken_up_is_proposed_if_its_gates_pass() -> None:
    name, ticket = build.ticket(build.run_data(STATE))
    made = plan(STATE, observed=replace(SEEN, tickets={name: ticket}))
    assert [c.operation for c in made.changes if c.id == "run/mean"] == [Operation.ADOPT]
    assert proposed(made) == [(1, "", True)]


def test_a_candidate_that_is_to_be_trained_once_more_stands_meanwhile() -> None:
    following = run_id("mean", FIRST.identity, 2)
    made = plan(STATE, FIRST, observed=replace(SEEN, retries={following: {"by": "Dana", "reason": "why not"}}))
    assert [c.reason for c in made.changes if c.id == "run/mean"] == ["RetryRequested"]
    assert proposed(made) == [(1, FIRST.run_id, False)]


def test_a_closed_proposal_does_not_come_back_under_the_next_number() -> None:
    merged = build.desired(build.with_versions(
        build.edited("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.6"), FIRST
    ))  # fmt: skip
    records = (FIRST, SECOND, build.proposal(SECOND, 1))
    assert proposed(plan(merged, *records)) == []
    assert proposed(plan(merged, *records, observed=None)) == []


def test_an_open_proposal_moves_on_again_and_again() -> None:
    files = build.edited("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.6")
    third = build.run(changed("shift: 0.5", "shift: 0.8"), ordinal=3)
    two = build.desired(build.with_versions(files, FIRST, third))
    records = (FIRST, third, SECOND, build.proposal(SECOND, 1, 4), build.proposal(SECOND, 2, 5))
    assert proposed(plan(two, *records, observed=open_at(_2=SECOND))) == [(3, SECOND.run_id, False)]
    assert proposed(plan(two, *records, observed=open_at(_1=SECOND))) == []


def test_an_open_proposal_moves_on_though_a_newer_candidate_took_its_number() -> None:
    both = two_experiments()
    old, new = build.run(both, ordinal=1), build.run(both, "other", ordinal=2)
    merged = build.desired(build.with_versions(build.FILES, new))
    records = (old, new, build.proposal(old, 1))
    assert proposed(plan(merged, *records, observed=open_at(_1=old))) == [(2, old.run_id, False)]


def test_an_older_candidate_does_not_come_after_a_version_of_another_experiment() -> None:
    """Nobody proposed the version: people wrote it."""
    both = two_experiments()
    old, new = build.run(both, ordinal=1), build.run(both, "other", ordinal=2)
    merged = build.desired(build.with_versions(build.FILES, new))
    assert proposed(plan(merged, old, new)) == []
    assert proposed(plan(merged, build.run(both, ordinal=3), new)) == [(2, old.run_id, False)]
    # Of a version without its record nothing says that it is newer.
    assert proposed(plan(merged, old)) == [(2, old.run_id, False)]


def test_another_model_s_proposals_overtake_nothing() -> None:
    trials = searched(0.2, 0.3, ordinal=2)
    records = (FIRST, *trials, build.proposal(trials[0], 1))
    assert proposed(plan(STATE, *records)) == [(1, FIRST.run_id, False)]


def test_newest_is_what_was_judged_last() -> None:
    both = two_experiments()
    old, new = build.run(both, ordinal=1), build.run(both, "other", ordinal=2)
    again = build.evaluation(old, "candidate", gates_digest(both.models["mean"].gates), ordinal=3)
    assert proposed(plan(both, old, new, again)) == [(1, old.run_id, False)]


def test_a_proposal_that_was_pushed_and_not_recorded_is_no_newer_one() -> None:
    for observed in (SEEN, None, open_at(_1=FIRST)):
        [change] = of(plan(STATE, FIRST, observed=observed), Operation.PROPOSE)
        assert (change.reason, change.differences) == ("CandidateFound", ())
    unknown = replace(SEEN, proposals={BRANCH + "1": "sha256:unknown"})
    [change] = of(plan(STATE, FIRST, observed=unknown), Operation.PROPOSE)
    assert (change.reason, len(change.differences)) == ("NewerCandidate", 1)
    assert (change.differences[0].path, change.differences[0].actual) == ("run", "sha256:unknown")


def test_the_open_proposal_of_a_candidate_is_not_closed() -> None:
    made = plan(STATE, FIRST, build.proposal(FIRST, 1), observed=open_at(_1=FIRST))
    assert [c.operation for c in made.changes if c.subject.get("model") == "mean"] == []


def test_whose_place_another_takes_is_not_closed() -> None:
    spoilt = build.run(changed("shift: 0.5", "shift: 0.6"), outcome="failed", ordinal=1)
    made = plan(STATE, FIRST, spoilt, observed=open_at(_1=spoilt))
    assert (proposed(made), of(made, Operation.CLOSE)) == ([(1, FIRST.run_id, False)], [])


def test_what_is_no_proposal_hides_no_other() -> None:
    spoilt = build.run(STATE, outcome="failed", ordinal=1)
    seen = {BRANCH + "5": "sha256:unknown", BRANCH + "6x": spoilt.digest, BRANCH + "7": spoilt.digest}
    [change] = of(plan(STATE, spoilt, observed=replace(SEEN, proposals=seen)), Operation.CLOSE)
    assert change.id == "closing/mean@7"


def with_third(name: str = "third") -> Desired:
    """Another experiment of the model whose experiment is a sweep."""
    files = dict(build.FILES)
    files[f"experiments/{name}/experiment.yaml"] = (
        files["experiments/mean/experiment.yaml"]
        .replace("{name: mean,", f"{{name: {name},")
        .replace("model: mean\n", "model: searched\n")
        .replace("[score]", "[loss]")
    )
    files[f"experiments/{name}/requirements.lock"] = build.LOCK
    return build.desired(files)


def test_beside_a_sweep_another_experiment_speaks_for_itself() -> None:
    state = with_third()
    third = build.run(state, "third", metrics={"loss": 0.1}, ordinal=1)
    unfinished = searched(0.2)
    assert proposed(plan(state, *unfinished, third), "searched") == [(1, third.run_id, False)]
    trials = searched(0.2, 0.3, ordinal=2)
    assert proposed(plan(state, *trials, third), "searched") == [(1, trials[0].run_id, False)]
    failed = build.run(STATE, "search", trial={"lr": 0.1}, outcome="failed", ordinal=2)
    assert proposed(plan(state, failed, trials[1], third), "searched") == [(1, trials[1].run_id, False)]


def test_after_another_experiment_a_sweep_speaks_with_its_best_trial() -> None:
    state = with_third("before")
    before, trials = build.run(state, "before", metrics={"loss": 0.1}, ordinal=1), searched(0.3, 0.2, ordinal=2)
    assert proposed(plan(state, before, *trials), "searched") == [(1, trials[1].run_id, False)]


def test_what_was_judged_at_once_overtakes_nothing() -> None:
    both = two_experiments()
    old, new = build.run(both, ordinal=1), build.run(both, "other", ordinal=1)
    assert proposed(plan(STATE, old, new, build.proposal(new, 1))) == [(1, old.run_id, False)]


def test_what_a_change_says() -> None:
    [sure] = of(plan(STATE, FIRST), Operation.PROPOSE)
    told = {"model": "mean", "run": FIRST.run_id, "record": FIRST.digest, "branch": BRANCH + "1"}
    assert (sure.id, dict(sure.subject)) == ("proposal/mean@1", {**told, "version": 1, "release": "review"})
    [perhaps] = of(plan(STATE), Operation.PROPOSE)
    assert (perhaps.id, perhaps.reason) == ("proposal/mean@1", "IfGatesPass")
    assert dict(perhaps.subject) == {"model": "mean", "version": 1}
    spoilt = build.run(STATE, outcome="failed", ordinal=1)
    [closing] = of(plan(STATE, spoilt, observed=open_at(_1=spoilt)), Operation.CLOSE)
    assert dict(closing.subject) == {**told, "run": spoilt.run_id, "record": spoilt.digest}


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_the_best_trial_is_the_best_by_the_sweep_s_goal(goal: str) -> None:
    files = build.edited("experiments/search/experiment.yaml", "{goal: minimize,", f"{{goal: {goal},")
    state = build.desired(files)
    for losses in ((0.2, 0.3), (0.3, 0.2)):
        trials = searched(*losses)
        best = trials[losses.index(min(losses) if goal == "minimize" else max(losses))]
        assert proposed(plan(state, *trials), "searched") == [(1, best.run_id, False)]
    for told in (0, 1):  # one that does not tell its metric is never the best
        metrics = [{"loss": 0.2} if number == told else {} for number in (0, 1)]
        trials = [
            build.run(STATE, "search", trial={"lr": lr}, metrics=one, ordinal=1)
            for lr, one in zip((0.1, 0.2), metrics, strict=True)
        ]
        assert proposed(plan(state, *trials), "searched") == [(1, trials[told].run_id, False)]


@pytest.mark.parametrize(
    ("branch", "number"),
    [
        (f"{BRANCH}1", 1),
        (f"{BRANCH}120", 120),
        (f"{BRANCH}123456789", 123456789),
        (f"{BRANCH}1234567890", 0),
        (f"{BRANCH}0", 0),
        (f"{BRANCH}01", 0),
        (f"{BRANCH}", 0),
        ("edgetrain/proposal/other-1", 0),
        ("1", 0),
    ],
)
def test_the_number_of_a_branch(branch: str, number: int) -> None:
    assert number_of(branch, "mean") == number
    assert number == 0 or proposal_branch("mean", number) == branch
