"""Runs of real scripts on the local target."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from edgetrain.core.ports import RunSpec, RunState
from tests.contract.compute import settle, spec
from tests.contract.local_target import LocalTarget


def script(target: LocalTarget, folder: Path, source: str, **changes: Any) -> RunSpec:
    """A run of this Python source."""
    made = spec(folder, target.python, **{"command": "python train.py", **changes})
    (made.code / "train.py").write_text(textwrap.dedent(source))
    return made


def play(target: LocalTarget, folder: Path, source: str, **changes: Any) -> tuple[RunState, list[str]]:
    """Run this Python source to its end: how it ended, and its log."""
    made = script(target, folder, source, **changes)
    compute = target.connect()
    compute.start(made)
    state = settle(compute, made.id)
    return state, list(compute.logs(made.id))
