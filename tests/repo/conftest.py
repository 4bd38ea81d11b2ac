"""Real git repositories in a scratch folder, on a machine with no git settings and no identity."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetrain.repo.git import Git

PERSON = ("Ada", "ada@example.org")


class Checkout:
    """A work tree to play the people in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git = Git(root)

    def sh(self, *args: str, person: tuple[str, str] = PERSON) -> str:
        """Run git as a person would; answer its output."""
        who = ("-c", f"user.name={person[0]}", "-c", f"user.email={person[1]}")
        done = subprocess.run(
            ["git", *who, *args], cwd=self.root, capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n")

    def write(self, path: str, data: str | bytes = "x\n", mode: int = 0o644) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data.encode() if isinstance(data, str) else data)
        target.chmod(mode)
        return target

    def commit(self, message: str = "change", person: tuple[str, str] = PERSON, **files: str) -> str:
        """Commit everything in the work tree; `files` are written first. Answers the commit."""
        for path, data in files.items():
            self.write(path, data)
        self.sh("add", "--all")
        self.sh("commit", "--allow-empty", "--message", message, person=person)
        return self.sh("rev-parse", "HEAD")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Checkout]:
    """`make(name)`: a new repository with one commit; `make(name, source)`: a clone of `source`."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)

    def make(name: str = "site a/check out", source: Path | None = None, *options: str) -> Checkout:
        root = tmp_path / name
        root.parent.mkdir(parents=True, exist_ok=True)
        if source is None:
            subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(root)], check=True)
            checkout = Checkout(root)
            checkout.commit("first", README="hello\n")
        else:
            command = ["git", "clone", "--quiet", *options, "--", source.as_uri(), str(root)]
            subprocess.run(command, check=True)
            checkout = Checkout(root)
        return checkout

    return make


@pytest.fixture
def remote(make: Callable[..., Checkout], tmp_path: Path) -> Path:
    """A bare repository with one commit on main."""
    seed = make("seed")
    bare = tmp_path / "hub.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(seed.root), str(bare)], check=True)
    subprocess.run(["git", "remote", "remove", "origin"], cwd=bare, check=True)
    return bare


@pytest.fixture
def ssh_key(tmp_path: Path) -> Callable[[str], tuple[Path, str]]:
    """`ssh_key(name)`: a new key's private file and its public line."""

    def key(name: str) -> tuple[Path, str]:
        path = tmp_path / f"key of {name}"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True)
        return path, path.with_name(path.name + ".pub").read_text("utf-8").strip()

    return key
