"""What a record keeps of reviews: asked once a commit, bounded, and read back from a manifest as it was."""

from __future__ import annotations

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from edgetrain.core.ports import CheckResult
from edgetrain.reconcile.proposing import _keyed, _Quoted
from edgetrain.reconcile.reviews import MAX_CHECKS, MAX_NAME, Reviews, approvers
from edgetrain.repo.reader import read
from tests.memory_forge import MemoryForge


def merged(forge: MemoryForge, *approving: str) -> str:
    forge.push("change")
    number = forge.open("change", "ada")
    for login in approving:
        forge.review(number, login)
    return forge.merge(number)


def test_a_commit_is_asked_for_once() -> None:
    forge = MemoryForge()
    commit = merged(forge, "grace")
    reviews = Reviews(forge)
    first = reviews.of(commit)
    assert first is not None
    calls = list(forge.calls)
    assert reviews.of(commit) == first
    assert reviews.pull_of(commit) is not None
    assert forge.calls == calls


def test_a_commit_that_the_forge_has_not_tied_to_its_pull_request_yet() -> None:
    forge = MemoryForge()
    commit = merged(forge)
    forge.details[1].commits.clear()
    late = MemoryForge()
    late.pulls, late.details = forge.pulls, forge.details
    late.pull_requests_of = lambda commit: ()  # type: ignore[method-assign]
    assert Reviews(late).pull_of(commit) is None
    found = Reviews(late).pull_of(commit, "#1")
    assert found is not None and found.number == 1
    # What a commit says of itself counts only if the forge says so, too.
    assert Reviews(late).pull_of("0" * 40, "#1") is None
    for hint in ("#2", "#" + "9" * 30, "https://forge.example/pull/1", "#-1", "#²"):
        assert Reviews(late).pull_of(commit, hint) is None


def test_only_approvals_that_count_name_approvers() -> None:
    forge = MemoryForge()
    forge.push("change")
    number = forge.open("change", "ada")
    forge.review(number, "mary")
    forge.push("change")
    for login in ("ada", "grace", "helper[bot]"):
        forge.review(number, login)
    review = Reviews(forge).of(forge.merge(number))
    assert review is not None
    assert [one.split(" ")[0] for one in approvers(review)] == ["grace"]
    assert {one["login"]: one["why"] for one in review["approvals"]} == {
        "mary": "StaleReview",
        "ada": "OwnPullRequest",
        "grace": "",
        "helper[bot]": "Machine",
    }


def test_of_many_checks_those_that_failed_are_kept() -> None:
    forge = MemoryForge()
    forge.push("change")
    number = forge.open("change", "ada")
    head = forge.pull_request(number).head
    for at in range(MAX_CHECKS + 50):
        forge.check(head, f"check {at:04} {'x' * 300}")
    forge.check(head, "zzz\nfailing\x1b[31m", "failure")
    review = Reviews(forge).of(forge.merge(number))
    assert review is not None
    assert len(review["checks"]) == MAX_CHECKS
    assert review["checks"]["zzz failing [31m"] == "failure"
    assert max(map(len, review["checks"])) == MAX_NAME


@given(st.text(max_size=300))
@example("<<")
@example("? x")
@example("on: {a")
@example("no")
@example("1e3")
@example("- # &a *b !c |d >e '\"% @`")
@example("\u0085\u2028\ufeff\ud7ff")
def test_the_name_of_a_check_comes_back_from_a_manifest(name: str) -> None:
    forge = MemoryForge()
    forge.push("change")
    number = forge.open("change", "ada")
    forge.check(forge.pull_request(number).head, name)
    review = Reviews(forge).of(forge.merge(number))
    assert review is not None
    text = yaml.dump(_keyed({"spec": {"provenance": review}}), Dumper=_Quoted, sort_keys=False, width=120)
    document, problems = read(text.encode(), "models/mean/versions/1.yaml")
    assert not problems
    assert document is not None
    assert document.data["spec"]["provenance"]["checks"] == review["checks"]


def test_checks_of_a_made_up_order_are_told_by_name() -> None:
    forge = MemoryForge()
    forge.push("change")
    number = forge.open("change", "ada")
    head = forge.pull_request(number).head
    for name, end in (("b", "success"), ("a", "failure"), ("c", "")):
        forge.check(head, name, end)
    review = Reviews(forge).of(forge.merge(number))
    assert review is not None
    assert list(review["checks"].items()) == [("a", "failure"), ("b", "success"), ("c", "")]
    assert CheckResult("a", "failure") in forge.checks(head)
