"""The local compute target, as tests see it from outside."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgetrain.providers.local.prepare import this_python
from edgetrain.providers.local.provider import LocalCompute, default_program


def without_program() -> None:
    """A machine that has no bubblewrap."""
    return


class LocalTarget:
    """A local target over a state folder; `sandbox` False is a machine without bubblewrap that may do without."""

    python = this_python()
    image = None

    def __init__(self, state: Path, *, sandbox: bool = True, **capacity: int) -> None:
        self.state = state
        self.sandbox = sandbox
        self.capacity = capacity
        self.grace = 30.0

    def connect(self) -> LocalCompute:
        """A new instance that serves the same target."""
        return LocalCompute(
            name="here",
            state=self.state,
            allow_unsandboxed=not self.sandbox,
            capacity=self.capacity,
            bwrap=default_program if self.sandbox else without_program,
            grace=self.grace,
        )

    def folder(self, run_id: str) -> Path:
        """Where the run lies."""
        return self.state / "runs" / run_id

    def crash(self, run_id: str) -> None:
        """Kill the supervisor's whole process group, as a reboot or a hard stop of a service would."""
        found = json.loads((self.folder(run_id) / "started").read_text())
        os.killpg(found["pid"], signal.SIGKILL)

    def alive(self, run_id: str) -> bool:
        """Whether any process has this run's environment."""
        spec: dict[str, Any] = json.loads((self.folder(run_id) / "spec.json").read_text())
        mark = f"EDGETRAIN_PARAMS={spec['env']['EDGETRAIN_PARAMS']}".encode()
        return any(mark in environment for environment in _environments())


def _environments() -> Iterator[bytes]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "environ").read_bytes()
            except OSError:  # gone meanwhile, or another user's
                continue
