"""Which approvals of a pull request count, and what a record keeps of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetrain.core.approval import LATE, MACHINE, OWN, STALE
from edgetrain.core.ports import Account, CheckResult, PullRequest, Review
from edgetrain.core.ports.forge import ReviewState
from edgetrain.core.review import approvals, read_review, review_json

HEAD, OLDER = "a" * 40, "b" * 40
ADA, BEN, BOT = Account(1, "ada"), Account(2, "ben"), Account(3, "ci[bot]", bot=True)
PULL = PullRequest(7, "https://github.com/o/r/pull/7", "T", False, HEAD, "b", "o/r", "main", ADA, "c" * 40, BEN)


def review(who: Account, state: ReviewState, at: int, commit: str = HEAD) -> Review:
    return Review(who, state, f"2026-01-01T00:00:{at:02}Z", commit)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (review(BEN, "approved", 1), ""),
        (review(BEN, "approved", 1, OLDER), STALE),
        (review(ADA, "approved", 1), OWN),
        (review(BOT, "approved", 1), MACHINE),
    ],
)
def test_an_approval_counts_if_another_person_saw_what_was_merged(one: Review, why: str) -> None:
    (found,) = approvals(PULL, [one])
    assert (found.why, found.counts) == (why, not why)


@pytest.mark.parametrize(
    ("later", "stands"), [("commented", True), ("changes_requested", False), ("dismissed", False)]
)
def test_a_comment_takes_nothing_back_and_a_refusal_does(later: ReviewState, stands: bool) -> None:
    told = [review(BEN, "approved", 1), review(BEN, later, 2)]
    assert bool(approvals(PULL, told)) is stands


MERGED = replace(PULL, merged_at="2026-01-01T00:00:03Z")


def test_what_is_said_after_the_merge_counts_for_nothing() -> None:
    late = review(BEN, "approved", 4)
    (found,) = approvals(MERGED, [late])
    assert (found.why, found.counts) == (LATE, False)
    record = review_json("github.com", "o/r", MERGED, [late], [])
    assert [one.why for one in read_review(record).approvals] == [LATE]
    forged = {**record, "approvals": [{**record["approvals"][0], "counts": True, "why": ""}]}
    assert not read_review(forged).approvals[0].counts


@pytest.mark.parametrize("later", ["approved", "changes_requested", "dismissed"])
def test_what_is_said_after_the_merge_takes_nothing_back(later: ReviewState) -> None:
    (found,) = approvals(MERGED, [review(BEN, "approved", 3), review(BEN, later, 4)])
    assert found.counts and found.time == "2026-01-01T00:00:03Z"


def test_an_approval_of_the_newest_head_replaces_a_stale_one() -> None:
    told = [review(BEN, "approved", 2), review(BEN, "approved", 1, OLDER)]
    assert [one.counts for one in approvals(PULL, told)] == [True]


@given(st.permutations([review(BEN, "approved", 1), review(BEN, "dismissed", 2), review(BOT, "approved", 3)]))
def test_the_order_in_which_they_are_told_does_not_matter(told: list[Review]) -> None:
    assert [one.account for one in approvals(PULL, told)] == [BOT]


def test_a_record_keeps_numbers_times_and_what_was_reviewed() -> None:
    kept = review_json(
        "github.com",
        "o/r",
        PULL,
        [review(BEN, "approved", 5), review(ADA, "approved", 6)],
        [CheckResult("validate", "success"), CheckResult("lint", "failure")],
    )
    assert kept == {
        "host": "github.com",
        "repository": "o/r",
        "pullRequest": 7,
        "head": HEAD,
        "proposer": {"id": 1, "login": "ada"},
        "mergedBy": {"id": 2, "login": "ben"},
        "mergedAt": None,
        "approvals": [
            {"id": 2, "login": "ben", "time": "2026-01-01T00:00:05Z", "commit": HEAD, "counts": True, "why": ""},
            {"id": 1, "login": "ada", "time": "2026-01-01T00:00:06Z", "commit": HEAD, "counts": False, "why": OWN},
        ],
        "checks": {"lint": "failure", "validate": "success"},
    }


REVIEWS = [review(BEN, "approved", 5), review(ADA, "approved", 6), review(BOT, "approved", 7, OLDER)]


def test_what_a_record_keeps_is_read_back() -> None:
    kept = review_json("github.com", "o/r", PULL, REVIEWS, [CheckResult("lint", "failure")])
    found = read_review(json.loads(json.dumps(kept)))
    assert found.approvals == approvals(PULL, REVIEWS)
    assert (found.proposer, found.merged_by) == (ADA, BEN)
    assert (found.host, found.repository, found.pull_request, found.head) == ("github.com", "o/r", 7, HEAD)
    assert found.checks == {"lint": "failure"}


def test_numbers_decide_what_counts_whatever_a_record_says_of_it() -> None:
    kept = review_json("github.com", "o/r", PULL, [review(BEN, "approved", 5)], [])
    (one,) = kept["approvals"]
    for change, why in (({"id": 1}, OWN), ({"commit": OLDER}, STALE), ({"login": "ada"}, "")):
        forged = {**kept, "approvals": [{**one, **change, "counts": True, "why": ""}]}
        assert [found.why for found in read_review(forged).approvals] == [why]


@pytest.mark.parametrize(
    "change",
    [
        {"pullRequest": "7"},
        {"pullRequest": True},
        {"proposer": None},
        {"proposer": {"login": "ada"}},
        {"approvals": {}, "checks": []},
        {"approvals": ["ben"]},
        {"approvals": [{"id": 2}]},
        {"checks": {"lint": 1}},
        {"head": None},
    ],
)
def test_another_form_is_no_review(change: dict[str, Any]) -> None:
    kept = review_json("github.com", "o/r", PULL, REVIEWS, [])
    with pytest.raises(ValueError, match="form of a review"):
        read_review({**kept, **change})
