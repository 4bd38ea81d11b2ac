"""A repository to work in, with one site and nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import environment

CONFIGURATION = """\
apiVersion: edgetrain/v1
kind: Configuration
metadata: {name: edgetrain}
spec:
  sites:
    here:
      state: STATE
      datastores:
        store: {type: folder, path: DATA}
  allowUnsandboxed: true
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git in the folder; answer its output."""
    identity = ("-c", "user.name=Dana", "-c", "user.email=dana@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkout on main with `edgetrain.yaml` committed; its data and state lie beside it."""
    root = tmp_path / "checkout"
    data = tmp_path / "data"
    root.mkdir()
    data.mkdir()
    configuration = CONFIGURATION.replace("STATE", json.dumps(str(tmp_path / "state")))
    (root / "edgetrain.yaml").write_text(configuration.replace("DATA", json.dumps(str(data))))
    (root / ".gitignore").write_text(".edgetrain/\n__pycache__/\n")
    git(root, "init", "--quiet", "-b", "main", ".")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "Start")
    return root
