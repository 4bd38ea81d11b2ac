"""Fetches a commit as actions/checkout does: by the job's token, which stays in no file unless it is asked to."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path

SHA = re.compile(r"[0-9a-f]{40}")


def main() -> None:
    """Fetch into the folder, whatever was in it before."""
    wanted, server = os.environ["REPOSITORY"], os.environ["GITHUB_SERVER_URL"]
    ref = os.environ["REF"]
    own = wanted == os.environ["GITHUB_REPOSITORY"]
    if not ref and own:
        ref, commit = os.environ["GITHUB_REF"], os.environ["GITHUB_SHA"]
    else:
        commit = ref if SHA.fullmatch(ref) else ""
        ref = "" if commit else ref
    folder = Path(os.environ["GITHUB_WORKSPACE"], os.environ["FOLDER"])
    for old in folder.iterdir() if folder.is_dir() else ():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    git = Git(folder, f"{server}/{wanted}")
    git("init", "--quiet", "--initial-branch=main", ".")
    git("remote", "add", "origin", git.url)
    if not ref and not commit:
        ref = git("ls-remote", "--symref", "origin", "HEAD").split()[1]
    if ref and not ref.startswith("refs/"):
        ref = f"refs/heads/{ref}"
    local = ref.replace("refs/heads/", "refs/remotes/origin/").replace("refs/pull/", "refs/remotes/pull/")
    source = commit or ref
    specs = [f"+{source}:{local}" if local else source]
    depth = os.environ["DEPTH"]
    if depth == "0":
        specs = ["+refs/heads/*:refs/remotes/origin/*", *([] if "/origin/" in local else specs)]
    how = ["--no-tags", "--quiet", *([] if depth == "0" else [f"--depth={depth}"])]
    git("fetch", *how, "origin", *specs)
    if ref.startswith("refs/heads/"):
        git("checkout", "--quiet", "--force", "-B", ref.removeprefix("refs/heads/"), commit or local)
    else:
        git("checkout", "--quiet", "--force", commit or local)
    if os.environ["KEEP"] == "true":
        git("config", *git.credential)
    print(git("log", "-1", "--format=%H %s").strip())


class Git:
    """git in a folder, signed in at the server."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        basic = base64.b64encode(f"x-access-token:{os.environ['TOKEN']}".encode()).decode()
        server = "/".join(url.split("/")[:3])
        self.credential = (f"http.{server}/.extraheader", f"AUTHORIZATION: basic {basic}")
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "TOKEN"},
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": self.credential[0],
            "GIT_CONFIG_VALUE_0": self.credential[1],
        }

    def __call__(self, *arguments: str) -> str:
        """What it answers."""
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout


if __name__ == "__main__":
    main()
