"""The records of main itself, from plain facts: whose they are, and whether they are still there."""

from __future__ import annotations

from typing import Any

import pytest

from edgetrain.core.checks.main import Main, Touch, main_problems, wrong_records

RECORD = "experiments/mean/runs/0123456789ab-1.json"
OTHER = "experiments/mean/runs/0123456789ab-2.json"
VERSION = "models/mean/versions/1.yaml"
MACHINE = "machine@example.org"
EVE = "eve@example.org"


def touch(signature: str = "good", blob: str | None = "a", **facts: Any) -> Touch:
    blobs = facts.pop("blobs", {RECORD: blob})
    return Touch(
        facts.pop("commit", "c" * 40), facts.pop("committer", MACHINE), blobs, signature=signature, **facts
    )


def wrong(*touches: Touch, **facts: Any) -> list[tuple[str, str | None]]:
    known: dict[str, Any] = {"start": {}, "present": {RECORD: "a"}, "machines": {MACHINE}, "signers": True}
    return [(w.code.id, w.right) for w in wrong_records(Main(**{**known, **facts}, touches=touches))]


FORGED = touch("none", "a", commit="f" * 40, committer=EVE)


@pytest.mark.parametrize("signature", ["none", "bad", "unknown"])
def test_a_record_without_a_good_signature_is_wrong_while_it_is_there(signature: str) -> None:
    forged = touch(signature)
    assert wrong(forged) == [("H404", None)]
    assert wrong(forged, touch("none", None), present={}) == []
    assert wrong(touch("good")) == []


def test_without_signers_the_committer_counts() -> None:
    assert wrong(touch("unknown"), signers=False) == []
    assert wrong(FORGED, signers=False) == [("H404", None)]
    assert wrong(FORGED, signers=False, machines={MACHINE, EVE}) == []


def test_a_genuine_record_must_stay_and_may_be_put_back_by_anybody() -> None:
    good, gone = touch("good"), touch("none", None, commit="e" * 40, committer=EVE)
    assert wrong(good, gone, present={}) == [("H402", "a")]
    assert wrong(gone, present={}, start={RECORD: "a"}) == [("H402", "a")]
    assert wrong(good, gone, FORGED) == [], "the same bytes again"
    assert wrong(good, touch("none", "b"), present={RECORD: "b"}) == [("H402", "a")]
    assert wrong(good, touch("good", "b"), present={RECORD: "b"}) == [("H402", "a")], "nor does the machine edit"
    assert wrong(good, touch("good", None), present={}) == [("H402", "a")]


def test_what_lay_there_before_the_signers_is_vouched_for() -> None:
    early = touch("none", "a", committer=EVE, vouched=True, others=("README.md",))
    assert wrong(early) == []
    assert wrong(early, touch("none", None, vouched=True), present={}) == []
    assert wrong(early, touch("none", None), present={}) == [("H402", "a")]


@pytest.mark.parametrize(
    ("others", "automatic", "expected"),
    [
        ((), set(), []),
        (("docs/a.md",), {"mean"}, [("H405", None)]),
        ((VERSION,), {"mean"}, []),
        ((VERSION,), set(), [("H405", None)]),
    ],
)
def test_what_may_lie_beside_a_record(others: tuple[str, ...], automatic: set[str], expected: list[Any]) -> None:
    assert wrong(touch("good", others=others, automatic=frozenset(automatic))) == expected


def test_signatures_that_cannot_be_told_are_not_called_wrong() -> None:
    assert wrong(touch("unknown"), verifiable=False) == []
    assert wrong(touch("unknown", others=("docs/a.md",)), verifiable=False) == [("H405", None)]
    assert wrong(FORGED, verifiable=False, signers=False) == [("H404", None)]


def test_one_problem_a_commit_that_names_the_way_out() -> None:
    both = {RECORD: "a", OTHER: "b"}
    main = Main({}, both, [touch("none", commit="f" * 40, committer=EVE, blobs=both)], {MACHINE}, signers=True)
    (found,) = main_problems(wrong_records(main))
    assert (found.code, found.path) == ("H404", RECORD)
    assert found.what == f"on main, commit {'f' * 12} by {EVE} is not signed and touches {RECORD} and 1 more"
    assert found.fix == f"Undo it by a new commit on main: `git revert {'f' * 12}`."
    merged = Main({RECORD: "a"}, {}, [touch("good", None, merge=True)], {MACHINE}, signers=True)
    (found,) = main_problems(wrong_records(merged))
    assert "removes" in found.what
    assert f"git revert -m 1 {'c' * 12}" in found.fix
    replaced = Main({}, {RECORD: "a"}, [touch("unknown")], {MACHINE}, signers=True)
    (found,) = main_problems(wrong_records(replaced))
    assert "valid-before" in found.fix
