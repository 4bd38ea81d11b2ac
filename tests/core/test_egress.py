"""Waivers: which hold on a day, what they cover, and what keeps new runs from starting."""

from __future__ import annotations

from typing import Any

import pytest

from edgetrain.core.codes import CODES
from edgetrain.core.codes.egress import DATA_IN_CODE, NETWORK, NOT_WAIVABLE, OTHER_LANGUAGE, PROCESS
from edgetrain.core.egress import WAIVABLE, judge, summary, to_json
from edgetrain.core.identity import fields
from edgetrain.core.kinds import Experiment
from edgetrain.core.plan import Operation, Plan
from edgetrain.core.planner import build as plan_build
from edgetrain.core.problem import Code, Problem, Severity, problem
from edgetrain.core.recorded import Recorded
from edgetrain.core.snapshot import CodeFile, Snapshot, check_content, check_name, kind_by_content, programs
from tests.core import build

PATH = "experiments/mean/experiment.yaml"
DAY = "2026-06-30"
OWNERS = frozenset({"@example/ds"})


def experiment(*waivers: str, logs: str = "site") -> Experiment:
    """The small experiment with these waivers, in YAML's flow form."""
    block = f"  egress:\n    logs: {logs}\n" + ("    waivers:\n" if waivers else "")
    text = build.FILES[PATH] + block + "".join(f"      - {waiver}\n" for waiver in waivers)
    found = build.manifest(PATH, text)
    assert isinstance(found, Experiment)
    return found


def waiver(code: str = "E613", expires: str = "2026-12-31", path: str = "", owner: str = "@example/ds") -> str:
    """One waiver."""
    place = f"path: {path}, " if path else ""
    return f'{{code: {code}, {place}reason: the decoder, owner: "{owner}", expires: "{expires}"}}'


def found(code: Code = PROCESS, path: str = "run.py") -> Problem:
    """A problem in the experiment's code."""
    return problem(code, f"experiments/mean/{path}", None, "what")


def test_without_a_waiver_problems_stop_and_warnings_do_not() -> None:
    verdict = judge(experiment(), [found(), found(OTHER_LANGUAGE)], OWNERS, DAY)
    assert {p.code for p in verdict.problems} == {"E613", "E608"}
    assert [p.code for p in verdict.refusals] == ["E613"]
    assert judge(experiment(), [found(OTHER_LANGUAGE)], OWNERS, DAY).refusals == ()


@pytest.mark.parametrize(
    ("path", "covers"),
    [("", True), ("run.py", True), ("./run.py", True), ("ru", False), ("run.pyc", False), ("other.py", False)],
)
def test_a_waiver_covers_its_code_at_its_path(path: str, covers: bool) -> None:
    verdict = judge(experiment(waiver(path=path)), [found()], OWNERS, DAY)
    assert (verdict.refusals == ()) is covers
    assert (verdict.waived == (found(),)) is covers
    other = judge(experiment(waiver(path=path)), [found(NETWORK)], OWNERS, DAY)
    assert [p.code for p in other.refusals] == ["E611"]


def test_a_folder_covers_all_in_it() -> None:
    inside, beside = found(DATA_IN_CODE, "data/codes/a.csv"), found(DATA_IN_CODE, "database/a.csv")
    verdict = judge(experiment(waiver("E601", path="data/")), [inside, beside], OWNERS, DAY)
    assert verdict.waived == (inside,)
    assert verdict.refusals == (beside,)


@pytest.mark.parametrize(("day", "holds"), [("2026-12-30", True), ("2026-12-31", True), ("2027-01-01", False)])
def test_the_last_day_counts(day: str, holds: bool) -> None:
    verdict = judge(experiment(waiver()), [found()], OWNERS, day)
    assert (verdict.refusals == ()) is holds
    assert (len(verdict.waivers) == 1) is holds


def test_an_expired_waiver_warns_and_starts_nothing() -> None:
    """Unrelated pull requests must not fail on the day after; nothing may start either."""
    verdict = judge(experiment(waiver(expires="2026-06-29")), [found()], OWNERS, DAY)
    assert [(p.code, p.severity) for p in verdict.problems] == [("E642", Severity.WARNING)]
    assert {p.code for p in verdict.refusals} == {"E642", "E613"}
    assert {p.severity for p in verdict.refusals} == {Severity.PROBLEM}


def test_an_expired_waiver_beside_one_that_holds_still_stops() -> None:
    both = experiment(waiver(expires="2026-06-29"), waiver(expires="2026-07-01"))
    verdict = judge(both, [found()], OWNERS, DAY)
    assert verdict.waived == (found(),)
    assert [p.code for p in verdict.refusals] == ["E642"]


@pytest.mark.parametrize("code", [*sorted(NOT_WAIVABLE), "R320", "E699"])
def test_what_can_not_be_waived(code: str) -> None:
    assert code not in WAIVABLE
    verdict = judge(experiment(waiver(code)), [], OWNERS, DAY)
    assert [p.code for p in verdict.refusals] == ["E641"]
    if code in CODES and code in NOT_WAIVABLE:
        left = judge(experiment(waiver(code)), [found(CODES[code])], OWNERS, DAY)
        assert code in {p.code for p in left.problems}


def test_unused_waivers_and_strange_owners_are_warnings() -> None:
    verdict = judge(experiment(waiver(owner="@example/dx")), [], OWNERS, DAY)
    assert {p.code for p in verdict.problems} == {"E643", "E644"}
    assert verdict.refusals == ()
    assert "E644" not in {p.code for p in judge(experiment(waiver(owner="@a/b")), [], frozenset(), DAY).problems}


def test_waivers_and_logs_are_not_in_the_identity() -> None:
    def identity(of: Experiment) -> dict[str, Any]:
        known = {"code": "c", "requirements": None, "inputs": {}, "python": "3.11", "platform": "p"}
        return fields(of, {}, **known)  # type: ignore[arg-type]

    assert identity(experiment(waiver(), logs="forge")) == identity(experiment())


def planned(*waivers: str, problems: tuple[Problem, ...] = (), logs: str = "site", day: str = DAY) -> Plan:
    """The offline plan of the small repository with this experiment."""
    files = {**build.FILES, PATH: experiment(*waivers, logs=logs).document.path and _text(waivers, logs)}
    desired = build.desired(files)
    snapshots = {name: Snapshot((CodeFile("train.py", 10, build.DATA),)) for name in desired.experiments}
    object.__setattr__(desired, "snapshots", snapshots)
    guarded = {"mean": judge(desired.experiments["mean"], problems, OWNERS, day)}
    return plan_build(desired, Recorded.of([]), build.SERVED, None, "", guarded)


def _text(waivers: tuple[str, ...], logs: str) -> str:
    block = f"  egress:\n    logs: {logs}\n" + ("    waivers:\n" if waivers else "")
    return build.FILES[PATH] + block + "".join(f"      - {each}\n" for each in waivers)


def test_a_plan_trains_what_is_waived_and_tells_it() -> None:
    made = planned(waiver(path="run.py"), problems=(found(),), logs="forge")
    assert "run/mean" in {c.id for c in made.changes if c.operation is Operation.TRAIN}
    assert made.problems == ()
    [told] = made.egress
    assert told["logs"] == "forge"
    assert told["code"]["files"] == 1
    assert told["code"]["list"] == [["train.py", 10, build.DATA]]
    assert told["waivers"] == [
        {
            "code": "E613",
            "path": "run.py",
            "reason": "the decoder",
            "owner": "@example/ds",
            "expires": "2026-12-31",
        }
    ]
    assert Plan.from_json(made.to_json()).egress == made.egress


@pytest.mark.parametrize("change", [{"waivers": []}, {"logs": "site"}])
def test_a_plan_file_whose_egress_was_altered_is_no_plan(change: dict[str, Any]) -> None:
    value = planned(waiver(), problems=(found(),), logs="forge").to_json()
    value["egress"][0] |= change
    with pytest.raises(ValueError, match="altered"):
        Plan.from_json(value)


def test_a_plan_starts_nothing_that_the_guard_refuses() -> None:
    made = planned(problems=(found(),))
    assert "run/mean" not in {change.id for change in made.changes}
    assert not any(change.id.startswith("proposal/mean") for change in made.changes)
    assert [p.code for p in made.problems] == ["E613"]
    assert made.egress == ()
    # Others go on.
    assert any(change.id.startswith("run/search") for change in made.changes)
    late = planned(waiver(), problems=(found(),), day="2027-01-01")
    assert {p.code for p in late.problems} == {"E613", "E642"}


def test_a_settled_experiment_is_not_refused_when_its_waiver_expires() -> None:
    desired = build.desired()
    run = build.run(desired, metrics={"score": 0.5})
    snapshots = {name: Snapshot() for name in desired.experiments}
    object.__setattr__(desired, "snapshots", snapshots)
    guarded = {"mean": judge(experiment(waiver(expires="2020-01-01")), [found()], OWNERS, DAY)}
    made = plan_build(desired, Recorded.of([run]), build.SERVED, None, "", guarded)
    assert made.problems == ()


def test_a_summary_lists_no_more_than_a_plan_can_hold() -> None:
    files = tuple(CodeFile(f"{at:05}.py", 1, build.DATA) for at in range(1500))
    told = summary(experiment(), Snapshot(files), judge(experiment(), [], OWNERS, DAY))
    assert (told["code"]["files"], told["code"]["bytes"], len(told["code"]["list"])) == (1500, 1500, 1000)


def test_a_waiver_as_json_has_no_empty_path() -> None:
    [held] = experiment(waiver()).waivers
    assert "path" not in to_json(held)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a.CSV", "E601"),
        ("deep/x.nii.gz", "E601"),
        ("a.npz", "E601"),
        ("model.pkl", "E601"),
        ("a.sqlite3", "E601"),
        ("a.zip", "E601"),
        ("best.ckpt", "E601"),
        ("scan.dcm", "E601"),
        (".env", "E602"),
        (".env.local", "E602"),
        ("id_rsa", "E602"),
        ("k/site.key", "E602"),
        ("service-account-1.json", "E602"),
        ("x.so", "E607"),
        ("__pycache__/x.cpython-311.pyc", "E607"),
        ("a.jl", "E608"),
        ("train.py", ""),
        ("README.md", ""),
        ("labels.json", ""),
        ("config.yaml", ""),
        (".env.example", ""),
        ("id_rsa.pub", ""),
        ("csv", ""),
        (".csv", ""),
        ("requirements.lock", ""),
        ("figure.png", ""),
    ],
)
def test_names(name: str, code: str) -> None:
    told = [each.id for each, _ in check_name(CodeFile(name, 10, build.DATA), 2**20)]
    assert told == ([code] if code else [])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"PAR1....", "E601"),
        (b"\x93NUMPY\x01\x00", "E601"),
        (b"PK\x03\x04", "E601"),
        (b"\x1f\x8b\x08", "E601"),
        (b"\0" * 128 + b"DICM", "E601"),
        (b"\0" * 344 + b"n+1\0", "E601"),
        (b"\x80\x04K\x01.", "E601"),
        (b"SQLite format 3\0", "E601"),
        (b"\x7fELF\x02", "E607"),
        (b"a\n-----BEGIN RSA PRIVATE KEY-----\n", "E602"),
        (b"".join(b"%d;x;%d\n" % (at, at) for at in range(200)), "E601"),
        (b"A word a line\n" * 500, ""),
        (b"", ""),
        (b"#!/bin/sh\n", ""),
    ],
)
def test_contents(data: bytes, code: str) -> None:
    assert [each.id for each, _ in check_content(data, "txt")] == ([code] if code else [])


def test_prose_and_code_are_no_tables() -> None:
    lines = b"".join(b"f(%d, %d, %d)\n" % (at, at, at) for at in range(200))
    assert list(check_content(lines, "py")) == []


def test_what_python_runs_is_python_whatever_its_name() -> None:
    assert programs("cd x && python3.11 -u ./go --a b; python -m pkg; python train.txt") == {
        "go",
        "train.txt",
        "pkg",
    }
    assert kind_by_content(b"#!/usr/bin/env python3\n") == "python"
    assert kind_by_content(b"#! /bin/bash -e\n") == "shell"
    assert kind_by_content(b"#!/usr/bin/perl\n") == "plain"
