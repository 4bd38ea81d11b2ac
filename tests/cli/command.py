"""Runs `edgetrain` as people do: in a process of its own, with a known environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.outputs import told

LEFT_OUT = ("NO_COLOR", "EDGETRAIN_DEBUG", "CI", "GITHUB_ACTIONS", "PIP_INDEX_URL")


@dataclass(frozen=True)
class Ended:
    """How a call ended, with what it wrote to each stream."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would change how the command line speaks."""
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    return {**kept, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **more}


def edgetrain(*arguments: str | Path, cwd: Path, **variables: str) -> Ended:
    """Call `edgetrain` with these arguments and variables; what it prints as JSON must be as its schema says."""
    command = [sys.executable, "-m", "edgetrain", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=300, check=False
    )
    told([str(argument) for argument in arguments], done.stdout)
    return Ended(done.returncode, done.stdout, done.stderr)
