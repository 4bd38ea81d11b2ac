"""ledger.py: proposals on the machine's own branches, with a remote and without."""

from __future__ import annotations

import pytest

from edgetrain.core.errors import RepositoryError
from edgetrain.repo.ledger import Ledger, Machine, RecordExists

pytestmark = pytest.mark.needs("git>=2.34")

BRANCH = "edgetrain/proposal/cxr-1"
FILES = {"models/cxr/versions/1.yaml": b"one\n"}
BETTER = {"models/cxr/versions/1.yaml": b"better\n"}


@pytest.fixture(params=["with a remote", "without a remote"])
def checkout(request, make, remote):
    return make("one", remote) if request.param == "with a remote" else make()


def ledger(checkout, **options) -> Ledger:
    identity = Machine("edgetrain", "edgetrain@st-anna.example")
    return Ledger(checkout.git, "main", identity, sleep=lambda s: None, **options)


def where(checkout):
    """The repository in which proposals live."""
    if checkout.git.has_remote():
        return type(checkout)(checkout.root.parent / "hub.git")
    return checkout


def move_main(checkout, message="later"):
    sha = checkout.commit(message)
    if checkout.git.has_remote():
        checkout.sh("push", "--quiet", "origin", "main")
    return sha


def test_one_commit_on_the_tip(checkout):
    tip = move_main(checkout)
    sha = ledger(checkout).propose(BRANCH, FILES, "Propose cxr 1", "Why.", [("Edgetrain-Run", "x-1")])
    found = checkout.git.commit_info(sha)
    assert found.parents == (tip,) and found.trailer("Edgetrain-Run") == ("x-1",)
    assert where(checkout).git.ref(f"refs/heads/{BRANCH}") == sha
    assert checkout.git.show(sha, "models/cxr/versions/1.yaml") == b"one\n"
    assert ledger(checkout).proposal(BRANCH) == sha
    assert checkout.git.tip("main") == tip
    assert checkout.sh("status", "--porcelain") == ""


def test_unchanged_where_it_says_the_same(checkout):
    sha = ledger(checkout).propose(BRANCH, FILES, "Propose")
    move_main(checkout)
    assert ledger(checkout).propose(BRANCH, FILES, "Propose") == sha


def test_replaced_where_it_says_something_else(checkout):
    first = ledger(checkout).propose(BRANCH, FILES, "Propose")
    tip = move_main(checkout)
    second = ledger(checkout).propose(BRANCH, BETTER, "Propose better")
    assert second != first
    assert checkout.git.commit_info(second).parents == (tip,)
    assert where(checkout).git.ref(f"refs/heads/{BRANCH}") == second
    both = {**BETTER, "models/cxr/card.md": b"x"}
    third = ledger(checkout).propose(BRANCH, both, "Propose both")
    fourth = ledger(checkout).propose(BRANCH, BETTER, "Propose better")
    assert checkout.sh("diff", "--name-only", third, fourth) == "models/cxr/card.md"


def test_what_people_add_to_it_stays(checkout):
    ledger(checkout).propose(BRANCH, FILES, "Propose")
    checkout.sh("checkout", "--quiet", BRANCH)
    added = checkout.commit("move the channel", **{"models/cxr/model.yaml": "channels: {production: 1}\n"})
    if checkout.git.has_remote():
        checkout.sh("push", "--quiet", "origin", BRANCH)
    checkout.sh("checkout", "--quiet", "main")
    assert ledger(checkout).propose(BRANCH, FILES, "Propose") == added


def test_what_main_has_already(checkout):
    ledger(checkout).commit(FILES, "Merge by hand")
    tip = checkout.git.tip("main")
    assert ledger(checkout).propose(BRANCH, FILES, "Propose") == tip
    assert ledger(checkout).proposals() == {}
    with pytest.raises(RecordExists):
        ledger(checkout).propose(BRANCH, BETTER, "Propose")
    path = "models/cxr/versions/1.yaml"
    sha = ledger(checkout).propose(BRANCH, BETTER, "Propose", replaces=FILES)
    assert checkout.git.show(sha, path) == b"better\n"


@pytest.mark.parametrize("way", ["commit", "propose"])
def test_what_may_be_replaced_is_what_was_read(checkout, way):
    made = ledger(checkout)

    def write(read: dict[str, bytes]) -> str:
        if way == "commit":
            return made.commit(BETTER, "Replace", replaces=read)
        return made.propose(BRANCH, BETTER, "Replace", replaces=read)

    made.commit(FILES, "First")
    tip = checkout.git.tip("main")
    with pytest.raises(RepositoryError) as caught:
        write(dict.fromkeys(FILES, b"of yesterday\n"))
    assert caught.value.reason == "ChangedMeanwhile"
    assert (checkout.git.tip("main"), made.proposals()) == (tip, {})
    sha = write(FILES)
    assert [checkout.git.show(sha, path) for path in BETTER] == list(BETTER.values())
    assert checkout.git.commit_info(sha).parents == (tip,)
    assert write(FILES) == sha, "once"


def test_listing_and_withdrawing(checkout):
    mine = ledger(checkout)
    one = mine.propose("edgetrain/proposal/cxr-1", FILES, "Propose")
    two = mine.propose("edgetrain/proposal/cxr-x-2", BETTER, "Propose")
    three = mine.propose("edgetrain/data/cxr-1", BETTER, "Propose")
    checkout.sh("branch", "topic")
    assert mine.proposals("edgetrain/proposal/") == {
        "edgetrain/proposal/cxr-1": one,
        "edgetrain/proposal/cxr-x-2": two,
    }
    assert mine.proposals("edgetrain/proposal/cxr-x-") == {"edgetrain/proposal/cxr-x-2": two}
    assert mine.proposals()["edgetrain/data/cxr-1"] == three
    assert mine.proposal("edgetrain/proposal/cxr") is None
    mine.withdraw("edgetrain/proposal/cxr-1")
    mine.withdraw("edgetrain/proposal/cxr-1")
    assert sorted(mine.proposals()) == ["edgetrain/data/cxr-1", "edgetrain/proposal/cxr-x-2"]
    assert where(checkout).git.ref("refs/heads/edgetrain/proposal/cxr-1") is None


def test_only_the_machines_branches(checkout):
    for name in ("main", "topic", "edgetrain", "edgetrain/", "edgetrain/../x", "edgetrain/*", "-edgetrain/x"):
        for call in (
            lambda name=name: ledger(checkout).propose(name, FILES, "Propose"),
            lambda name=name: ledger(checkout).withdraw(name),
        ):
            with pytest.raises(RepositoryError) as caught:
                call()
            assert caught.value.reason == "BadBranchName"
    with pytest.raises(RepositoryError):
        ledger(checkout).proposals("")


@pytest.mark.parametrize("name", ["commit", "push", "branch"])
def test_killed_anywhere_it_converges(checkout, name):
    def step(now: str) -> None:
        if now == name:
            raise KeyboardInterrupt(name)

    happens = name == "commit" or (name == "push") == checkout.git.has_remote()
    if happens:
        with pytest.raises(KeyboardInterrupt):
            ledger(checkout, step=step).propose(BRANCH, FILES, "Propose")
    sha = ledger(checkout).propose(BRANCH, FILES, "Propose")
    assert ledger(checkout).proposals() == {BRANCH: sha}
    assert checkout.git.commit_info(sha).parents == (checkout.git.tip("main"),)


def test_someone_pushes_to_the_proposal_meanwhile(make, remote):
    one, two = make("one", remote), make("two", remote)
    ledger(one).propose(BRANCH, FILES, "Propose")
    pushed: list[str] = []

    def step(name: str) -> None:
        if name == "push" and not pushed:
            two.sh("fetch", "--quiet")
            two.sh("checkout", "--quiet", BRANCH)
            pushed.append(two.commit("by a person", **BETTER_TEXT))
            two.sh("push", "--quiet", "origin", BRANCH)

    found = ledger(one, step=step).propose(BRANCH, BETTER, "Propose better")
    assert found == pushed[0]  # seen on the second look: it already says the same


BETTER_TEXT = {path: data.decode() for path, data in BETTER.items()}


def test_a_checked_out_proposal_comes_along_but_is_not_deleted(make):
    checkout = make()
    mine = ledger(checkout)
    mine.propose(BRANCH, FILES, "Propose")
    checkout.sh("checkout", "--quiet", BRANCH)
    checkout.write("untracked", "mine")
    mine.propose(BRANCH, BETTER, "Propose better")
    assert (checkout.root / "models/cxr/versions/1.yaml").read_bytes() == b"better\n"
    assert checkout.sh("status", "--porcelain") == "?? untracked"
    with pytest.raises(RepositoryError) as caught:
        mine.withdraw(BRANCH)
    assert caught.value.reason == "BranchInUse"
    assert mine.proposal(BRANCH)
