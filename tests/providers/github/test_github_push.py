"""What git can do by the settings of a push: real git over https, and a protected branch."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from edgetrain.repo.command import environment, settings_environment
from testbed.github import GithubServer

from .hub import NAME, Site
from .scripted import APP, Reply, Scripted, forge_at

pytestmark = pytest.mark.needs("git>=2.34")


@pytest.fixture
def site() -> Iterator[Site]:
    with GithubServer() as server:
        yield Site(server)


def git(folder: Path, *args: str, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Git with nothing of this machine's own settings."""
    bare = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": str(folder)}
    who = {
        f"GIT_{role}_{key}": "edgetrain@hosp.example"
        for role in ("AUTHOR", "COMMITTER")
        for key in ("NAME", "EMAIL")
    }
    whole = environment({**bare, **who, **settings_environment(settings or {})})
    return subprocess.run(["git", *args], cwd=folder, env=whole, check=False, capture_output=True, text=True)


def change(folder: Path, file: str) -> None:
    """One commit more."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("{}\n")
    assert git(folder, "add", "-A").returncode == 0
    assert git(folder, "commit", "-q", "-m", "Record a run").returncode == 0


@pytest.fixture
def clone(site: Site, tmp_path: Path) -> Path:
    done = git(tmp_path, "clone", "-q", site.server.remote(NAME), "clone", settings=site.forge().push_settings())
    assert done.returncode == 0, done.stderr
    return tmp_path / "clone"


def test_records_pass_the_protection_by_the_apps_token_alone(site: Site, clone: Path) -> None:
    change(clone, "experiments/cxr/runs/a-1.json")
    ada = site.by_token(site.server.user("ada", {NAME: "write"}))
    assert "GH013" in git(clone, "push", "origin", "HEAD:main", settings=ada.push_settings()).stderr
    assert git(clone, "push", "origin", "HEAD:main").returncode != 0
    done = git(clone, "push", "origin", "HEAD:main", settings=site.forge().push_settings())
    assert done.returncode == 0, done.stderr
    assert site.server.branch(NAME) == git(clone, "rev-parse", "HEAD").stdout.strip()


def test_no_workflow_can_be_pushed_even_by_an_app_that_may(tmp_path: Path) -> None:
    with GithubServer() as server:
        site = Site(server, {"contents": "write", "metadata": "read", "workflows": "write"})
        settings = site.forge().push_settings()
        git(tmp_path, "clone", "-q", server.remote(NAME), "clone", settings=settings)
        change(tmp_path / "clone", ".github/workflows/apply.yml")
        done = git(tmp_path / "clone", "push", "origin", "HEAD:main", settings=settings)
        assert done.returncode != 0
        assert "workflow" in done.stderr


def test_another_repository_is_out_of_reach(site: Site, clone: Path) -> None:
    site.server.create_repository("hosp/other", files={"README.md": "# Other"})
    site.server.install(site.app, [NAME, "hosp/other"])
    done = git(clone, "ls-remote", site.server.remote("hosp/other"), settings=site.forge().push_settings())
    assert done.returncode != 0


def test_a_redirect_takes_the_token_nowhere(tmp_path: Path) -> None:
    with Scripted() as elsewhere, Scripted() as server:
        away = f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/hosp/models.git/info/refs"
        server.rule = lambda one: Reply(302, headers={"Location": away}) if "info/refs" in one.path else None
        settings = forge_at(server.url, block={**APP, "server": server.url}).push_settings()
        done = git(tmp_path, "ls-remote", f"{server.url}/hosp/models.git", settings=settings)
        assert done.returncode != 0
        (asked,) = server.asked("info/refs")
        assert asked.headers["authorization"].startswith("basic ")
        assert elsewhere.requests == []


def test_a_token_that_ended_is_no_more_and_the_next_is(site: Site, clone: Path) -> None:
    forge = site.forge()
    settings = forge.push_settings()
    assert git(clone, "fetch", "-q", settings=settings).returncode == 0
    assert forge.diagnose()
    site.server.expire_tokens()
    assert git(clone, "fetch", "-q", settings=settings).returncode != 0
    assert git(clone, "fetch", "-q", settings=forge.push_settings()).returncode == 0
    assert forge.pull_requests_of(site.server.branch(NAME) or "") == ()


def test_the_token_is_in_no_file_of_the_checkout(site: Site, clone: Path) -> None:
    settings = site.forge().push_settings()
    assert git(clone, "fetch", "-q", settings=settings).returncode == 0
    token = next(value for key, value in settings.items() if key.endswith("extraheader")).rpartition(" ")[2]
    files = [one for one in clone.rglob("*") if one.is_file()]
    assert files
    assert not [one for one in files if token.encode() in one.read_bytes()]
