"""From pull request to pull request: reviews in records, candidates to review, outcomes as comments."""

from __future__ import annotations

from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.errors import Rejected, Transient
from edgetrain.core.plan import Change, Effect, Operation
from edgetrain.core.review import read_review
from edgetrain.reconcile import outcomes
from edgetrain.reconcile.due import due
from edgetrain.reconcile.lanes import Lane
from edgetrain.reconcile.report import Event, Status
from edgetrain.reconcile.state import read_commit, stopping
from edgetrain.reconcile.validate import problems_of
from edgetrain.repo.git import Git
from tests.apply.forge_site import ForgeSite, forge_site

RAN = "experiments/mean/runs"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ForgeSite:
    return forge_site(tmp_path / "site", monkeypatch)


def trained(site: ForgeSite, shift: str = "0.4", *approvers: str) -> int:
    """A merged pull request of ada's that asks for a training; its number."""
    text = (site.clone / "experiments/mean/experiment.yaml").read_text()
    line = next(line for line in text.splitlines() if "shift:" in line)
    site.write("experiments/mean/experiment.yaml", text.replace(line, f"    shift: {shift}"))
    number = site.request(f"ada/shift-{shift}", f"Shift by {shift}")
    site.merge(number, *approvers)
    return number


def open_pulls(site: ForgeSite) -> list[int]:
    return [pull.number for pull in site.forge.open_pull_requests("edgetrain/")]


def test_a_record_keeps_who_approved_by_the_forge(site: ForgeSite) -> None:
    site.write("experiments/mean/experiment.yaml", _shifted(site, "0.45"))
    number = site.request("ada/doc", "A change\n\nApproved-by: Mallory <m@example.org>\nPull-Request: #99")
    site.forge.review(number, "mary")
    site._git("checkout", "--quiet", "-B", "ada/doc", "origin/ada/doc")
    site.edit("experiments/mean/experiment.yaml", "shift: 0.45", "shift: 0.4")
    site._git("commit", "--quiet", "-am", "Shift")
    site._git("push", "--quiet", "origin", "ada/doc")
    site.sync()
    site.forge.check(site.forge.pull_request(number).head, 'tests: 3.11, "quoted" #1 ' + "x" * 300)
    site.forge.check(site.forge.pull_request(number).head, "true", "failure")
    commit = site.merge(number, "grace", "ada")
    assert site.apply().good
    path, record = site.only("RunRecord")
    told: Any = record["provenance"]
    grace = site.forge.account("grace")
    assert told["approvers"] == [f"grace <{grace.id}+grace@users.noreply.github.com>"]
    assert (told["pullRequest"], told["mergeCommit"]) == (f"#{number}", commit)
    review = read_review(told["review"])
    assert (review.pull_request, review.proposer.login) == (number, "ada")
    assert {one.account.login: one.counts for one in review.approvals} == {
        "mary": False,
        "grace": True,
        "ada": False,
    }
    assert sorted(review.checks.values()) == ["failure", "success"]
    trailers = site.trailers(path)
    assert trailers["Approved-by"] == told["approvers"]
    assert trailers["Pull-Request"] == [f"#{number}"]
    assert trailers["Model"] == ["mean"]
    assert trailers["Run"][0].startswith("mean-") and trailers["Plan"][0].startswith("sha256:")
    site.merge(open_pulls(site)[0], "grace")
    state = read_commit(Git(site.clone), Git(site.clone).tip("main"))
    assert not stopping(problems_of(state.loaded))


def _shifted(site: ForgeSite, shift: str) -> str:
    return (site.clone / "experiments/mean/experiment.yaml").read_text().replace("shift: 0.5", f"shift: {shift}")


def test_what_was_pushed_without_a_pull_request_has_no_review(site: ForgeSite) -> None:
    site.write("experiments/mean/experiment.yaml", _shifted(site, "0.3"))
    site.push("Shift (#12)\n\nApproved-by: Mallory <m@example.org>\nPull-Request: #99")
    assert site.apply().good
    _, record = site.only("RunRecord")
    told: Any = record["provenance"]
    assert "review" not in told
    assert (told["approvers"], told["pullRequest"]) == ([], None)


def test_a_candidate_becomes_a_pull_request_and_then_a_version(site: ForgeSite) -> None:
    asked = trained(site, "0.4", "grace")
    assert site.apply().good
    (number,) = open_pulls(site)
    pull, details = site.forge.pull_request(number), site.forge.details[number]
    assert pull.branch == "edgetrain/proposal/mean-1"
    assert pull.title.startswith("Release mean@1 from run mean-")
    assert "edgetrain verify mean@1" in unescape(details.body)
    assert "| <code>score</code> | 0.6 |" in details.body
    assert details.labels == {"edgetrain"}
    assert details.reviewers == {"example/ds"}
    path, record = site.only("ProposalRecord")
    assert record["pullRequest"] == number
    assert site.trailers(path)["Pull-Request"] == [f"#{asked}"]
    (comment,) = site.forge.texts(asked, "outcome")
    assert "candidate" in comment and f"#{number}" in comment

    site.merge(number, "mary")
    assert site.apply().good
    path, record = site.only("ReleaseRecord")
    told: Any = record["provenance"]
    # Grace approved the experiment, not the version.
    assert [one.split()[0] for one in told["approvers"]] == ["mary"]
    assert read_review(told["review"]).proposer.login == "edgetrain-app[bot]"
    trailers = site.trailers(path)
    assert trailers["Pull-Request"] == [f"#{number}"]
    assert trailers["Approved-by"] == told["approvers"]
    assert trailers["Model"] == ["mean@1"]
    assert {key: len(found) for key, found in trailers.items()} == dict.fromkeys(
        ("Plan", "Run", "Model", "Pull-Request", "Approved-by"), 1
    )
    (comment,) = site.forge.texts(number, "outcome")
    assert "is released" in comment
    before = {one: list(site.forge.texts(one, "outcome")) for one in (asked, number)}
    assert not site.apply().results  # the machine's own commits start nothing
    assert {one: list(site.forge.texts(one, "outcome")) for one in (asked, number)} == before


def test_a_pull_request_that_people_closed_does_not_come_back(site: ForgeSite) -> None:
    trained(site)
    assert site.apply().good
    (number,) = open_pulls(site)
    site.forge.shut(number)
    assert not site.apply().results
    assert not open_pulls(site)
    assert "edgetrain/proposal/mean-1" in site.branches()
    # A later candidate is another matter.
    trained(site, "0.2")
    assert site.apply().good
    (again,) = open_pulls(site)
    assert again != number


def test_a_newer_candidate_takes_over_the_same_pull_request(site: ForgeSite) -> None:
    trained(site)
    assert site.apply().good
    (number,) = open_pulls(site)
    before = site.forge.details[number].body
    trained(site, "0.2")
    assert site.apply().good
    assert open_pulls(site) == [number]
    after = site.forge.details[number].body
    assert after != before
    assert "takes the place of" in after
    assert "| <code>score</code> | 0.8 |" in after


def test_what_people_push_to_the_machines_branches_holds_up_nothing(site: ForgeSite) -> None:
    digest = "sha256:" + "a" * 64
    hostile = [
        "spec: text",
        "- a",
        f"spec: {{run: [{digest}]}}",
        "spec: {run: {record: 7}}",
        "#" * 2**21,
        "a: &a [*a]",
    ]
    for number, text in enumerate(hostile, 1):
        site.write(f"models/mean/versions/{number}.yaml", text)
        site.request(f"edgetrain/proposal/mean-{number}")
    trained(site)
    assert site.apply().good
    pull = next(one for one in site.forge.open_pull_requests("edgetrain/") if one.branch.endswith("/mean-1"))
    assert pull.title.startswith("Release mean@1 from run mean-")
    assert "spec: text" not in site._git("show", f"{pull.head}:models/mean/versions/1.yaml")


def test_no_pull_request_for_a_model_that_releases_by_itself(site: ForgeSite) -> None:
    site.edit("models/mean/model.yaml", "release: review", "release: automatic")
    site.edit("experiments/mean/experiment.yaml", "shift: 0.5", "shift: 0.4")
    number = site.request("ada/automatic")
    site.merge(number, "grace")
    assert site.apply().good
    assert not open_pulls(site)
    _, record = site.only("ReleaseRecord")
    told: Any = record["provenance"]
    assert told["approvers"] == [] and "review" not in told
    (comment,) = site.forge.texts(number, "outcome")
    assert "1 run recorded, 1 version proposed, 1 version released" in comment


def test_without_its_review_nothing_is_recorded_and_the_next_apply_does_it(site: ForgeSite) -> None:
    asked = trained(site, "0.4", "grace")
    down = Transient("the forge does not answer", fix="apply again")
    site.forge.fail("pull_requests_of", *[down] * 4)
    (result,) = site.apply().results
    assert (result.status, result.reason) == (Status.FAILED, "Transient")
    assert not site.records()
    assert not site.forge.texts(asked, "outcome")
    site.forge._faults.clear()
    assert site.apply().good
    assert site.forge.texts(asked, "outcome")


def test_a_pull_request_that_could_not_be_opened_is_opened_by_the_next_apply(site: ForgeSite) -> None:
    asked = trained(site)
    site.forge.fail("propose", Transient("the forge does not answer"))
    results = {one.change: one for one in site.apply().results}
    assert results["proposal/mean@1"].reason == "Transient"
    assert [record["kind"] for record in site.records().values()] == ["RunRecord"]
    assert "the forge does not answer" in site.forge.texts(asked, "outcome")[0]
    assert site.apply().good
    assert open_pulls(site)
    (comment,) = site.forge.texts(asked, "outcome")
    assert "does not answer" not in comment


def test_a_comment_that_could_not_be_made_is_made_by_the_next_apply(site: ForgeSite) -> None:
    asked = trained(site)
    site.forge.fail("comment", Transient("the forge does not answer"))
    seen: list[Event] = []
    assert site.apply(report=seen.append).good
    assert [event.message for event in seen if event.subject == "comments"] == [
        "the forge does not answer; the next apply makes them"
    ]
    assert not site.forge.texts(asked, "outcome")
    assert not site.apply().results
    assert "candidate" in site.forge.texts(asked, "outcome")[0]
    calls = site.forge.calls.count("comment")
    site.apply()
    assert site.forge.calls.count("comment") == calls  # nothing is owed any more


def test_a_run_that_goes_on_is_told_and_then_how_it_ended(site: ForgeSite) -> None:
    wait = "import select; select.select([], [], [], 12)\n"
    site.write("experiments/mean/train.py", wait + (site.clone / "experiments/mean/train.py").read_text())
    number = site.request("ada/slow", "Train slowly")
    site.merge(number, "grace")
    site.apply(wait=False)
    (comment,) = site.forge.texts(number, "outcome")
    assert "under way" in comment
    site.sync()
    assert site.apply().good
    (comment,) = site.forge.texts(number, "outcome")
    assert "under way" not in comment and "candidate" in comment


def test_a_comment_that_is_owed_is_due(site: ForgeSite) -> None:
    asked = trained(site)
    site.forge.fail("comment", Transient("the forge does not answer"))
    assert site.apply().good
    assert [name.partition("/")[0] for name in due(site.clone).train] == ["outcomes"]
    assert site.apply(lane=Lane.RELEASE).good
    assert not site.forge.texts(asked, "outcome")  # it is the other lane's
    assert site.apply(lane=Lane.TRAIN).good
    assert site.forge.texts(asked, "outcome")
    assert not due(site.clone).train


def test_a_refused_change_is_told_on_its_pull_request(site: ForgeSite) -> None:
    site.write("experiments/mean/train.py", "import sys; sys.exit(7)\n")
    number = site.request("ada/broken", "Break it")
    site.merge(number, "grace")
    assert not site.apply().good
    (comment,) = site.forge.texts(number, "outcome")
    assert "failed" in comment and "exit code 7" in comment


def test_a_comment_that_is_refused_for_good_is_owed_no_more(site: ForgeSite) -> None:
    trained(site)
    site.forge.fail("comment", Rejected("the conversation is locked"))
    seen: list[Event] = []
    assert site.apply(report=seen.append).good
    assert any("the conversation is locked" in event.message for event in seen)
    assert not due(site.clone).train


def test_a_sweep_asks_git_once_where_it_comes_from(site: ForgeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = outcomes.last_change

    def counted(git: Git, tip: str, folder: str, exclude: Sequence[str] = ()) -> Any:
        asked.append(folder)
        return real(git, tip, folder, exclude)

    monkeypatch.setattr(outcomes, "last_change", counted)
    change = Change("run/mean", Operation.TRAIN, Effect.CREATE, "NewTrial", subject={"experiment": "mean"})
    state = read_commit(Git(site.clone), Git(site.clone).tip("main"))
    places: dict[str, str | None] = {}
    found = {outcomes.source_of(state, change, places) for _ in range(50)}
    assert asked == ["experiments/mean"]
    assert len(found) == 1 and None not in found
