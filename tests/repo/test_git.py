"""git.py: it works in odd places, and fails in words that help and hold no secret."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.core.errors import RepositoryError
from edgetrain.repo.command import environment, execute, without_credentials
from edgetrain.repo.git import Git, check_branch

pytestmark = pytest.mark.needs("git>=2.34")


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(RepositoryError) as caught:
        call()
    return caught.value.reason


def test_finds_the_top_from_below_and_from_a_linked_work_tree(make, tmp_path):
    checkout = make()
    below = checkout.write("a/b/c.txt").parent
    assert Git.find(below).root == checkout.root
    linked = tmp_path / "linked tree"
    checkout.sh("worktree", "add", "--quiet", "--detach", str(linked))
    found = Git.find(linked)
    assert found.root == linked
    assert found.common_dir == checkout.root / ".git"
    assert found.head() == checkout.git.head()


def test_finds_a_bare_repository(make, remote):
    assert Git.find(remote).tip("main") == Git.find(remote).resolve("main")


def test_outside_a_repository(make, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", "/")  # one of those that must not count
    assert reason(lambda: Git.find(tmp_path)) == "NotARepository"
    assert reason(lambda: Git.find(tmp_path / "absent")) == "NotARepository"


def test_the_environment_does_not_lead_elsewhere(make, monkeypatch):
    checkout = make()
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.bare")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    monkeypatch.setenv("GIT_SSL_CAINFO", "/site/ca.pem")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert Git.find(checkout.root).text("ls-files") == "README"
    found = environment()
    assert found["LC_ALL"] == "C" and found["GIT_TERMINAL_PROMPT"] == "0"
    assert found["GIT_SSL_CAINFO"] == "/site/ca.pem"
    assert "GIT_DIR" not in found


def test_detached_head_no_remote_and_missing_branches(make):
    checkout = make()
    first = checkout.git.head()
    checkout.sh("checkout", "--quiet", "--detach")
    second = checkout.commit("second")
    assert checkout.git.head() == second
    assert checkout.git.tip("main") == first
    assert not checkout.git.has_remote()
    assert reason(lambda: checkout.git.tip("release")) == "BranchMissing"
    assert reason(lambda: checkout.git.resolve("--output=/tmp/x")) == "CommitMissing"


@pytest.mark.parametrize("setting", [(), ("branch.main.remote", "origin"), ("remote.origin.prune", "true")])
def test_settings_tell_of_the_remote_what_git_says(make, setting):
    checkout = make()
    if setting:
        checkout.sh("config", *setting)
    asked = checkout.git.has_remote()
    checkout.git.learn(checkout.git.run("config", "--list", "-z"))
    checkout.sh("remote", "remove" if asked else "add", "origin", *([] if asked else ["elsewhere"]))
    assert (checkout.git.has_remote(), Git(checkout.root).has_remote()) == (asked, not asked)


def test_the_tip_is_origins(make, remote):
    one, two = make("one", remote), make("two", remote)
    first = one.git.tip("main")
    two.commit("from two")
    two.sh("push", "--quiet", "origin", "main")
    assert one.git.tip("main", refresh=False) == first
    assert one.git.tip("main") == two.git.head()
    assert one.git.head() == first
    assert reason(lambda: one.git.tip("release")) == "BranchMissing"


def test_a_remote_that_is_not_there(make, remote):
    checkout = make("one", remote)
    remote.rename(remote.with_name("gone.git"))
    assert reason(lambda: checkout.git.fetch("main")) == "RemoteUnreachable"


def test_no_credentials_in_messages(make):
    checkout = make()
    checkout.sh("remote", "add", "origin", "http://ada:hunter2@127.0.0.1:1/x.git")
    with pytest.raises(RepositoryError) as caught:
        checkout.git.fetch("main")
    assert "hunter2" not in caught.value.message
    assert caught.value.reason == "RemoteUnreachable" and caught.value.fix
    text = without_credentials("fatal: https://ghp_abc@host/x and ssh://u:p@ss@h/\x1b[31m")
    assert text == "fatal: https://host/x and ssh://h/\\x1b[31m"


def test_merge_base_and_shallow(make, remote):
    full = make("full", remote)
    for n in range(3):
        full.commit(f"c{n}")
    full.sh("push", "--quiet", "origin", "main")
    base = full.git.head()
    full.sh("checkout", "--quiet", "-b", "side")
    side = full.commit("side")
    full.sh("checkout", "--quiet", "main")
    main = full.commit("main")
    assert full.git.merge_base(side, main) == base
    assert full.git.is_ancestor(base, side) and not full.git.is_ancestor(side, main)
    assert not full.git.is_shallow() and full.git.boundary() == frozenset()
    cut = make("cut", remote, "--depth=1")
    assert cut.git.is_shallow()
    assert cut.git.boundary() == {cut.git.head()}
    full.sh("checkout", "--quiet", "--orphan", "island")
    assert full.git.merge_base(full.commit("island"), main) is None


def test_commit_facts(make):
    checkout = make()
    checkout.write("b", "b")
    body = "Why.\n\nApproved-by: Bo <bo@example.org>\napproved-by: Cy\n  and folded\nPull-Request: #7"
    sha = checkout.commit(f"Ünïcode | subject\n\n{body}")
    found = checkout.git.commit_info(sha)
    assert found.subject == "Ünïcode | subject"
    assert found.body.startswith("Why.")
    assert (found.author.name, found.author.email) == ("Ada", "ada@example.org")
    assert str(found.committer) == "Ada <ada@example.org>"
    assert found.author.time.endswith("Z") and len(found.author.time) == 20
    assert found.trailer("Approved-By") == ("Bo <bo@example.org>", "Cy and folded")
    assert found.trailers["Pull-Request"] == ("#7",)
    assert found.parents == (checkout.git.resolve("HEAD^"),)
    assert found.tree == checkout.sh("rev-parse", "HEAD^{tree}")


def test_a_forged_time_breaks_nothing(make):
    checkout = make()
    raw = checkout.git.run("cat-file", "commit", "HEAD").decode()
    head, _, rest = raw.partition("author Ada <ada@example.org> ")
    forged = f"{head}author Ada <ada@example.org> 99999999999999999999 +0000\n{rest.partition(chr(10))[2]}"
    sha = checkout.git.run("hash-object", "-t", "commit", "--literally", "-w", "--stdin", input=forged.encode())
    assert checkout.git.commit_info(sha.decode().strip()).author.time == "1970-01-01T00:00:00Z"


def test_replacement_refs_do_not_rewrite_history(make):
    checkout = make()
    honest = checkout.git.head()
    checkout.commit("other", README="forged\n")
    checkout.sh("replace", honest, "HEAD")
    assert checkout.sh("show", f"{honest}:README") == "forged"
    assert checkout.git.show(honest, "README") == b"hello\n"


def test_objects_over_one_process(make):
    checkout = make()
    small, large = os.urandom(10), os.urandom(300_000)
    checkout.write("small", small)
    checkout.write("large", large)
    checkout.commit()
    ids = {name: checkout.sh("rev-parse", f"HEAD:{name}") for name in ("small", "large")}
    with checkout.git.objects() as objects:
        assert objects.read(ids["large"]) == large
        assert reason(lambda: objects.read(ids["large"], 1000)) == "FileTooLarge"
        assert reason(lambda: objects.read("0" * 40)) == "ObjectMissing"
        assert reason(lambda: objects.read("HEAD:small\n")) == "ObjectMissing"
        assert objects.read(ids["small"]) == small

    assert objects.closed


def test_a_sink_that_fails_leaves_no_half_answer(make):
    checkout = make()
    checkout.write("large", os.urandom(300_000))
    checkout.commit()
    blob = checkout.sh("rev-parse", "HEAD:large")

    def full(piece: bytes) -> None:
        raise OSError("disk full")

    with checkout.git.objects() as objects:
        with pytest.raises(OSError, match="disk full"):
            objects.copy(blob, full)
        assert reason(lambda: objects.read(blob)) == "GitFailed"


def test_show(make):
    checkout = make()
    checkout.write("a b/ü.txt", b"\xff")
    sha = checkout.commit()
    assert checkout.git.show(sha, "a b/ü.txt") == b"\xff"
    assert checkout.git.show(sha, "a b") is None
    assert checkout.git.show(sha, "absent") is None
    assert reason(lambda: checkout.git.show(sha, "README", limit=2)) == "FileTooLarge"


def test_time_and_output_are_bounded(make):
    checkout = make()
    for_ever = ("-c", "alias.wait=!sleep 60 & wait", "wait")
    assert reason(lambda: execute(checkout.root, for_ever, timeout=0.3)) == "GitTimeout"
    without_end = ("-c", "alias.talk=!yes", "talk")
    assert reason(lambda: execute(checkout.root, without_end, limit=1000)) == "OutputTooLarge"


def test_git_stopped_in_the_middle_takes_its_locks_with_it(make, tmp_path, monkeypatch):
    from edgetrain.repo import command

    checkout = make()
    started = tmp_path / "started"
    # The index is locked while the filter runs, and the filter runs until it is stopped.
    checkout.sh("config", "filter.slow.clean", f"touch '{started}'; sleep 600")
    checkout.write(".gitattributes", "*.slow filter=slow\n")
    checkout.write("a.slow", "x")

    def interrupted(*args: object) -> None:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert (checkout.root / ".git/index.lock").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute(checkout.root, ("add", "--all"))
    assert not (checkout.root / ".git/index.lock").exists()


def test_hooks_and_monitors_of_the_checkout_do_not_run(make, tmp_path):
    checkout = make()
    told = tmp_path / "told"
    hook = checkout.write(".git/hooks/reference-transaction", f"#!/bin/sh\ntouch '{told}'\n", 0o755)
    checkout.sh("config", "core.fsmonitor", str(hook))
    checkout.git.run("update-ref", "refs/heads/x", checkout.git.head())
    checkout.git.run("ls-files", "-o")
    assert not told.exists()
    checkout.sh("update-ref", "refs/heads/y", "HEAD")
    assert told.exists()


@pytest.mark.parametrize(
    "name",
    ["-x", "a..b", "a//b", "/a", "a/", "a b", "a~1", "a.lock", "a.", ".a", "a/.b", "a@{1", "x\n", "", "a*", "@"],
)
def test_unsafe_branch_names(name):
    assert reason(lambda: check_branch(name)) == "BadBranchName"


def test_branch_names_that_are_safe_are_gits_too(make):
    for name in ("main", "edgetrain/proposal/cxr-1", "a.b+c@d_e/9"):
        assert check_branch(name) == name
        make(f"x/{name}").sh("check-ref-format", "--branch", name)


def test_the_lock_keeps_others_out_and_lets_its_holder_in_again(make):
    checkout = make()
    with checkout.git.lock(), Git(checkout.root).lock():
        code = (
            "import sys; from pathlib import Path; from edgetrain.repo.git import Git\n"
            "with Git(Path(sys.argv[1])).lock(timeout=0.1): pass"
        )
        other = subprocess.run(
            [sys.executable, "-c", code, str(checkout.root)], capture_output=True, text=True, check=False
        )
    assert other.returncode != 0 and "another edgetrain command" in other.stderr
    with Git(checkout.root).lock(timeout=0.1):
        pass


def test_works_without_git(make, monkeypatch, tmp_path):
    from edgetrain.repo import command

    monkeypatch.setenv("PATH", str(tmp_path))
    command.require_git.cache_clear()
    try:
        assert reason(lambda: Git.find(tmp_path)) == "GitMissing"
    finally:
        command.require_git.cache_clear()


def test_too_old_a_git(make, monkeypatch, tmp_path):
    from edgetrain.repo import command

    old: Path = tmp_path / "bin" / "git"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho git version 2.30.2\n", "utf-8")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent))
    command.require_git.cache_clear()
    try:
        assert reason(lambda: Git.find(tmp_path)) == "GitTooOld"
    finally:
        command.require_git.cache_clear()
