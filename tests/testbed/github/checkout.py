"""A clone of a repository of the stand-in, used by the real git."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path

from testbed.github import GithubServer
from tests.testbed.github.conftest import REPOSITORY


class Checkout:
    """git signed in with a token: by a header of its own, as workflows do."""

    def __init__(self, server: GithubServer, folder: Path, token: str = "", repository: str = REPOSITORY) -> None:
        self.server, self.folder, self.token = server, folder, token
        self.remote = server.remote(repository)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """git in the folder."""
        settings = {"user.name": "Ada", "user.email": "ada@hosp.example"}
        if self.token:
            secret = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
            settings["http.extraheader"] = f"AUTHORIZATION: basic {secret}"
        env = {
            **os.environ,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSL_CAINFO": str(self.server.ca),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "LC_ALL": "C",
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for number, (name, value) in enumerate(settings.items()):
            env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        self.folder.mkdir(exist_ok=True)
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False)

    def git(self, *arguments: str) -> str:
        """What it says; it must succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def clone(self) -> Checkout:
        """Get it."""
        self.git("clone", "--quiet", self.remote, ".")
        return self

    def commit(self, path: str, content: str | bytes = "text\n", message: str = "Change") -> str:
        """Commit a file; the commit."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", path)
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Push to the remote."""
        return self.run("push", self.remote, *arguments)
