"""ledger.py: a fact is committed once, whatever else goes on, and nobody's work is lost."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.core.errors import PushRejected, RepositoryError
from edgetrain.repo.ledger import Ledger, Machine, RecordExists

pytestmark = pytest.mark.needs("git>=2.34")

MACHINE = Machine("edgetrain st-anna", "edgetrain@st-anna.example")
RUN = "experiments/x/runs/0123456789ab-1.json"
FACT = {RUN: b'{"a":1}\n'}


class Killed(BaseException):
    """As if by kill -9: nothing may catch it and carry on."""


def kill_at(name: str) -> Callable[[str], None]:
    def step(now: str) -> None:
        if now == name:
            raise Killed(name)

    return step


def ledger(checkout, **options) -> Ledger:
    return Ledger(checkout.git, "main", options.pop("identity", MACHINE), **{"sleep": lambda s: None, **options})


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(RepositoryError) as caught:
        call()
    assert caught.value.fix or caught.value.reason == "BadBranchName"
    return caught.value.reason


def status(checkout) -> str:
    return checkout.sh("status", "--porcelain", "--untracked-files=all")


def subjects(git, ref="main") -> list[str]:
    return [c.subject for c in git.commits("--no-patch", ref)]


# --- without a remote --------------------------------------------------------------------------------


def test_a_fact_becomes_one_commit_and_a_file(make):
    checkout = make()
    before = checkout.git.head()
    trailers = [("Edgetrain-Run", "x-1"), ("Empty", " "), ("Note", "two\nlines")]
    sha = ledger(checkout).commit(FACT, "Record x-1", "Why.\n", trailers)
    found = checkout.git.commit_info(sha)
    assert found.parents == (before,)
    assert found.subject == "Record x-1"
    assert found.trailers == {"Edgetrain-Run": ("x-1",), "Note": ("two lines",)}
    assert (found.author.name, found.committer.email) == (MACHINE.name, MACHINE.email)
    assert checkout.git.tip("main") == sha == checkout.git.head()
    assert (checkout.root / RUN).read_bytes() == FACT[RUN]
    assert status(checkout) == ""


def test_the_same_fact_again_is_no_commit(make):
    checkout = make()
    sha = ledger(checkout).commit(FACT, "Record")
    later = checkout.commit("later")
    assert ledger(checkout).commit(FACT, "Record") == later
    both = {**FACT, "experiments/x/runs/0123456789ab-2.json": b"{}\n"}
    more = ledger(checkout).commit(both, "Record more")
    assert checkout.sh("diff", "--name-only", later, more) == "experiments/x/runs/0123456789ab-2.json"
    assert checkout.git.is_ancestor(sha, more)


@pytest.mark.parametrize("there", ["file", "folder", "link", "parent", "executable-other"])
def test_a_fact_is_never_edited(make, there):
    checkout = make()
    if there == "file":
        checkout.write(RUN, "other")
    elif there == "executable-other":
        checkout.write(RUN, "other", 0o755)
    elif there == "folder":
        checkout.write(RUN + "/below", "x")
    elif there == "link":
        checkout.write("experiments/x/runs/y", "")
        (checkout.root / RUN).symlink_to("y")
    else:
        checkout.write("experiments/x/runs", "a file where a folder is needed")
    before = checkout.commit()
    with pytest.raises(RecordExists):
        ledger(checkout).commit(FACT, "Record")
    assert checkout.git.tip("main") == before
    assert status(checkout) == ""


def test_a_dirty_work_tree_survives(make):
    checkout = make()
    checkout.commit(staged="old", edited="old", deleted="old")
    checkout.write("edited", "mine")
    checkout.write("staged", "mine")
    checkout.write("new staged", "mine")
    checkout.sh("add", "staged", "new staged")
    checkout.write("untracked", "mine")
    (checkout.root / "deleted").unlink()
    before = status(checkout)
    sha = ledger(checkout).commit(FACT, "Record")
    assert status(checkout) == before
    assert (checkout.root / "edited").read_text("utf-8") == "mine"
    assert checkout.git.head() == sha
    assert checkout.sh("show", "--name-only", "--format=", sha) == RUN


def test_a_file_in_the_way_stops_and_stays(make):
    checkout = make()
    before = checkout.git.head()
    checkout.write(RUN, "mine, not committed")
    assert reason(lambda: ledger(checkout).commit(FACT, "Record")) == "WorkTreeInTheWay"
    assert (checkout.root / RUN).read_text("utf-8") == "mine, not committed"
    assert checkout.git.tip("main") == before


def test_a_link_in_the_work_tree_is_not_written_through(make, tmp_path):
    checkout = make()
    outside = tmp_path / "outside"
    outside.mkdir()
    (checkout.root / "experiments").symlink_to(outside)
    assert reason(lambda: ledger(checkout).commit(FACT, "Record")) == "WorkTreeInTheWay"
    assert list(outside.iterdir()) == []


def test_detached_head_and_other_branches_are_left_alone(make):
    checkout = make()
    checkout.sh("checkout", "--quiet", "-b", "topic")
    head = checkout.commit("topic", mine="x")
    sha = ledger(checkout).commit(FACT, "Record")
    assert checkout.git.head() == head
    assert not (checkout.root / RUN).exists()
    checkout.sh("checkout", "--quiet", "--detach", "main")
    ledger(checkout).commit({"experiments/x/runs/0123456789ab-2.json": b"{}"}, "Record")
    assert checkout.git.head() == sha
    assert status(checkout) == ""


def test_a_branch_checked_out_in_another_work_tree_comes_along(make, tmp_path):
    checkout = make()
    checkout.sh("checkout", "--quiet", "-b", "topic")
    linked = tmp_path / "linked tree"
    checkout.sh("worktree", "add", "--quiet", str(linked), "main")
    ledger(checkout).commit(FACT, "Record")
    assert (linked / RUN).read_bytes() == FACT[RUN]
    other = type(checkout)(linked)
    assert status(other) == status(checkout) == ""
    ledger(other).commit({"experiments/x/runs/0123456789ab-2.json": b"{}"}, "Record")
    assert status(other) == ""


@pytest.mark.parametrize("name", ["commit", "worktree", "branch"])
def test_killed_anywhere_it_converges(make, name):
    checkout = make()
    checkout.write("untracked", "mine")
    with pytest.raises(Killed):
        ledger(checkout, step=kill_at(name)).commit(FACT, "Record")
    sha = ledger(checkout).commit(FACT, "Record")
    assert ledger(checkout).commit(FACT, "Record") == sha
    assert subjects(checkout.git) == ["Record", "first"]
    assert status(checkout) == "?? untracked"


def test_killed_while_git_wrote_the_files_it_converges(make):
    checkout = make()
    checkout.write(RUN, FACT[RUN])  # read-tree writes files first, the index last
    ledger(checkout).commit(FACT, "Record")
    assert status(checkout) == ""


def test_odd_places(make, monkeypatch):
    """umask 077, LANG=C, no identity anywhere, hostile variables."""
    import os

    checkout = make("umask 077/a b")
    for name, value in (("LANG", "C"), ("LC_ALL", "C"), ("GIT_INDEX_FILE", "/x"), ("GIT_AUTHOR_NAME", "Eve")):
        monkeypatch.setenv(name, value)
    old = os.umask(0o077)
    try:
        sha = ledger(checkout).commit({"experiments/ü x/runs/a.json": b"{}"}, "Réc\nord")
    finally:
        os.umask(old)
    found = checkout.git.commit_info(sha)
    assert (found.subject, found.author.name) == ("Réc ord", MACHINE.name)


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", ".git/config", "a//b", "a\nb", "", "a/.GIT/b", "a\\b"])
def test_paths_stay_inside(make, path):
    checkout = make()
    with pytest.raises(RepositoryError) as caught:
        ledger(checkout).commit({path: b""}, "Record")
    assert caught.value.reason == "UnsafePath"


def test_pathspec_magic_is_a_plain_name(make):
    checkout = make()
    sha = ledger(checkout).commit({":(top)README*": b"x"}, "Record")
    assert checkout.git.show(sha, ":(top)README*") == b"x"
    assert ledger(checkout).commit({":(top)README*": b"x"}, "Record") == sha
    assert checkout.git.show(sha, "README") == b"hello\n"


@pytest.mark.needs("ssh-keygen")
def test_signed_with_an_ssh_key(make, ssh_key, tmp_path):
    checkout = make()
    key, public = ssh_key("machine")
    me = Machine(MACHINE.name, MACHINE.email, key)
    sha = ledger(checkout, identity=me).commit(FACT, "Record")
    signers = tmp_path / "signers"
    signers.write_text(f"{MACHINE.email} {public}\n", "utf-8")
    checkout.sh("-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", sha)
    lost = Machine(MACHINE.name, MACHINE.email, tmp_path / "absent")
    other = {"experiments/x/runs/0123456789ab-2.json": b"{}"}
    assert reason(lambda: ledger(checkout, identity=lost).commit(other, "Record")) == "SigningFailed"
    assert checkout.git.tip("main") == sha


# --- with a remote -----------------------------------------------------------------------------------


def test_pushed_before_it_returns(make, remote):
    checkout = make("one", remote)
    sha = ledger(checkout).commit(FACT, "Record")
    hub = type(checkout)(remote)
    assert hub.git.tip("main") == sha == checkout.git.tip("main", refresh=False) == checkout.git.head()
    assert status(checkout) == ""


def test_work_of_others_comes_along(make, remote):
    one, two = make("one", remote), make("two", remote)
    two.commit("from two", README="changed\n")
    two.sh("push", "--quiet", "origin", "main")
    one.write("untracked", "mine")
    ledger(one).commit(FACT, "Record")
    assert subjects(one.git) == ["Record", "from two", "first"]
    assert (one.root / "README").read_text("utf-8") == "changed\n"
    assert status(one) == "?? untracked"


def test_edits_that_would_be_lost_leave_the_local_branch_behind(make, remote):
    one, two = make("one", remote), make("two", remote)
    two.commit("from two", README="changed\n")
    two.sh("push", "--quiet", "origin", "main")
    before = one.git.head()
    one.write("README", "mine\n")
    said: list[str] = []
    sha = ledger(one, say=said.append).commit(FACT, "Record")
    assert type(one)(remote).git.tip("main") == sha
    assert one.git.head() == before and (one.root / "README").read_text("utf-8") == "mine\n"
    assert len(said) == 1 and "left behind" in said[0]


def test_local_commits_are_not_pushed_nor_lost(make, remote):
    checkout = make("one", remote)
    mine = checkout.commit("mine, not pushed", mine="x")
    said: list[str] = []
    ledger(checkout, say=said.append).commit(FACT, "Record")
    assert checkout.git.head() == mine
    assert subjects(type(checkout)(remote).git) == ["Record", "first"]
    assert len(said) == 1 and "origin lacks" in said[0]


@pytest.mark.parametrize("name", ["fetch", "commit", "push", "worktree", "branch"])
def test_killed_anywhere_with_a_remote(make, remote, name):
    checkout = make("one", remote)
    with pytest.raises(Killed):
        ledger(checkout, step=kill_at(name)).commit(FACT, "Record")
    sha = ledger(checkout).commit(FACT, "Record")
    assert subjects(type(checkout)(remote).git) == ["Record", "first"]
    assert checkout.git.head() == sha
    assert status(checkout) == ""


def hook(remote: Path, name: str, text: str) -> None:
    path = remote / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + text, "utf-8")
    path.chmod(0o755)


def test_a_hook_that_refuses(make, remote):
    checkout = make("one", remote)
    before = checkout.git.head()
    hook(remote, "pre-receive", "echo 'main is protected; https://bot:s3cret@hub/' >&2\nexit 1\n")
    with pytest.raises(RepositoryError) as caught:
        ledger(checkout).commit(FACT, "Record")
    error = caught.value
    assert error.reason == "RemoteRefused" and not isinstance(error, PushRejected)
    assert "main is protected" in error.message and "s3cret" not in error.message and error.fix
    assert checkout.git.head() == before and status(checkout) == ""


def test_the_same_fact_with_other_bytes_on_the_remote(make, remote):
    one, two = make("one", remote), make("two", remote)
    ledger(two).commit({RUN: b"other"}, "Record")
    with pytest.raises(RecordExists):
        ledger(one).commit(FACT, "Record")


def test_a_remote_that_is_gone(make, remote):
    checkout = make("one", remote)
    remote.rename(remote.with_name("gone"))
    assert reason(lambda: ledger(checkout).commit(FACT, "Record")) == "RemoteUnreachable"


def test_from_a_shallow_clone_and_from_a_detached_one(make, remote):
    full = make("full", remote)
    for n in range(3):
        full.commit(f"c{n}")
    full.sh("push", "--quiet", "origin", "main")
    cut = make("cut", remote, "--depth=1")
    cut.sh("checkout", "--quiet", "--detach")
    cut.sh("branch", "--quiet", "--delete", "--force", "main")
    ledger(cut).commit(FACT, "Record")
    assert subjects(type(cut)(remote).git) == ["Record", "c2", "c1", "c0", "first"]
    assert cut.git.is_shallow()


def test_pushing_does_not_take_settings_of_the_checkout(make, remote):
    checkout = make("one", remote)
    checkout.sh("tag", "--annotate", "--message", "t", "local-tag")
    for key, value in (("push.followTags", "true"), ("push.gpgSign", "false"), ("push.default", "nothing")):
        checkout.sh("config", key, value)
    ledger(checkout).commit(FACT, "Record")
    tags = subprocess.run(["git", "tag"], cwd=remote, capture_output=True, text=True, check=True)
    assert tags.stdout == ""
