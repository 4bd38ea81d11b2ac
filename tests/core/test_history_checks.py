"""The writer rule and what must stay as it was merged, from plain facts."""

from __future__ import annotations

from typing import Any

import pytest

from edgetrain.core.checks.history import Branch, Writing, check_history

RECORD = "experiments/mean/runs/0123456789ab-1.json"
VERSION = "models/mean/versions/1.yaml"
MACHINE = "machine@example.org"


def codes(**facts: Any) -> list[str]:
    known: dict[str, Any] = {
        "changed": {RECORD: "A"},
        "kept": frozenset(),
        "writings": [],
        "machine": MACHINE,
        "signers": True,
    }
    return [problem.code for problem in check_history(Branch(**{**known, **facts}))]


def writing(
    signature: str = "good", committer: str = MACHINE, others: tuple[str, ...] = (), status: str = "A"
) -> Writing:
    return Writing("c" * 40, committer, {RECORD: status}, others, signature)


@pytest.mark.parametrize(
    ("signature", "committer", "signers", "expected"),
    [
        ("good", MACHINE, True, []),
        ("good", "anybody@example.org", True, []),  # the key counts, not the name
        ("none", MACHINE, True, ["H404"]),
        ("bad", MACHINE, True, ["H404"]),
        ("unknown", MACHINE, True, ["H404"]),
        ("unknown", MACHINE, False, []),
        ("unknown", "anybody@example.org", False, ["H404"]),
    ],
)
def test_who_may_write_records(signature: str, committer: str, signers: bool, expected: list[str]) -> None:
    assert codes(writings=[writing(signature, committer)], signers=signers) == expected


@pytest.mark.parametrize(
    ("others", "automatic", "expected"),
    [
        (("docs/a.md",), {"mean"}, ["H405"]),
        ((VERSION,), {"mean"}, []),
        ((VERSION,), set(), ["H405"]),
        ((VERSION, "models/mean/model.yaml"), {"mean"}, ["H405"]),
        ((VERSION,), {"other"}, ["H405"]),
    ],
)
def test_what_may_lie_beside_a_record(others: tuple[str, ...], automatic: set[str], expected: list[str]) -> None:
    assert codes(writings=[writing(others=others)], automatic=frozenset(automatic)) == expected


def test_a_change_that_was_put_back_is_still_in_the_branch() -> None:
    assert codes(changed={}, writings=[writing(status="M")]) == ["H402"]
    assert codes(changed={RECORD: "M"}, writings=[writing(status="M")]) == ["H402"]


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        (VERSION, "A", []),
        (VERSION, "M", ["H401"]),
        (VERSION, "D", ["H401"]),
        (RECORD, "M", ["H402"]),
        (RECORD, "D", ["H402"]),
        (RECORD, "A", ["H404"]),  # in no commit: written by hand just now
        ("models/mean/versions/1.release-1.json", "M", ["H402"]),
        ("models/mean/model.yaml", "M", []),
        ("experiments/mean/train.py", "D", []),
    ],
)
def test_what_a_branch_may_change(path: str, status: str, expected: list[str]) -> None:
    assert codes(changed={path: status}) == expected


def test_a_deleted_folder_with_records_is_told_once() -> None:
    changed = {"experiments/mean/experiment.yaml": "D", RECORD: "D", "experiments/mean/train.py": "D"}
    assert codes(changed=changed, kept=frozenset({"experiments/mean"})) == ["H403"]
    assert codes(changed={"experiments/mean/experiment.yaml": "D"}) == []
    deleted = {"models/mean/model.yaml": "D", VERSION: "D"}
    assert codes(changed=deleted, kept=frozenset({"models/mean"})) == ["H403"]
