"""Who proposed, approved, checked and merged, told from the records alone, with every doubt that numbers raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetrain.core.ports import Account, CheckResult, PullRequest, Review
from edgetrain.core.ports.forge import ReviewState
from edgetrain.core.record import Record, parse_record, serialise
from edgetrain.core.review import review_json
from edgetrain.reconcile.audit import tell
from edgetrain.reconcile.hands import hand_doubts, recorded_hand
from edgetrain.reconcile.models import _release as told_release
from edgetrain.render.audit import audit_json, audit_markdown, audit_text
from edgetrain.render.hands import Hand
from edgetrain.render.models import Overview, Version, log_text, models_json, models_text
from edgetrain.render.story import Story
from tests.outputs import sound
from tests.reconcile import builders as b

GOLDEN = Path(__file__).parent / "golden"
HEAD, OLDER, MERGED = "1" * 40, "2" * 40, "d" * 40
DANA, RAVI, MIA, APP = Account(101, "dana"), Account(202, "ravi"), Account(303, "mia"), Account(9, "ci[bot]", True)


def seen(who: Account, commit: str = HEAD, at: int = 1, state: ReviewState = "approved") -> Review:
    return Review(who, state, f"2026-03-01T0{at}:00:00Z", commit)


def review(
    reviews: Sequence[Review] = (seen(RAVI),),
    checks: Sequence[tuple[str, str]] = (("edgetrain", "success"),),
    number: int = 9,
    proposer: Account = DANA,
) -> dict[str, Any]:
    """As a record keeps it."""
    url = f"https://github.com/hosp/models/pull/{number}"
    pull = PullRequest(number, url, "T", False, HEAD, "b", "hosp/models", "main", proposer, MERGED, MIA)
    results = [CheckResult(name, end) for name, end in checks]
    return review_json("github.com", "hosp/models", pull, reviews, results)


def provenance(kept: dict[str, Any] | None, merge: str = MERGED) -> dict[str, Any]:
    return {"mergeCommit": merge, "proposer": b.DANA, "approvers": ["ravi"], "pullRequest": "#9", "review": kept}


def with_provenance(record: Record, value: dict[str, Any]) -> Any:
    return parse_record(record.path, serialise({**record.data, "provenance": value}), record.ordinal)


def story(run: dict[str, Any] | None, release: dict[str, Any] | None, move: dict[str, Any] | None) -> Story:
    """Version 1, released and moved into production, each by a pull request of its own."""
    return moved_by(run, release, provenance(move))


def moved_by(run: dict[str, Any] | None, release: dict[str, Any] | None, move: dict[str, Any]) -> Story:
    """The same, moved by what is told of the move's provenance."""
    ran = b.run(metricsSource="evaluated", provenance=provenance(run, "c" * 40))
    version = b.version(ran, 1)
    released = with_provenance(b.released(version), provenance(release))
    moved = with_provenance(b.moved(version, None, 1, follows=None, number=2, ordinal=4), move)
    records = [ran, released, moved]
    desired = b.desired(version, of=b.model(channels={"production": 1}))
    return tell(desired, b.recorded(*records), version, b.facts(*records))


def doubts(found: Story) -> list[tuple[str, str]]:
    return [(doubt.name, doubt.what) for doubt in found.doubts]


def test_a_reviewed_story_in_three_forms(golden: Callable[[Path, str], None]) -> None:
    found = story(
        review(number=7, checks=[("edgetrain", "success"), ("tools", "skipped")]),
        review([seen(APP, at=1), seen(RAVI, OLDER, at=2), seen(MIA, at=3)], number=9),
        review(number=11),
    )
    assert doubts(found) == []
    golden(GOLDEN / "audit-reviewed.txt", audit_text(found))
    golden(GOLDEN / "audit-reviewed.md", audit_markdown(found))
    golden(GOLDEN / "audit-reviewed.json", audit_json(found))
    sound("audit", audit_json(found))


def test_a_story_that_nobody_else_looked_at(golden: Callable[[Path, str], None]) -> None:
    failed = review([seen(RAVI, OLDER)], [("edgetrain", "failure")])
    found = story(review([seen(DANA)], number=7), failed, review([]))
    golden(GOLDEN / "audit-unreviewed.txt", audit_text(found))


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "seen by another": (review(), []),
    "of an older head": (review([seen(RAVI, OLDER)]), ["StaleApproval"]),
    "of an older head, and of the merged one": (review([seen(RAVI, OLDER), seen(MIA)]), []),
    "one's own": (review([seen(DANA)]), ["SelfApproved"]),
    "one's own under another login": (review([seen(Account(101, "dana-2"))]), ["SelfApproved"]),
    "of another under the same login": (review([seen(Account(404, "dana"))]), []),
    "a machine's": (review([seen(APP)]), ["MachineApproved"]),
    "nobody's": (review([]), ["NotApproved"]),
    "taken back": (review([seen(RAVI), seen(RAVI, at=2, state="dismissed")]), ["NotApproved"]),
    "all that don't count": (
        review([seen(RAVI, OLDER), seen(DANA), seen(APP)]),
        ["StaleApproval", "SelfApproved", "MachineApproved"],
    ),
    "a check that failed": (review(checks=[("lint", "failure"), ("ok", "success")]), ["ChecksNotPassed"]),
    "a check that still runs": (review(checks=[("lint", "")]), ["ChecksNotPassed"]),
}


@pytest.mark.parametrize("name", CASES)
def test_each_change_is_doubted_by_what_its_own_record_keeps(name: str) -> None:
    kept, expected = CASES[name]
    for place, what in enumerate(("the experiment", "the version", "the move of production from nothing to 1")):
        kinds: list[dict[str, Any] | None] = [review(), review(), review()]
        kinds[place] = kept
        found = doubts(story(*kinds))
        assert [name for name, _ in found] == expected
        assert all(what in words for _, words in found)


def test_a_move_without_a_pull_request_is_doubted_where_others_have_theirs() -> None:
    pushed = {"mergeCommit": MERGED, "proposer": b.DANA, "approvers": [], "pullRequest": None}
    found = moved_by(review(), review(), pushed)
    assert doubts(found) == [
        ("ApproverUnknown", "nothing in git says who approved the move of production from nothing to 1")
    ]
    assert all("the move" not in words for _, words in doubts(moved_by(None, None, pushed)))


def test_who_proposed_the_experiment_is_no_second_pair_of_eyes_on_its_version() -> None:
    by_dana = review([seen(DANA)], proposer=APP)
    assert doubts(story(review(), by_dana, review())) == [
        ("SelfApproved", "the version was approved alone by dana, who proposed its experiment")
    ]
    both = review([seen(DANA), seen(RAVI, at=2)], proposer=APP)
    assert doubts(story(review(), both, review())) == []


@pytest.mark.parametrize(
    ("writer", "expected"),
    [
        ("Dana <101+dana@users.noreply.github.com>", ["SelfApproved"]),
        ("Dana <101+old-name@users.noreply.forge.example>", ["SelfApproved"]),
        ("Dana <102+dana@users.noreply.github.com>", []),
        ("Dana <dana@example.org>", []),
        ("Dana <101+dana@users.noreply.github.com> ", []),
    ],
)
def test_who_added_commits_to_a_machines_pull_request_and_approved_it(writer: str, expected: list[str]) -> None:
    hand = recorded_hand({**provenance(review([seen(DANA)], proposer=APP)), "proposer": writer})
    assert [doubt.name for doubt in hand_doubts("version", hand)] == expected
    other = recorded_hand({**provenance(review([seen(DANA), seen(RAVI)], proposer=APP)), "proposer": writer})
    assert list(hand_doubts("version", other)) == []


def test_an_approval_that_a_forged_record_calls_good_does_not_count() -> None:
    kept = review([seen(RAVI, OLDER)])
    kept["approvals"][0] |= {"counts": True, "why": ""}
    assert [name for name, _ in doubts(story(review(), kept, review()))] == ["StaleApproval"]


def test_approvers_by_the_forge_are_not_held_against_the_trailers_of_git() -> None:
    ran = b.run(metricsSource="evaluated", provenance=provenance(review(), "c" * 40))
    version = b.version(ran, 1)
    released = with_provenance(b.released(version), provenance(review()))
    records = [ran, released]
    facts = b.facts(*records, version=Hand("edgetrain <m@example.org>", (), MERGED))
    assert doubts(tell(b.desired(version), b.recorded(*records), version, facts)) == []
    other = replace(facts, version=Hand("edgetrain <m@example.org>", (), "e" * 40))
    found = doubts(tell(b.desired(version), b.recorded(*records), version, other))
    assert [name for name, _ in found] == ["ApprovalDiffers"]


def test_a_record_with_a_review_of_another_form_is_no_record() -> None:
    ran = b.run()
    with pytest.raises(ValueError, match=r"provenance\.review: it is not the form of a review"):
        with_provenance(ran, provenance({"pullRequest": "7"}))
    assert with_provenance(ran, provenance(None)).digest


def test_hostile_logins_and_checks_stay_values() -> None:
    evil = "x\x1b[31m\n| a | @someone <script>`"
    found = story(review(proposer=Account(1, evil), checks=[(evil, evil)]), review(), review())
    text, markdown = audit_text(found), audit_markdown(found)
    assert "\x1b" not in text + markdown
    assert "<script>" not in markdown
    assert " @someone" not in markdown
    assert sound("audit", audit_json(found))["source"]["proposed"]["review"]["proposer"]["login"] == evil


def test_logs_and_lists_tell_the_same() -> None:
    hand = recorded_hand(provenance(review([seen(RAVI, OLDER), seen(MIA)])))
    version = Version(1, "scan-1", {"auroc": 0.9}, ("production",), None, None, hand)
    overview = Overview("triage", "Triage.", False, {"production": 1}, (), (version,), (), {"production": hand})
    text = models_text([overview])
    assert "ravi (does not count), mia" in text
    assert "moved by dana, approved by ravi (does not count), mia, merged by mia" in text
    [told] = sound("models", models_json([overview]))["models"]
    assert told["versions"][0]["hand"]["review"]["approvals"][0]["why"] == "StaleReview"
    assert told["moved"]["production"]["review"]["mergedBy"] == {"id": 303, "login": "mia"}

    ran = b.run(provenance=provenance(review()))
    moved = b.moved(b.version(ran, 1), None, 1, follows=None, number=2, ordinal=4)
    happening = told_release(with_provenance(moved, provenance(review())), "2026-03-04T00:00:00Z")
    text = log_text("triage", [happening])
    assert "ravi (account 202) at 2026-03-01T01:00:00Z, of 1111111111111111111111111111111111111111; counts" in text
    assert "edgetrain: success" in text
    assert "merged by" in text
