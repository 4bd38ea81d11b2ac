"""git over HTTPS, by the real git: who may read, who may push where, and how a refusal is worded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testbed.github import GithubServer
from tests.testbed.github.checkout import Checkout
from tests.testbed.github.conftest import REPOSITORY

pytestmark = pytest.mark.needs("git>=2.34")
WORKFLOW = ".github/workflows/apply.yml"


def test_clones_pushes_and_fetches(server: GithubServer, tmp_path: Path) -> None:
    ada = Checkout(server, tmp_path / "ada", server.user("ada")).clone()
    # Larger than what git sends in one piece, so that it comes in chunks.
    commit = ada.commit("data.bin", os.urandom(3_000_000))
    assert ada.push("HEAD:refs/heads/change", "HEAD:refs/tags/v1").returncode == 0
    assert server.branch(REPOSITORY, "change") == commit
    grace = Checkout(server, tmp_path / "grace", server.user("grace")).clone()
    grace.git("fetch", "--quiet", "origin", "change", "--depth=1")
    assert grace.git("rev-parse", "FETCH_HEAD") == commit
    grace.git("fetch", "--quiet", "origin", commit)
    assert grace.git("ls-remote", grace.remote, "refs/tags/v1").split()[0] == commit
    # So much of its own that git asks in a compressed body.
    for number in range(40):
        grace.git("commit", "--quiet", "--allow-empty", "-m", f"{number}")
    ada.commit("more.txt")
    assert ada.push("HEAD:refs/heads/change").returncode == 0
    grace.git("fetch", "--quiet", "origin", "change")
    assert any(one.headers.get("content-encoding") == "gzip" for one in server.requests)


def test_a_private_repository_is_not_there_for_strangers(server: GithubServer, tmp_path: Path) -> None:
    server.user("mallory")
    for name, token, told in (
        ("nobody", "", "could not read Username"),
        ("stranger", server.user("mallory"), "Repository not found."),
        ("wrong", "ghp_wrong", "could not read Username"),
        ("job", server.job_token(REPOSITORY, {}), "Write access to repository not granted."),
    ):
        done = Checkout(server, tmp_path / name, token).run("ls-remote", server.remote(REPOSITORY))
        assert done.returncode != 0
        assert told in done.stderr
    server.create_repository("hosp/public", private=False, files={"a": "a"})
    public = Checkout(server, tmp_path / "public", repository="hosp/public").clone()
    public.commit("b")
    assert "could not read Username" in public.push("HEAD:main").stderr


def test_reading_is_not_writing(server: GithubServer, tmp_path: Path) -> None:
    server.user("reader", {REPOSITORY: "read"})
    for name, token, told in (
        ("reader", server.user("reader"), "Permission to hosp/models.git denied to reader."),
        ("job", server.job_token(REPOSITORY, {"contents": "read"}), "Write access to repository not granted."),
    ):
        own = Checkout(server, tmp_path / name, token).clone()
        own.commit("a")
        done = own.push("HEAD:refs/heads/change")
        assert told in done.stderr
        assert "error: 403" in done.stderr
    assert server.branch(REPOSITORY, "change") is None


def test_a_protected_branch_takes_pushes_of_the_app_alone(server: GithubServer, tmp_path: Path) -> None:
    app, _ = server.app(repositories=[REPOSITORY])
    server.protect(REPOSITORY, bypass_apps=[app])
    before = server.branch(REPOSITORY)
    ada = Checkout(server, tmp_path / "ada", server.user("ada")).clone()
    ada.commit("a")
    done = ada.push("HEAD:main", "HEAD:refs/heads/other")
    assert "remote: error: GH006: Protected branch update failed for refs/heads/main." in done.stderr
    assert "remote: - Changes must be made through a pull request." in done.stderr
    assert "! [remote rejected] HEAD -> main (protected branch hook declined)" in done.stderr
    # The other ref of the same push is taken.
    assert (server.branch(REPOSITORY), server.branch(REPOSITORY, "other")) == (before, ada.git("rev-parse", "HEAD"))
    assert "Cannot delete this branch" in ada.push("--delete", "main").stderr

    own = Checkout(server, tmp_path / "app", server.installation_token(app, REPOSITORY)).clone()
    commit = own.commit("records/1.json", "{}")
    assert "remote: Bypassed rule violations for refs/heads/main:" in own.push("HEAD:main").stderr
    assert server.branch(REPOSITORY) == commit
    own.git("reset", "--quiet", "--hard", "HEAD^")
    own.commit("records/2.json", "{}")
    assert "[rejected]" in own.push("HEAD:main").stderr
    assert "Cannot force-push to this branch" in own.push("--force", "HEAD:main").stderr
    assert "Cannot delete this branch" in own.push("--delete", "main").stderr
    assert server.branch(REPOSITORY) == commit


def test_a_ruleset_words_it_otherwise(server: GithubServer, tmp_path: Path) -> None:
    app, _ = server.app(repositories=[REPOSITORY])
    server.protect(REPOSITORY, kind="ruleset", bypass_apps=[app])
    ada = Checkout(server, tmp_path / "ada", server.user("ada")).clone()
    ada.commit("a")
    done = ada.push("HEAD:main")
    assert "remote: error: GH013: Repository rule violations found for refs/heads/main." in done.stderr
    assert "remote: - Changes must be made through a pull request." in done.stderr
    assert "(push declined due to repository rule violations)" in done.stderr
    own = Checkout(server, tmp_path / "app", server.installation_token(app, REPOSITORY)).clone()
    own.commit("b")
    assert own.push("HEAD:main").returncode == 0


def test_workflows_are_changed_with_their_own_permission_only(server: GithubServer, tmp_path: Path) -> None:
    app, _ = server.app(repositories=[REPOSITORY])
    narrow = server.user("ada", permissions={"contents": "write"})
    told = (
        f"refusing to allow a GitHub App to create or update workflow `{WORKFLOW}` without `workflows` permission"
    )
    for name, token, expected in (
        ("app", server.installation_token(app, REPOSITORY), told),
        ("job", server.job_token(REPOSITORY, {"contents": "write", "workflows": "write"}), told),
        ("narrow", narrow, "refusing to allow a Personal Access Token to create or update workflow"),
    ):
        own = Checkout(server, tmp_path / name, token).clone()
        own.commit(WORKFLOW, "on: push\n")
        own.commit("later")
        done = own.push(f"HEAD:refs/heads/{name}")
        assert f"! [remote rejected] HEAD -> {name} ({expected}" in done.stderr
    able = Checkout(
        server, tmp_path / "able", server.user("ada", permissions={"contents": "write", "workflows": "write"})
    ).clone()
    able.commit(WORKFLOW, "on: push\n")
    assert able.push("HEAD:refs/heads/able").returncode == 0
    # What is there already may be pushed on by anybody.
    own = Checkout(server, tmp_path / "next", server.installation_token(app, REPOSITORY)).clone()
    own.git("checkout", "--quiet", "able")
    own.commit("more")
    assert own.push("HEAD:refs/heads/next").returncode == 0


def test_pull_requests_keep_in_step_with_pushes(server: GithubServer, tmp_path: Path) -> None:
    ada = Checkout(server, tmp_path / "ada", server.user("ada")).clone()
    ada.git("checkout", "--quiet", "-b", "change")
    ada.commit("a")
    ada.push("change")
    number = server.open_pull(REPOSITORY, "change", by="ada")
    head = ada.commit("b")
    assert ada.push("change").returncode == 0
    base = server.commit(REPOSITORY, "main", {"c.txt": "c"}, by="grace")
    ada.git("fetch", "--quiet", "origin", f"+refs/pull/{number}/*:refs/pull/{number}/*")
    assert ada.git("rev-parse", f"refs/pull/{number}/head") == head
    assert ada.git("log", "-1", "--format=%P", f"refs/pull/{number}/merge") == f"{base} {head}"
    assert set(ada.git("ls-tree", "--name-only", f"refs/pull/{number}/merge").split()) == {
        "README.md",
        "a",
        "b",
        "c.txt",
    }
    assert "deny updating a hidden ref" in ada.push(f"HEAD:refs/pull/{number}/head").stderr

    server.commit(REPOSITORY, "main", {"a": "another"}, by="grace")
    assert server.pull(REPOSITORY, number)["mergeable"] is False
    assert server.pull(REPOSITORY, number)["mergeable_state"] == "dirty"
    ada.git("fetch", "--quiet", "origin", "main")
    ada.git("merge", "--quiet", "-X", "ours", "FETCH_HEAD")
    assert ada.push("change").returncode == 0
    assert server.pull(REPOSITORY, number)["mergeable"] is True
    # Merged by hand: GitHub finds the head in main.
    assert ada.push("change:main").returncode == 0
    pull = server.pull(REPOSITORY, number)
    assert (pull["merged"], pull["merge_commit_sha"]) == (True, server.branch(REPOSITORY))


def test_a_forced_push_and_a_deleted_branch(server: GithubServer, tmp_path: Path) -> None:
    ada = Checkout(server, tmp_path / "ada", server.user("ada")).clone()
    ada.commit("a")
    ada.push("HEAD:refs/heads/change")
    number = server.open_pull(REPOSITORY, "change", by="ada")
    ada.git("commit", "--quiet", "--amend", "-m", "Another")
    assert ada.push("--force", "HEAD:refs/heads/change").returncode == 0
    assert server.events()[-2].payload["forced"] is True
    assert server.pull(REPOSITORY, number)["head"]["sha"] == ada.git("rev-parse", "HEAD")
    assert "refusing to delete the current branch" in ada.push("--delete", "main").stderr
    assert ada.push("--delete", "change").returncode == 0
    pull = server.pull(REPOSITORY, number)
    assert (pull["state"], pull["merged"]) == ("closed", False)
