"""ledger.py: threads, clones and people who write at the same time."""

from __future__ import annotations

import threading

import pytest

from edgetrain.core.errors import PushRejected
from edgetrain.repo.ledger import Ledger, Machine

pytestmark = pytest.mark.needs("git>=2.34")

FACT = {"experiments/x/runs/0123456789ab-1.json": b'{"a":1}\n'}


def ledger(checkout, **options) -> Ledger:
    machine = Machine("edgetrain st-anna", "edgetrain@st-anna.example")
    return Ledger(checkout.git, "main", machine, **{"sleep": lambda s: None, **options})


def status(checkout) -> str:
    return checkout.sh("status", "--porcelain", "--untracked-files=all")


def subjects(git, ref="main") -> list[str]:
    return [c.subject for c in git.commits("--no-patch", ref)]


def test_clones_race_and_all_facts_arrive_once(make, remote):
    clones = [make("one", remote), make("two", remote), make("three", remote)]
    each = 4
    start = threading.Barrier(len(clones))
    failures: list[BaseException] = []

    def write(number: int) -> None:
        mine = ledger(clones[number], tries=50)
        try:
            start.wait(30)
            for n in range(each):
                mine.commit({f"experiments/x/runs/{number:012x}-{n}.json": b"{}"}, f"Record {number}-{n}")
                mine.commit({"experiments/x/runs/shared.json": b"{}"}, "Shared")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(len(clones))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    found = subjects(type(clones[0])(remote).git)
    want = ["first", "Shared", *(f"Record {k}-{n}" for k in range(len(clones)) for n in range(each))]
    assert sorted(found) == sorted(want)


def test_threads_of_one_checkout_do_not_interleave(make):
    checkout = make()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            ledger(checkout).commit({f"experiments/x/runs/{number:012x}-1.json": b"{}"}, f"Record {number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    assert sorted(subjects(checkout.git)) == sorted(["first", *(f"Record {n}" for n in range(8))])
    assert status(checkout) == ""


def test_a_remote_that_always_moves_on_ends_in_push_rejected(make, remote):
    checkout, other = make("one", remote), make("two", remote)
    pauses: list[float] = []

    def step(name: str) -> None:
        if name == "push":
            other.commit("again")
            other.sh("push", "--quiet", "origin", "main")

    with pytest.raises(PushRejected) as caught:
        ledger(checkout, step=step, sleep=pauses.append, tries=3).commit(FACT, "Record")
    assert caught.value.fix
    assert len(pauses) == 2


def test_another_command_moves_the_branch_meanwhile(make):
    checkout = make()
    moved = []

    def step(name: str) -> None:
        if name == "branch" and not moved:
            moved.append(checkout.sh("commit-tree", "-p", "main", "-m", "foreign", "main^{tree}"))
            checkout.sh("update-ref", "refs/heads/main", moved[0])

    sha = ledger(checkout, step=step).commit(FACT, "Record")
    assert checkout.git.commit_info(sha).parents == tuple(moved)
    assert subjects(checkout.git) == ["Record", "foreign", "first"]
    assert status(checkout) == ""
